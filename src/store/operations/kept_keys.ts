/**
 * Keys that all slaves have read and whose bits are kept for a time, so that an answer that was lost can be repeated. A row of
 * `kept_keys` for each; the reads say to whom the answer may be repeated.
 */
import { Buffer } from "node:buffer";
import { type ExpressionBuilder, sql } from "kysely";
import { chunks } from "../../domain/chunks.ts";
import { deleteByKey, forgetBits, lockBlocks, ROWS } from "../statements.ts";
import type { Schema } from "../table_schema.ts";
import type { Work } from "../work.ts";

/** Whether a key has bits that a slave has not read yet. */
export function waitsForSlaves(e: ExpressionBuilder<Schema, "blocks">) {
  const kept = e.selectFrom("kept_keys").select(sql.lit(1).as("one")).whereRef(
    "kept_keys.seq",
    "=",
    "blocks.seq",
  );
  return e.and([e("bits", "is not", null), e.not(e.exists(kept))]);
}

/** Erases the bits of keys that were read by all slaves at this time or before; returns for how many, `limit` at most. */
export async function eraseKept(work: Work, keptBefore: number, limit: number): Promise<number> {
  const { trx, dialect } = work;
  const kept = (await dialect.skipLocked(
    trx.selectFrom("kept_keys").select("seq").where("since", "<=", keptBefore).orderBy("since").limit(limit),
  ).execute()).map((row) => row.seq);
  const keys: { readonly seq: number; readonly key_id: Uint8Array | null }[] = [];
  for (const part of chunks(kept, ROWS)) {
    // Those that have expired are gone.
    keys.push(...await trx.selectFrom("blocks").select(["seq", "key_id"]).where("seq", "in", part).execute());
  }
  // In the order in which `collect` locks them.
  const seqs = keys.sort((a, b) => Buffer.compare(a.key_id!, b.key_id!)).map(({ seq }) => seq);
  await lockBlocks(work, seqs);
  await forgetBits(work, seqs);
  await deleteByKey(work, "kept_keys", "seq", kept);
  return kept.length;
}
