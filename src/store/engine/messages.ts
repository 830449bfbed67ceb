/** What passes between the thread of the program and that of the database. */
import type { ConfiguredId, KmeId } from "../../domain/ids.ts";
import { StoreUnavailable } from "../../domain/store_errors.ts";
import type { Link } from "../../domain/link.ts";
import type { Packed } from "./packing.ts";

/** To the database's thread. */
export type Request =
  | { readonly kind: "open"; readonly options: OpenRequest }
  /** Packed {@linkcode Calls}. */
  | Packed
  /** After the answers to all calls. */
  | { readonly kind: "close" };

export interface OpenRequest {
  /** Of the file, or `:memory:`. */
  readonly path: string;
  readonly thisKme: ConfiguredId;
  readonly neighbours: readonly ConfiguredId[];
  readonly processId: Uint8Array;
}

/** Everything that was asked in one turn. */
export interface Calls {
  /** Milliseconds since 1970; absent: the clock of the system. */
  readonly now?: number;
  readonly calls: readonly Call[];
}

/** A number by which it is answered, what is to be done, and with what. */
export type Call = readonly [id: number, operationOrQuery: string, item: unknown];

/** From the database's thread. */
export type Reply =
  /** The module is loaded. */
  | { readonly kind: "loaded" }
  | {
    readonly kind: "opened";
    readonly links: ReadonlyMap<KmeId, Link>;
    readonly stock: ReadonlyMap<number, number>;
  }
  /** One clear line why the database cannot be used. */
  | { readonly kind: "unusable"; readonly reason: string }
  /** Packed {@linkcode Answers}. */
  | Packed
  | { readonly kind: "closed" };

/** Everything that one commit settled. */
export interface Answers {
  /** Free blocks by the link's row, after it. */
  readonly stock: readonly (readonly [linkId: number, free: number])[];
  /** The result is absent where it is `undefined`. */
  readonly results: readonly (readonly [id: number, result?: unknown])[];
  /** By the place of the error in {@linkcode errors}. */
  readonly rejected?: readonly (readonly [id: number, error: number])[];
  readonly errors?: readonly SentError[];
  /** What the database failed with, once per failed transaction. */
  readonly failures?: readonly SentError[];
}

/** What is left of an error on its way: nothing of statements and parameters. */
export interface SentError {
  readonly name: string;
  readonly message: string;
  readonly code?: string;
  readonly cause?: SentError;
  /** It was no error but a text. */
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
