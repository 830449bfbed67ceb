/** What differs between the databases. */
import {
  type ColumnDataType,
  type ColumnDefinitionBuilder,
  type Dialect,
  type Expression,
  type InsertQueryBuilder,
  type RawBuilder,
  type SelectQueryBuilder,
  sql,
} from "kysely";

/** How the store treats an error of the database. */
export type Failure =
  /** A deadlock or serialization failure: the same transaction may succeed now. */
  | "again"
  /** The connection is lost, or the database does not answer, is full or locked. */
  | "unavailable"
  /** The statement is at fault. */
  | "fault";

/**
 * Transactions side by side on a server; reads use the rest of the pool. Two, so that requests go on while a key file is ingested.
 * With more, each would serve fewer of the requests that wait, at the same cost.
 */
export const SERVER_LANES = 2;

export interface StoreDialect {
  readonly name: string;
  /** Has a time limit of a few seconds for each statement if the database is a server. */
  readonly kysely: Dialect;
  /** A separate connection for statements that may take long; absent if {@linkcode kysely} has no time limit. */
  readonly unbounded?: () => Dialect;
  /** Whether an interrupted migration is rolled back completely. */
  readonly transactionalDdl: boolean;
  /** Whether only one process can have the database open: leases and reservations of others are then abandoned. */
  readonly exclusive: boolean;
  /** The system clock of the database's host in milliseconds since 1970; absent where that is this host. */
  readonly wallClock?: RawBuilder<number>;
  /** Maximum transactions at the same time. */
  readonly lanes: number;
  /** Column type of exactly `length` bytes. */
  bytes(length: number): ColumnDataType | Expression<unknown>;
  /** Column type of up to `length` bytes. */
  varbytes(length: number): ColumnDataType | Expression<unknown>;
  /** Column type of an id or a name: up to 291 characters, compared byte by byte. */
  readonly text: ColumnDataType | Expression<unknown>;
  /** Column type of a text of up to some megabytes. */
  readonly longText: ColumnDataType | Expression<unknown>;
  /** Type of an auto-increment column, and the clause that makes it one. */
  readonly sequence: {
    type: ColumnDataType;
    define(column: ColumnDefinitionBuilder): ColumnDefinitionBuilder;
  };
  /** Whether an index can be limited to some rows. */
  readonly partialIndexes: boolean;
  /** Whether a statement can read a list of numbers from one parameter, with `json_each`. */
  readonly readsJson: boolean;
  /** Whether a statement can read lists of any type from one parameter each, and rows of a table from JSON. */
  readonly readsArrays: boolean;
  /** Appended to `create table`, like an engine. */
  readonly tableSuffix?: string;
  /** Appended to `create table` of a table whose only access is by primary key. */
  readonly keyedTableSuffix?: string;
  /**
   * Skips rows that exist already. MySQL also skips rows whose foreign key does not exist, so this is not for rows where that
   * can happen.
   */
  // deno-lint-ignore no-explicit-any
  insertIgnoring<Q extends InsertQueryBuilder<any, any, any>>(query: Q): Q;
  /** Locks the selected rows for this transaction; skips rows that another one has locked. */
  // deno-lint-ignore no-explicit-any
  skipLocked<Q extends SelectQueryBuilder<any, any, any>>(query: Q): Q;
  /** Locks the selected rows for this transaction; waits for others. */
  // deno-lint-ignore no-explicit-any
  forUpdate<Q extends SelectQueryBuilder<any, any, any>>(query: Q): Q;
  /** Deletes the rows with these primary keys, without locking or waiting for other rows. */
  deleteByKey(table: string, key: string, values: readonly unknown[]): RawBuilder<unknown>;
  /**
   * Locks the rows of `blocks` with these numbers, in this order, without locking or waiting for other rows. Absent if no other
   * transaction can have a lock.
   */
  lockBlocks?(seqs: readonly number[]): RawBuilder<unknown>;
  /**
   * Work that comes up with changes but that no answer has to wait for; never throws. Absent if there is none.
   *
   * @param isQuiet whether no work is expected at once: then less is left for later.
   */
  tidy?(isQuiet: boolean): void;
  classify(error: unknown): Failure;
}

/** That deletion, for databases that always find these rows by their primary key. */
export function deleteByKey(table: string, key: string, values: readonly unknown[]): RawBuilder<unknown> {
  return sql`delete from ${sql.table(table)} where ${sql.ref(key)} in (${sql.join(values)})`;
}
