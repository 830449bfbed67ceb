/** What differs between the databases, and nothing else. */
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
  /** The connection or the database is gone, full or locked. */
  | "unavailable"
  /** The statement is at fault. */
  | "fault";

export interface StoreDialect {
  readonly name: string;
  /** Gives up on statements after a few seconds, where the database is a server. */
  readonly kysely: Dialect;
  /** A connection of its own for statements that may take long; absent where {@linkcode kysely} has no limits. */
  readonly unbounded?: () => Dialect;
  /** Whether a migration that breaks off leaves nothing behind. */
  readonly transactionalDdl: boolean;
  /** True where no other process can have the database open: whatever another one left is abandoned. */
  readonly exclusive: boolean;
  /** The system clock of the database's host in milliseconds since 1970; absent where that is this host. */
  readonly wallClock?: RawBuilder<number>;
  /** Transactions side by side. */
  readonly lanes: number;
  /** Column type of exactly `length` bytes. */
  bytes(length: number): ColumnDataType | Expression<unknown>;
  /** Column type of up to `length` bytes. */
  varbytes(length: number): ColumnDataType | Expression<unknown>;
  /** Column type of an id or a name: up to 255 characters, compared byte by byte. */
  readonly text: ColumnDataType | Expression<unknown>;
  /** Type of a numbering column, and what makes the database number it. */
  readonly sequence: {
    type: ColumnDataType;
    define(column: ColumnDefinitionBuilder): ColumnDefinitionBuilder;
  };
  /** Whether an index can be limited to some rows. */
  readonly partialIndexes: boolean;
  /** Appended to `create table`, like an engine. */
  readonly tableSuffix?: string;
  /** Appended to `create table` of a table whose only access is by primary key. */
  readonly keyedTableSuffix?: string;
  /**
   * Rows of the statement that are there already are left out. MySQL also leaves out rows whose foreign key leads nowhere: not
   * for rows of which that can be.
   */
  // deno-lint-ignore no-explicit-any
  insertIgnoring<Q extends InsertQueryBuilder<any, any, any>>(query: Q): Q;
  /** Locks the selected rows for this transaction, leaving out rows that another one holds. */
  // deno-lint-ignore no-explicit-any
  skipLocked<Q extends SelectQueryBuilder<any, any, any>>(query: Q): Q;
  /** Locks the selected rows for this transaction, waiting for others. */
  // deno-lint-ignore no-explicit-any
  forUpdate<Q extends SelectQueryBuilder<any, any, any>>(query: Q): Q;
  /** Deletes the rows with these values of the table's primary key; no other row of it is locked, or waited for. */
  deleteByKey(table: string, key: string, values: readonly unknown[]): RawBuilder<unknown>;
  /**
   * Locks the rows of `blocks` with these numbers, in their order; no other row is locked, or waited for. Absent where nobody else
   * can have a lock.
   */
  lockBlocks?(seqs: readonly number[]): RawBuilder<unknown>;
  classify(error: unknown): Failure;
}

/** The statement that does it where rows are always found by their primary key. */
export function deleteByKey(table: string, key: string, values: readonly unknown[]): RawBuilder<unknown> {
  return sql`delete from ${sql.table(table)} where ${sql.ref(key)} in (${sql.join(values)})`;
}
