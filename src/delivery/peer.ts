/** What delivery needs of the KME at the other end of a link. */
import type { KeyIdBytes } from "../domain/block.ts";
import type { ConfiguredId, KmeId } from "../domain/ids.ts";
import type { StockAnswer, StockQuestion } from "../domain/stock_agreement.ts";
import type {
  TakeBackAnswer,
  TakeBackRequest,
  Transaction,
  TransactionAnswer,
} from "../domain/transaction.ts";

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

/**
 * What a peer understands: transactions of this program, or only the message of `qkd_kme_server`: whole blocks, one slave,
 * nothing can be taken back.
 */
export type PeerAbility =
  | {
    readonly kind: "transactions";
    /** Whether it answers questions about its stock, see `stock_agreement.ts`. */
    readonly comparesStock: boolean;
  }
  | { readonly kind: "blocks" }
  | { readonly kind: "unreached"; readonly reason: string };

export interface Peer {
  readonly kme: KmeId;
  /** Learnt once, then remembered. */
  ability(): Promise<PeerAbility>;
  /** The message of `qkd_kme_server`. */
  activate(request: PeerRequest): Promise<PeerAnswer>;
  send(transaction: Transaction): Promise<TransactionAnswer>;
  takeBack(request: TakeBackRequest): Promise<TakeBackAnswer>;
  /** @returns `undefined` when it does not answer, or not as it should. */
  askStock(question: StockQuestion): Promise<StockAnswer | undefined>;
}
