/** Cuts the keys of a QKD device into blocks, and says what is wrong with them. */
import { type Block, BLOCK_BITS, BLOCK_BYTES, blockKeyId } from "../domain/block.ts";
import type { HealthAction } from "./ingestion_options.ts";
import { KeyHealth } from "./key_health.ts";

/** Blocks of a key of so many bits. A rest of fewer than 256 bits is not used. */
export function blocksPerKey(keySize: number): number {
  return Math.floor(keySize / BLOCK_BITS);
}

/** The blocks of a key, in order. */
export function blocksOf(bits: Uint8Array): Block[] {
  return Array.from({ length: Math.floor(bits.length / BLOCK_BYTES) }, (_, i) => {
    const part = bits.slice(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES);
    return { id: blockKeyId(part), bits: part };
  });
}

/** Why the blocks together do not look random, as those of a key file. */
export function healthProblemOf(blocks: readonly Block[], health: HealthAction): string | undefined {
  if (health === "off" || blocks.length === 0) return undefined;
  const test = new KeyHealth(blocks.length * BLOCK_BYTES);
  for (const { bits } of blocks) test.update(bits);
  return test.problem;
}
