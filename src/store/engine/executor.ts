/** Carries out the store's work on an open database, in this thread or in a separate one. */
import type { Kysely } from "kysely";
import type { KmeId } from "../../domain/ids.ts";
import type { Link } from "../../domain/link.ts";
import type { DatabaseTime } from "../store_clock.ts";
import type { BitsCipher } from "../encryption/bits_cipher.ts";
import type { Schema } from "../table_schema.ts";
import type { Operation } from "../work.ts";

/** One kind of query; it changes nothing. */
export interface Query<Item, Result> {
  readonly name: string;
  run(db: Kysely<Schema>, item: Item, cipher: BitsCipher): Promise<Result>;
}

/** A requested change. Items and results are plain: objects, arrays, strings, numbers, booleans, `null` and bytes. */
export interface Call {
  readonly operation: Operation<unknown, unknown>;
  readonly item: unknown;
}

export type Outcome = { readonly result: unknown } | { readonly error: unknown };

export interface Executor {
  /** Identifies the database: 16 bytes. */
  readonly databaseId: Uint8Array;
  /** The time of the database when it was opened. */
  readonly openedAt: DatabaseTime;
  /** Links by the KME at the other end, including this KME's own pool. */
  readonly links: ReadonlyMap<KmeId, Link>;
  /** Free blocks by the link's row after the last batch; empty if other processes change them too. */
  readonly stock: ReadonlyMap<number, number>;
  /** Whether bits are encrypted. */
  readonly encrypts: boolean;
  /** Whether its work blocks this thread. */
  readonly blocking: boolean;
  /** Resolves with the reason when the database is lost for good; no call is answered then. */
  readonly failed: Promise<string>;
  /** Batches at the same time. */
  readonly lanes: number;
  /** Whether a batch may hang; its callers then have a time limit. */
  readonly mayHang: boolean;
  /**
   * Carries out a batch in one transaction. The outcomes are in the order of the calls, and durable.
   *
   * @returns never rejects; an error is a StoreUnavailable or says why the call cannot be carried out.
   */
  run(batch: readonly Call[], lane: number): Promise<readonly Outcome[]>;
  /** @throws StoreUnavailable when the database failed. */
  read<Item, Result>(query: Query<Item, Result>, item: Item): Promise<Result>;
  /** Closes the database; no batch is under way. */
  close(): Promise<void>;
  /** Stops at once, while a batch hangs. */
  terminate(): void;
}
