/** Outcomes of requests, for metrics, log and console. */
import type { SaeId } from "../domain/ids.ts";
import type { ConnectedClient } from "../x509/client_identity.ts";

/** Why a request was refused; a label of the metrics. */
export type RefusalReason =
  /** The request itself is invalid. */
  | "invalid"
  /** The caller is not allowed to do this. */
  | "unauthorized"
  /** Too few blocks in stock. */
  | "out_of_keys"
  /** A peer does not answer or does not agree. */
  | "peer"
  /** The database failed or was too busy. */
  | "database"
  /** A limit that is configured for the SAE. */
  | "limit"
  /** The audit log cannot be written. */
  | "audit"
  /** An HTTP error: unknown path, wrong method, body size or type. */
  | "http"
  /** An error of the program. */
  | "internal";

export interface RefusedRequest {
  /** The HTTP status code. */
  readonly status: number;
  readonly reason: RefusalReason;
  /** Like `SAE 1`, `KME 2` or `unknown client CN=x`. */
  readonly caller: string;
  readonly client: ConnectedClient;
  /** Method and path without parameters, like `GET /api/v1/keys/3/enc_keys`. */
  readonly request: string;
  /** The message that the caller got. */
  readonly message: string;
}

/** Called for each request that is answered with an error, when the answer is ready. */
export interface RequestObserver {
  refused(request: RefusedRequest): void;
}

/** Requests whose duration is measured. */
export type Operation = "enc_keys" | "dec_keys";

/** Called for every request of an SAE: an implementation must not wait or throw. */
export interface SaeRequestObserver extends RequestObserver {
  /**
   * An SAE sent a request.
   *
   * @param certificateEnd milliseconds since 1970 at which its certificate, or one of its CAs, expires.
   */
  seen(sae: SaeId, certificateEnd: number): void;
  /** Keys were delivered. `milliseconds` is from the complete request to the answer. */
  answered(operation: Operation, milliseconds: number): void;
}

/** Characters of a path or message in a report: enough to recognize it. */
const MAX_TEXT = 200;

/** Method and path of a request, cut to a length that a log can hold. */
export function describeRequest(method: string, path: string): string {
  return cut(`${method} ${path}`);
}

export function cut(text: string): string {
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text;
}
