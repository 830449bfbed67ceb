/** What carries out the store's work: a database that is open, in this thread or in one of its own. */
import type { Kysely } from "kysely";
import type { KmeId } from "../../domain/ids.ts";
import type { Link } from "../../domain/link.ts";
import type { DatabaseTime } from "../store_clock.ts";
import type { Schema } from "../table_schema.ts";
import type { Operation } from "../work.ts";

/** One kind of question: it changes nothing. */
export interface Query<Item, Result> {
  readonly name: string;
  run(db: Kysely<Schema>, item: Item): Promise<Result>;
}

/** A change that is asked for. Items and results are plain: objects, arrays, strings, numbers, booleans, `null` and bytes. */
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
  /** By the KME at the other end; this KME's own pool is among them. */
  readonly links: ReadonlyMap<KmeId, Link>;
  /** Free blocks by the link's row as of the last outcome; empty where other processes change them too. */
  readonly stock: ReadonlyMap<number, number>;
  /** Whether its work blocks everything else in this thread. */
  readonly blocking: boolean;
  /** Resolves, with why, when the database is lost for good: nothing is answered any more. */
  readonly failed: Promise<string>;
  /** Batches at the same time. */
  readonly lanes: number;
  /** Whether a batch may never end: then its callers are not kept waiting for it. */
  readonly mayHang: boolean;
  /**
   * Carries out a batch in one transaction; the outcomes, in order, are durable.
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
