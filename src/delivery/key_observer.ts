/** What happens to keys, for counting. */
import type { KeyIdBytes } from "../domain/block.ts";
import type { KmeId, SaeId } from "../domain/ids.ts";
import type { Limit } from "../domain/refusals.ts";

/** Called within every request: an implementation counts, and neither waits nor throws. */
export interface KeyObserver {
  /** A master SAE of this KME requested keys that are made of blocks of the link with `kme`. */
  requested(kme: KmeId): void;
  /** A master SAE of this KME got keys; `kme` is the KME of the request's (first) slave. */
  delivered(kme: KmeId, keys: number): void;
  /** Slave SAEs of this KME may fetch keys that a master SAE of another KME got. */
  activated(origin: KmeId, keys: number): void;
  /** A slave SAE of this KME fetched keys. */
  collected(keys: number): void;
  /** A slave SAE of this KME fetched keys again: their answer was repeated. */
  repeated(keys: number): void;
  /** Keys expired that a slave had not fetched. */
  expired(keys: readonly KeyIdBytes[]): void;
  /** A neighbour refused blocks that were offered for keys. `files`: those that the blocks came from, most blocks first. */
  blocksRefused(kme: KmeId, blocks: number, files: readonly string[]): void;
  /** A request of a master SAE was refused because of a limit. */
  limited(sae: SaeId, limit: Limit): void;
  /** Blocks were burnt. */
  burnt(reason: BurnReason, blocks: number): void;
}

/**
 * `unresolved`: a peer may have used them;
 * `refused`: a peer does not have them.
 */
export type BurnReason = "unresolved" | "refused";

/** Ignores everything. */
export const noopObserver: KeyObserver = {
  requested() {},
  delivered() {},
  activated() {},
  collected() {},
  repeated() {},
  expired() {},
  blocksRefused() {},
  limited() {},
  burnt() {},
};
