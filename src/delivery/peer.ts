/** What delivery needs of the KME at the other end of a link. */
import type { ToldDirection } from "../domain/device_direction.ts";
import type { KeyIdBytes } from "../domain/block.ts";
import type { ConfiguredId, KmeId } from "../domain/ids.ts";
import type { StockAnswer, StockQuestion } from "../domain/stock_questions.ts";
import type {
  TakeBackAnswer,
  TakeBackRequest,
  Transaction,
  TransactionAnswer,
} from "../domain/transaction.ts";

/** Keys of the master, to be activated for the slave at the peer. */
export interface PeerRequest {
  /** Distinct. */
  readonly keyIds: readonly KeyIdBytes[];
  /** The master SAE, of this KME. */
  readonly origin: ConfiguredId;
  /** The slave SAE, of the peer. */
  readonly remote: ConfiguredId;
}

/** What became of the key_IDs of a request; each is in exactly one list. */
export interface PeerAnswer {
  readonly activated: readonly KeyIdBytes[];
  /** The peer does not have the block free (`Cannot activate key`). */
  readonly refused: readonly KeyIdBytes[];
  /** Certainly not activated: never sent, peer not reached, or message rejected as a whole (status below 500). */
  readonly untouched: readonly KeyIdBytes[];
  /** May or may not be activated: no answer, or a failure of the peer (status 500 and above). */
  readonly unknown: readonly KeyIdBytes[];
  /** Why keys are untouched or unknown; shown to the SAE, so without addresses. */
  readonly reason?: string;
}

/**
 * Which messages a peer understands. `transactions`: those of this program. `blocks`: only the message of
 * `qkd_kme_server`, with whole blocks for one slave, which cannot be taken back.
 */
export type PeerAbility =
  | {
    readonly kind: "transactions";
    /** Whether it answers questions about its stock, see `stock_agreement.ts`. */
    readonly comparesStock: boolean;
    /** Whether it fetches keys from a QKD device that this KME names. */
    readonly sharesDeviceKeys: boolean;
    /** Which end requests keys from its QKD device, as it told last; absent: it does not tell. */
    readonly deviceDirection?: ToldDirection;
  }
  | { readonly kind: "blocks" }
  | { readonly kind: "unreached"; readonly reason: string };

export interface Peer {
  readonly kme: KmeId;
  /** Asked for once, then remembered. */
  ability(): Promise<PeerAbility>;
  /** The message of `qkd_kme_server`. */
  activate(request: PeerRequest): Promise<PeerAnswer>;
  send(transaction: Transaction): Promise<TransactionAnswer>;
  takeBack(request: TakeBackRequest): Promise<TakeBackAnswer>;
  /** @returns `undefined` when it does not answer, or not as it should. */
  askStock(question: StockQuestion): Promise<StockAnswer | undefined>;
}
