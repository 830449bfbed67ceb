/** What happens to keys, for counting. */
import type { KmeId } from "../domain/ids.ts";

/** Called within every request: an implementation counts, and neither waits nor throws. */
export interface KeyObserver {
  /** A master SAE here requested keys that are made of blocks of the link with `kme`. */
  requested(kme: KmeId): void;
  /** A master SAE here got keys; `kme` is that of the request's (first) slave. */
  delivered(kme: KmeId, keys: number): void;
  /** Slave SAEs here may fetch keys that the master of another KME got. */
  activated(origin: KmeId, keys: number): void;
  /** A slave SAE here fetched keys. */
  collected(keys: number): void;
  /** Keys expired that a slave had not fetched. */
  expired(keys: number): void;
  /** Blocks left the pools without becoming part of a key. */
  burnt(reason: BurnReason, blocks: number): void;
}

/**
 * `unresolved`: it is not known whether a peer has used them;
 * `refused`: a peer does not have them.
 */
export type BurnReason = "unresolved" | "refused";

/** Ignores everything. */
export const noopObserver: KeyObserver = {
  requested() {},
  delivered() {},
  activated() {},
  collected() {},
  expired() {},
  burnt() {},
};
