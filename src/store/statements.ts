/** Statements on many rows, compiled once for each number of rows: building them takes longer than running them. */
import { Buffer } from "node:buffer";
import {
  CompiledQuery,
  type ExpressionBuilder,
  type InsertObject,
  type RawBuilder,
  sql,
  type SqlBool,
} from "kysely";
import type { KeyIdBytes } from "../domain/block.ts";
import { buffer } from "../domain/bytes.ts";
import { chunks } from "../domain/chunks.ts";
import type { Work } from "./work.ts";
import { BlockState, type Schema } from "./table_schema.ts";

/** Rows in one statement: below every database's limit of parameters, and small, so that texts are reused often. */
export const ROWS = 500;

/** Texts kept, one for each statement and number of rows; the least recently used ones are dropped. */
const MAX_TEXTS = 1000;

/**
 * The condition that blocks are in a state, for those that are selected by key_ID. With `state = 0`, SQLite would read all free
 * blocks of the link by their index instead.
 */
export function isInState(state: number): RawBuilder<SqlBool> {
  return sql<SqlBool>`${sql.ref("state")} + 0 = ${state}`;
}

/**
 * Ids of keys or blocks that one statement for each part locks, in their order: all operations lock in this order, over all
 * parts, so that two transactions do not wait for each other.
 */
export function partsToLock(ids: readonly KeyIdBytes[]): Iterable<KeyIdBytes[]> {
  return chunks(ids.length > ROWS ? ids.toSorted(Buffer.compare) : ids, ROWS);
}

/**
 * Inserts rows that all name the same columns in the same order.
 *
 * @param existing what happens to a row that is there already: the statement fails, or the row stays as it is.
 */
export async function insertRows<Table extends keyof Schema & string>(
  work: Work,
  table: Table,
  rows: readonly InsertObject<Schema, Table>[],
  existing: "fails" | "stays" = "fails",
): Promise<void> {
  const passesRecords = work.dialect.readsArrays && !TABLES_WITH_SECRETS.has(table);
  for (const part of chunks(rows, ROWS)) {
    const columns = Object.keys(part[0]!);
    const records = passesRecords ? toJson(part) : undefined;
    const build = () => {
      const insert = work.trx.insertInto(table);
      const query = records === undefined
        ? insert.values(part)
        : insert.columns(columns as never).expression(recordsOf(table, columns, records));
      return existing === "fails" ? query : work.dialect.insertIgnoring(query);
    };
    const parameters = records === undefined ? part.flatMap((row) => Object.values(row)) : [records];
    const size = records === undefined ? part.length : "records";
    await run(work, `insert ${existing} ${table} ${columns} ${size}`, parameters, build);
  }
}

/** Secrets are never made into a text: a text cannot be overwritten. */
const TABLES_WITH_SECRETS: ReadonlySet<keyof Schema> = new Set(["blocks", "byte_counts", "data_keys"]);

/** One parameter for any number of rows, so that the statement is the same. */
function recordsOf(table: string, columns: readonly string[], records: string) {
  const names = sql.join(columns.map((column) => sql.ref(column)));
  return sql`select ${names} from json_populate_recordset(null::${sql.table(table)}, ${records}::json)`;
}

function toJson(rows: readonly object[]): string {
  const plain = (value: unknown) => value instanceof Uint8Array ? `\\x${value.toHex()}` : value;
  return JSON.stringify(
    rows.map((row) => Object.fromEntries(Object.entries(row).map(([name, value]) => [name, plain(value)]))),
  );
}

/** Deletes blocks. */
export async function deleteBlocks(work: Work, seqs: readonly number[]): Promise<void> {
  await deleteByKey(work, "blocks", "seq", seqs);
}

export async function deleteDeliveries(work: Work, ids: readonly number[]): Promise<void> {
  await deleteByKey(work, "deliveries", "delivery_id", ids);
}

export async function deleteReservations(work: Work, ids: readonly KeyIdBytes[]): Promise<void> {
  await deleteByKey(work, "reservations", "reservation_id", ids.map(buffer));
}

export async function deleteByKey<Table extends keyof Schema & string>(
  work: Work,
  table: Table,
  key: keyof Schema[Table] & string,
  values: readonly unknown[],
): Promise<void> {
  for (const part of chunks(values, ROWS)) {
    const build = () => ({ compile: () => work.dialect.deleteByKey(table, key, part).compile(work.trx) });
    await run(work, `delete ${table} ${part.length}`, part, build);
  }
}

/** Deletes the bits of keys. */
export async function forgetBits(work: Work, seqs: readonly number[]): Promise<void> {
  for (const part of chunks(seqs, ROWS)) {
    const build = () => work.trx.updateTable("blocks").set({ bits: sql.lit(null) }).where("seq", "in", part);
    await run(work, `forget bits ${part.length}`, part, build);
  }
}

/** Locks blocks and keys that are to be changed, in the given order. */
export async function lockBlocks(work: Work, seqs: readonly number[]): Promise<void> {
  for (const part of chunks(seqs, ROWS)) await work.dialect.lockBlocks?.(part).execute(work.trx);
}

/** The key columns of blocks that become keys. */
export interface ToKeys {
  /** Their delivery. `own`: each has its own delivery, with the number of the block. */
  readonly delivery: number | "own";
  /** Whether the bits are kept; otherwise they are deleted. */
  readonly keepBits: boolean;
  /** Whether the neighbour may take them back. */
  readonly returnable: boolean;
}

