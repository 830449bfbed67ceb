/** What delivery needs of the KME at the other end of a link. */
import type { KeyIdBytes } from "../model/block.ts";
import type { ConfiguredId } from "../model/ids.ts";

export interface PeerRequest {
  readonly keyIds: readonly KeyIdBytes[];
  readonly origin: ConfiguredId;
  readonly remote: ConfiguredId;
}

/** What became of each key_ID of a request; each is in one list. */
export interface PeerAnswer {
  readonly activated: readonly KeyIdBytes[];
  /** The peer does not have the block free. */
  readonly refused: readonly KeyIdBytes[];
  /** Certainly not activated. */
  readonly untouched: readonly KeyIdBytes[];
  /** Nobody knows. */
  readonly unknown: readonly KeyIdBytes[];
  /** Why keys are untouched or unknown, in words for the SAE and the log. */
  readonly reason?: string;
}

export interface Peer {
  activate(request: PeerRequest): Promise<PeerAnswer>;
}
