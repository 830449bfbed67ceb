/** What becomes of requests, for whoever counts it. */

/** Why a request was refused, in one word for a label. */
export type RefusalReason =
  /** Wrong in itself. */
  | "invalid"
  /** Not allowed to the caller. */
  | "unauthorized"
  /** Too few blocks in stock. */
  | "out_of_keys"
  /** A peer does not answer or does not agree. */
  | "peer"
  /** The database failed or was too busy. */
  | "database"
  /** Wrong by HTTP: no such resource, method, size or type. */
  | "http"
  /** A mistake of the program. */
  | "internal";

/** Told of each request that is answered with an error status, after the answer is made. */
export interface RequestObserver {
  refused(status: number, reason: RefusalReason): void;
}
