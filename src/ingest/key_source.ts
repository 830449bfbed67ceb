/**
 * What a source of keys is: where blocks of one link come from. `link_ingestion.ts` is the source for key files in a directory.
 * docs/architecture.md says how to add another one.
 */
import type { KmeId } from "../domain/ids.ts";

/** Brings blocks of one link into the store. Both ends of the link have a source that brings the same blocks. */
export interface KeySource {
  /** The KME with which the blocks are shared; this KME's own id for keys between its own SAEs. */
  readonly link: KmeId;
  /** Resolves when what was there at the start is in the store, or cannot be. Never rejects. */
  readonly started: Promise<void>;
  /**
   * Runs until {@linkcode stop}; resolves when nothing is left open. Never rejects: what is wrong with the source is logged,
   * reported and tried again.
   */
  run(): Promise<void>;
  /** Makes {@linkcode run} end after the transaction under way. */
  stop(): void;
  /** Blocks of the link were used: if it was full, there is room again. Cheap, may be called often. */
  roomMade(): void;
}
