/** Bytes as the database drivers take them, and as keys of a map. */
import { Buffer } from "node:buffer";

/** A Buffer on the same memory: every driver binds it as a binary value. */
export function buffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * Byte strings of `length` bytes each, one after the other, in memory of their own.
 *
 * @throws RangeError when one of them has another length.
 */
export function joinBytes(parts: readonly Uint8Array[], length: number): Buffer {
  const joined = Buffer.alloc(parts.length * length);
  parts.forEach((part, i) => {
    if (part.length !== length) throw new RangeError(`${part.length} bytes instead of ${length}`);
    joined.set(part, i * length);
  });
  return joined;
}

/** A string that is equal for equal bytes, and sorts as they do. */
export function mapKey(bytes: Uint8Array): string {
  return bytes.toHex();
}

/** The bytes of such strings, one after the other. */
export function fromMapKeys(keys: readonly string[]): Buffer {
  return buffer(Uint8Array.fromHex(keys.join("")));
}

/** Overwrites bits that are not needed any more: their memory may be in use for other things much later. */
export function overwrite(items: Iterable<{ readonly bits: Uint8Array }>): void {
  for (const { bits } of items) bits.fill(0);
}

/** Whether two byte strings are equal; not for secrets. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
