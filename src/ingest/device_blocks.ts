/** What the keys of a QKD device give in blocks, and what is wrong with these. */
import { type Block, BLOCK_BITS, BLOCK_BYTES } from "../domain/block.ts";
import type { HealthAction } from "./ingestion_options.ts";
import { KeyHealth } from "./key_health.ts";

/** Blocks that a key of so many bits gives. A rest of fewer than 256 bits is not used. */
export function blocksFromKey(keySize: number): number {
  return Math.floor(keySize / BLOCK_BITS);
}

/** Why the blocks together do not look random, as those of a key file. */
export function healthProblemOf(blocks: readonly Block[], health: HealthAction): string | undefined {
  if (health === "off" || blocks.length === 0) return undefined;
  const test = new KeyHealth(blocks.length * BLOCK_BYTES);
  for (const { bits } of blocks) test.update(bits);
  return test.problem;
}