/** A key that is exactly one block. */
export interface KeyOfBlock {
  /** Of the block. */
  readonly seq: number;
  /** The key_ID. */
  readonly id: KeyIdBytes;
}

/** Rows in one statement that names a value for each: the database searches the list for every row. */
const ROWS_WITH_VALUES = 64;

/** Turns free or reserved blocks, locked by this transaction, into keys. */
export async function blocksToKeys(work: Work, to: ToKeys, keys: readonly KeyOfBlock[]): Promise<void> {
  const { readsJson, readsArrays } = work.dialect;
  for (const part of chunks(keys, readsJson || readsArrays ? ROWS : ROWS_WITH_VALUES)) {
    await (readsJson ? byList : readsArrays ? byArrays : byCase)(work, to, part);
  }
}

/** With one parameter for all key_IDs and one for all numbers: to pass each one takes longer than to use it. */
async function byList(work: Work, to: ToKeys, keys: readonly KeyOfBlock[]): Promise<void> {
  const ids = Buffer.concat(keys.map(({ id }) => id));
  const seqs = `[${keys.map(({ seq }) => seq).join()}]`;
  const build = () =>
    work.trx.updateTable("blocks")
      .from(sql<{ key: number; value: number }>`json_each(${seqs})`.as("listed"))
      .set((e) => ({
        key_id: sql<Uint8Array>`substr(${ids}, ${sql.ref("listed.key")} * 16 + 1, 16)`,
        ...keyColumns(to, e),
      }))
      .whereRef("blocks.seq", "=", "listed.value");
  await run(work, `list to keys ${shapeOf(to)}`, [ids, ...deliveryOf(to), seqs], build);
}

/** As {@linkcode byList}, with arrays. */
async function byArrays(work: Work, to: ToKeys, keys: readonly KeyOfBlock[]): Promise<void> {
  const ids = keys.map(({ id }) => buffer(id));
  const seqs = keys.map(({ seq }) => seq);
  const build = () =>
    work.trx.updateTable("blocks")
      .from(
        sql<{ seq: number; key_id: Uint8Array }>`unnest(${seqs}::bigint[], ${ids}::bytea[])`
          .as<"listed">(sql`listed(seq, key_id)`),
      )
      .set((e) => ({ key_id: e.ref("listed.key_id"), ...keyColumns(to, e) }))
      .whereRef("blocks.seq", "=", "listed.seq");
  await run(work, `arrays to keys ${shapeOf(to)}`, [...deliveryOf(to), seqs, ids], build);
}

async function byCase(work: Work, to: ToKeys, keys: readonly KeyOfBlock[]): Promise<void> {
  const values = keys.map(({ seq, id }) => [seq, buffer(id)] as const);
  const seqs = keys.map(({ seq }) => seq);
  const build = () =>
    work.trx.updateTable("blocks")
      .set((e) => ({
        // The last branch is for the type of the value.
        key_id: sql<Uint8Array>`case seq ${
          sql.join(values.map(([seq, id]) => sql`when ${seq} then ${id}`), sql` `)
        } else key_id end`,
        ...keyColumns(to, e),
      }))
      .where("seq", "in", seqs);
  const parameters = [...values.flat(), ...deliveryOf(to), ...seqs];
  await run(work, `to keys ${shapeOf(to)} ${keys.length}`, parameters, build);
}

function keyColumns({ delivery, keepBits, returnable }: ToKeys, e: ExpressionBuilder<Schema, "blocks">) {
  return {
    state: sql.lit(BlockState.key),
    reservation_id: sql.lit(null),
    spare: sql.lit(null),
    delivery_id: delivery === "own" ? e.ref("blocks.seq") : delivery,
    ...(keepBits ? {} : { bits: sql.lit(null) }),
    ...(returnable ? { composition: e.ref("blocks.block_id") } : {}),
  };
}

function deliveryOf({ delivery }: ToKeys): number[] {
  return delivery === "own" ? [] : [delivery];
}

function shapeOf({ delivery, keepBits, returnable }: ToKeys): string {
  return `${delivery === "own" ? "own" : "one"} ${keepBits} ${returnable}`;
}

/**
 * Runs a statement. Its text is built once for each shape, and then reused.
 *
 * @param shape identifies the text, independent of the parameters.
 * @param parameters all parameters of the built statement, in order.
 */
export async function run<Row>(
  { trx, texts }: Work,
  shape: string,
  parameters: readonly unknown[],
  build: () => { compile(): CompiledQuery<Row> },
): Promise<Row[]> {
  const text = texts.get(shape);
  if (text !== undefined) {
    texts.delete(shape);
    texts.set(shape, text);
    return (await trx.executeQuery<Row>(CompiledQuery.raw(text, [...parameters]))).rows;
  }
  const query = build().compile();
  // The text may only be reused if its parameters are exactly the given values.
  const plain = query.parameters.length === parameters.length &&
    query.parameters.every((parameter, i) => parameter === parameters[i]);
  if (plain) texts.set(shape, query.sql);
  if (texts.size > MAX_TEXTS) texts.delete(texts.keys().next().value!);
  return (await trx.executeQuery(query)).rows;
}
