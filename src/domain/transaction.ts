/** Transactions: keys that several KMEs agree on. Either all of them have the keys or none. */
import type { KeyIdBytes } from "./block.ts";
import type { KmeId, SaeId } from "./ids.ts";

/** SAEs of one KME that are to get the keys. */
export interface Recipients {
  readonly kme: KmeId;
  readonly saes: readonly SaeId[];
}

/** A key in a message from one KME to its neighbour. */
export interface TransactionKey {
  readonly id: KeyIdBytes;
  /** In bits, a multiple of 8. */
  readonly size: number;
  /** Blocks of the link between the two, in order. */
  readonly blocks: readonly KeyIdBytes[];
  /** The key encrypted with the one-time pad of the blocks. Absent if the blocks are the key; then no bits are sent. */
  readonly padded?: Uint8Array;
}

export interface Transaction {
  readonly id: KeyIdBytes;
  /** The master SAE. */
  readonly origin: SaeId;
  readonly keys: readonly TransactionKey[];
  /** SAEs of the neighbour, and of KMEs that it passes the keys on to. */
  readonly recipients: readonly Recipients[];
}

export type TransactionAnswer =
  | { readonly kind: "activated" }
  /** The neighbour does not have these blocks free. It changed nothing. */
  | {
    readonly kind: "refused";
    readonly blocks: readonly KeyIdBytes[];
    /** The blocks of these that it has not stored yet. */
    readonly absent: readonly KeyIdBytes[];
  }
  /** The neighbour changed nothing, and will not. */
  | {
    readonly kind: "rejected";
    readonly reason: string;
    /** The reason is that the master has reached this limit. */
    readonly limit?: "max_waiting_keys";
  }
  /** The message did not reach the neighbour. */
  | { readonly kind: "unreached"; readonly reason: string }
  /** The neighbour, or a KME behind it, may have the keys: the transaction has to be taken back. */
  | { readonly kind: "unknown"; readonly reason: string };

export interface TakeBackRequest {
  readonly transaction: KeyIdBytes;
  readonly recipients: readonly Recipients[];
  /** Blocks of the link that the transaction named. */
  readonly blocks: readonly KeyIdBytes[];
  /** Whether the blocks may be used for other keys; otherwise the neighbour burns them too. */
  readonly reuse: boolean;
}

export type TakeBackAnswer =
  /** Neither the neighbour nor a KME behind it has the keys, or will get them. */
  | { readonly kind: "unknown" }
  /** They had the keys, which are removed; `free` are the blocks that the neighbour has put back into the pool. */
  | { readonly kind: "takenBack"; readonly free: readonly KeyIdBytes[] }
  /** A slave has read a key. */
  | { readonly kind: "read" }
  /** Not known yet: ask again later. */
  | { readonly kind: "unresolved"; readonly reason: string };

/** What is recorded of an answer. */
export function outcomeOf(answer: TransactionAnswer | TakeBackAnswer): { outcome: string; reason?: string } {
  return { outcome: answer.kind, reason: "reason" in answer ? answer.reason : undefined };
}
