/** A transaction: keys that several KMEs agree on, or none of them has them. */
import type { KeyIdBytes } from "./block.ts";
import type { KmeId, SaeId } from "./ids.ts";

/** SAEs that are to get the keys, by their KME. */
export interface Recipients {
  readonly kme: KmeId;
  readonly saes: readonly SaeId[];
}

/** A key as one KME tells its neighbour about it. */
export interface TransactionKey {
  readonly id: KeyIdBytes;
  /** In bits, a multiple of 8. */
  readonly size: number;
  /** Blocks of the link between the two, in order. */
  readonly blocks: readonly KeyIdBytes[];
  /** The key under the one-time pad of the blocks; absent: the blocks are the key, nothing of it is on the wire. */
  readonly padded?: Uint8Array;
}

export interface Transaction {
  readonly id: KeyIdBytes;
  /** The master SAE. */
  readonly origin: SaeId;
  readonly keys: readonly TransactionKey[];
  /** Where the keys are for, at the neighbour and beyond. */
  readonly recipients: readonly Recipients[];
}

export type TransactionAnswer =
  | { readonly kind: "activated" }
  /** Blocks that the neighbour does not have free; it did nothing. */
  | {
    readonly kind: "refused";
    readonly blocks: readonly KeyIdBytes[];
    /** Those of them that it has not stored yet. */
    readonly absent: readonly KeyIdBytes[];
  }
  /** It did nothing and will not. */
  | { readonly kind: "rejected"; readonly reason: string }
  /** The message did not reach it. */
  | { readonly kind: "unreached"; readonly reason: string }
  /** It may have the keys, or others beyond it: the transaction has to be taken back. */
  | { readonly kind: "unknown"; readonly reason: string };

export interface TakeBackRequest {
  readonly transaction: KeyIdBytes;
  readonly recipients: readonly Recipients[];
  /** Blocks of the link that the transaction was about. */
  readonly blocks: readonly KeyIdBytes[];
  /** Whether they may be used for other keys; otherwise the neighbour burns them too. */
  readonly reuse: boolean;
}

export type TakeBackAnswer =
  /** Neither the neighbour nor anyone beyond has the keys, or will. */
  | { readonly kind: "unknown" }
  /** They had them; `free` are the blocks that the neighbour has put back into the pool. */
  | { readonly kind: "takenBack"; readonly free: readonly KeyIdBytes[] }
  /** A slave has read a key. */
  | { readonly kind: "read" }
  /** To be asked again later. */
  | { readonly kind: "unresolved"; readonly reason: string };
