/** Messages between the thread of the program and that of the database. */
import type { ConfiguredId, KmeId } from "../../domain/ids.ts";
import type { Link } from "../../domain/link.ts";
import { StoreUnavailable } from "../../domain/store_errors.ts";
import type { DamagedBits } from "../damaged_bits.ts";
import type { DatabaseTime } from "../store_clock.ts";
import type { Packed } from "./packing.ts";

/** To the database's thread. */
export type Request =
  | { readonly kind: "open"; readonly options: OpenRequest }
  /** A packed {@linkcode Batch} or {@linkcode Read}. */
  | Packed
  /** After the answer to the last batch. */
  | { readonly kind: "close" };

export interface OpenRequest {
  /** Of the file, or `:memory:`. */
  readonly path: string;
  readonly thisKme: ConfiguredId;
  readonly neighbours: readonly ConfiguredId[];
  readonly processId: Uint8Array;
  readonly masterKey?: Uint8Array | "discard";
}

/** Changes for one transaction; one batch at a time. */
export interface Batch {
  /** Milliseconds since 1970. */
  readonly now: number;
  /** The name of the operation and its item. */
  readonly batch: readonly (readonly [operation: string, item: unknown])[];
}

/** A query; its answer has the same number. */
export interface Read {
  readonly read: number;
  readonly query: string;
  readonly item: unknown;
}

/** From the database's thread. */
export type Reply =
  /** The module is loaded. */
  | { readonly kind: "loaded" }
  | {
    readonly kind: "opened";
    readonly databaseId: Uint8Array;
    readonly openedAt: DatabaseTime;
    readonly links: ReadonlyMap<KmeId, Link>;
    readonly stock: ReadonlyMap<number, number>;
    readonly encrypts: boolean;
  }
  /** One clear line why the database cannot be used. */
  | { readonly kind: "unusable"; readonly reason: string }
  /** A packed {@linkcode BatchAnswer} or {@linkcode ReadAnswer}. */
  | Packed
  | { readonly kind: "closed" };

/** One for each change: its result, absent if it is `undefined`, or the index of its error in {@linkcode BatchAnswer}. */
export type SentOutcome = { readonly result?: unknown } | { readonly error: number };

export interface BatchAnswer {
  readonly outcomes: readonly SentOutcome[];
  readonly errors: readonly SentError[];
  /** Free blocks by the link's row, after the batch. */
  readonly stock: readonly (readonly [linkId: number, free: number])[];
  /** What the transaction has found damaged. */
  readonly damaged: readonly DamagedBits[];
  /** Failures of the database, one per failed transaction. */
  readonly failures: readonly SentError[];
}

export interface ReadAnswer {
  readonly read: number;
  readonly result?: unknown;
  readonly error?: SentError;
  readonly failures: readonly SentError[];
}

/** The part of an error that is sent: no statements and parameters. */
export interface SentError {
  readonly name: string;
  readonly message: string;
  readonly code?: string;
  readonly cause?: SentError;
  /** True if a string was thrown, not an error. */
  readonly text?: true;
}

export function sendError(error: unknown): SentError {
  if (!(error instanceof Error)) return { name: "Error", message: String(error), text: true };
  const { name, message, cause } = error;
  const { code } = error as { code?: unknown };
  return {
    name,
    message,
    code: typeof code === "string" ? code : undefined,
    cause: cause === undefined ? undefined : sendError(cause),
  };
}

export function receiveError({ name, message, code, cause, text }: SentError): unknown {
  if (text) return message;
  const reason = cause && receiveError(cause);
  if (name === "StoreUnavailable") return new StoreUnavailable(reason);
  const error = new Error(message, { cause: reason });
  error.name = name;
  return code === undefined ? error : Object.assign(error, { code });
}
