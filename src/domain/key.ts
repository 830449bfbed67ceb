/** Keys made of blocks. */
import { BLOCK_BITS, type KeyIdBytes } from "./block.ts";

/** Sizes of keys, in bits. A KME can be configured to deliver less. */
export const KeySize = { default: BLOCK_BITS, min: 8, max: 65_536 } as const;

/**
 * Maximum bits of the blocks that the keys of one request take: 2 keys of the largest size, or 512 of the default size. All of
 * them are delivered in one transaction, for which the requests of others wait: it must take much less than 50 ms.
 */
export const MAX_REQUEST_BITS = 2 * KeySize.max;

/** The same in blocks, and so the maximum number of keys in one request. */
export const MAX_REQUEST_BLOCKS = MAX_REQUEST_BITS / BLOCK_BITS;

/** A key with its bits. */
export interface Key {
  readonly id: KeyIdBytes;
  /** `size / 8` bytes. Never logged. */
  readonly bits: Uint8Array;
}

/** Blocks that a key of `size` bits takes. */
export function blocksPerKey(size: number): number {
  return Math.ceil(size / BLOCK_BITS);
}

/**
 * The bits of a key: its blocks in order, cut to `size` bits. What is cut off is never used.
 *
 * @param size in bits, a multiple of 8.
 */
export function composeBits(blocks: readonly { bits: Uint8Array }[], size: number): Uint8Array {
  if (isWholeBlock(size)) return blocks[0]!.bits;
  const bits = new Uint8Array(size / 8);
  let offset = 0;
  for (const block of blocks) {
    const rest = bits.length - offset;
    bits.set(block.bits.length > rest ? block.bits.subarray(0, rest) : block.bits, offset);
    offset += block.bits.length;
  }
  return bits;
}

/** Whether a key is one block as it is, neither cut nor joined. */
export function isWholeBlock(size: number): boolean {
  return size === BLOCK_BITS;
}

/** Random bytes for the next key_IDs: to get many at a time takes much less than 16 for each. */
const random = new Uint8Array(4096);
let used = random.length;

/** First bytes of the key_IDs that are made at about the same time. */
let group = new Uint8Array(4);
let groupEnd = -Infinity;
const GROUP_MS = 5;

/**
 * The key_ID of a new key: a random UUID, version 4 (RFC 9562), so that it says nothing about the key.
 *
 * Those that are made within 5 ms begin alike, with random bytes as well: they are usually stored in one transaction, and next to each
 * other in the index. Otherwise each would change a page of its own. Each has 90 random bits of its own.
 */
export function newKeyId(): KeyIdBytes {
  if (used === random.length) {
    crypto.getRandomValues(random);
    used = 0;
  }
  const id = random.slice(used, used += 16);
  const now = performance.now();
  if (now < groupEnd) id.set(group);
  else {
    group = id.slice(0, group.length);
    groupEnd = now + GROUP_MS;
  }
  id[6] = (id[6]! & 0x0f) | 0x40;
  id[8] = (id[8]! & 0x3f) | 0x80;
  return id;
}

export function newKeyIds(number: number): KeyIdBytes[] {
  const ids: KeyIdBytes[] = [];
  // For one key, `Array.from` with a function takes as long as the key_ID itself.
  while (ids.length < number) ids.push(newKeyId());
  return ids;
}

/** One-time pad: XOR of `bits` and `pad`. `pad` is at least as long, and used for nothing else. */
export function applyPad(bits: Uint8Array, pad: Uint8Array): Uint8Array {
  return bits.map((byte, i) => byte ^ pad[i]!);
}
