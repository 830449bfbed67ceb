/** Bytes as the database drivers take them, and as keys of a map. */
import { Buffer } from "node:buffer";

/** A Buffer on the same memory: every driver binds it as a binary value. */
export function buffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A string that is equal for equal bytes. */
export function mapKey(bytes: Uint8Array): string {
  return bytes.toHex();
}

/** Whether two byte strings are equal; not for secrets. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
