/** The counts of byte values, as {@linkcode ByteCountsTable} has them. */
import type { BitsCipher, StoredBits } from "./bits_cipher.ts";

export const BYTE_COUNTS_BYTES = 2048;

/** A copy of the counts. They begin again if they cannot be decrypted: they are statistics, and no key depends on them. */
export function openByteCounts(cipher: BitsCipher, counts: StoredBits): Uint8Array<ArrayBuffer> {
  const opened = cipher.open("byteCounts", counts);
  return opened?.length === BYTE_COUNTS_BYTES ? Uint8Array.from(opened) : new Uint8Array(BYTE_COUNTS_BYTES);
}
