/** Statements on many rows, compiled once for each number of rows: building them costs more than running them. */
import { CompiledQuery, type InsertObject } from "kysely";
import type { Work } from "./commit_queue.ts";
import type { Schema } from "./schema.ts";

/** Rows in one statement: below every database's limit of parameters, and few enough to be met often. */
const ROWS = 500;

/** Texts kept; one for each statement and number of rows that was met. */
const MAX_TEXTS = 1000;

/** The text of a statement by its shape. */
export type StatementTexts = Map<string, string>;

/** Consecutive parts of at most `length` items. */
export function* chunks<T>(items: readonly T[], length: number): Generator<T[]> {
  for (let i = 0; i < items.length; i += length) yield items.slice(i, i + length);
}

/** Inserts rows that all name the same columns in the same order. */
export async function insertRows<Table extends keyof Schema & string>(
  work: Work,
  table: Table,
  rows: readonly InsertObject<Schema, Table>[],
): Promise<void> {
  for (const part of chunks(rows, ROWS)) {
    const compile = () => work.trx.insertInto(table).values(part).compile();
    const parameters = part.flatMap((row) => Object.values(row));
    await run(work, `insert ${table} ${part.length}`, parameters, compile);
  }
}

/** Takes blocks out of the store. */
export async function deleteBlocks(work: Work, seqs: readonly number[]): Promise<void> {
  for (const part of chunks(seqs, ROWS)) {
    const compile = () => work.trx.deleteFrom("blocks").where("seq", "in", part).compile();
    await run(work, `delete blocks ${part.length}`, part, compile);
  }
}

async function run(
  { trx, texts }: Work,
  shape: string,
  parameters: readonly unknown[],
  compile: () => CompiledQuery,
): Promise<void> {
  const text = texts.get(shape);
  if (text !== undefined) {
    await trx.executeQuery(CompiledQuery.raw(text, [...parameters]));
    return;
  }
  const query = compile();
  // Only a statement whose parameters are just the values may be run again with others.
  const plain = query.parameters.length === parameters.length &&
    query.parameters.every((parameter, i) => parameter === parameters[i]);
  if (plain && texts.size < MAX_TEXTS) texts.set(shape, query.sql);
  await trx.executeQuery(query);
}
