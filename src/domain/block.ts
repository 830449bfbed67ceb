/** Stored 256-bit blocks and their key_IDs. */
import { sha1 } from "@noble/hashes/legacy.js";

/** Bytes in a stored block. */
export const BLOCK_BYTES = 32;

/** Bits in a stored block. */
export const BLOCK_BITS = 256;

/** The 16 bytes of a key_ID, or of the digest that names a block, in the order of the text. */
export type KeyIdBytes = Uint8Array;

/** One 256-bit piece of shared random key, as a key file holds it. */
export interface Block {
  /** 16 bytes, derived from the bits by {@linkcode blockKeyId}: a name for KMEs, not for SAEs. */
  readonly id: KeyIdBytes;
  /** 32 bytes. Never logged. */
  readonly bits: Uint8Array;
}

// Reused JavaScript hashers: creating one, or calling a native one, takes longer than hashing 32 bytes.
const fresh = sha1.create();
const hasher = sha1.create();
const digest = new Uint8Array(20);

/**
 * The digest by which the KMEs of a link name a block. For `qkd_kme_server` it is also the key_ID of the key that the block
 * becomes; any other key gets a key_ID of its own, see `newKeyId`.
 *
 * @param bits 32 bytes of key.
 * @returns 16 bytes in the order of the UUID's text.
 */
export function blockKeyId(bits: Uint8Array): KeyIdBytes {
  fresh._cloneInto(hasher).update(bits).digestInto(digest);
  // Version 5 and variant of a UUID, then its first three groups in the Rust KME's little-endian order.
  digest[6] = (digest[6]! & 0x0f) | 0x50;
  digest[8] = (digest[8]! & 0x3f) | 0x80;
  const id = digest.slice(0, 16);
  for (let i = 0; i < 4; i++) id[i] = digest[3 - i]!;
  for (let i = 4; i < 8; i++) id[i] = digest[i ^ 1]!;
  return id;
}

/** The blocks of which bytes consist, in order; views of them. A rest that is not a whole block is left out. */
export function blocksOf(bytes: Uint8Array): Block[] {
  const blocks: Block[] = [];
  for (let end = BLOCK_BYTES; end <= bytes.length; end += BLOCK_BYTES) {
    const bits = bytes.subarray(end - BLOCK_BYTES, end);
    blocks.push({ id: blockKeyId(bits), bits });
  }
  return blocks;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** The 16 bytes of a UUID's text in any case, or `undefined` when the text is not a UUID. */
export function parseKeyId(text: string): KeyIdBytes | undefined {
  return UUID.test(text) ? Uint8Array.fromHex(text.replaceAll("-", "")) : undefined;
}

/** Lower-case text of a key_ID's 16 bytes. */
export function formatKeyId(id: KeyIdBytes): string {
  const hex = id.toHex();
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
