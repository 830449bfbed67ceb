/** Counts of free blocks, updated with every change, so that no query has to count them. */
import type { Kysely } from "kysely";
import type { Schema } from "./table_schema.ts";
import { run } from "./statements.ts";
import type { Work } from "./work.ts";

/** Writes the changes of a transaction, at its end. */
export async function applyStock(work: Work): Promise<void> {
  // In the order of links, to avoid deadlocks.
  for (const [linkId, change] of [...work.stock].sort(([a], [b]) => a - b)) {
    await run(
      work,
      "stock",
      [change, linkId, work.slot],
      () =>
        work.trx.updateTable("stock").set((e) => ({ free: e("free", "+", change) }))
          .where("link_id", "=", linkId).where("slot", "=", work.slot),
    );
  }
}

/** Free blocks of a link. No other transaction changes the count before this one ends. */
export async function lockFreeBlocks(work: Work, linkId: number): Promise<number> {
  const { trx, dialect } = work;
  const slots = await run(
    work,
    "locked stock",
    [linkId],
    () =>
      dialect.forUpdate(
        trx.selectFrom("stock").select("free").where("link_id", "=", linkId).orderBy("slot"),
      ),
  );
  return slots.reduce((sum, { free }) => sum + Number(free), 0);
}

/** Free blocks of a link. */
export async function freeBlocks(db: Kysely<Schema>, linkId: number): Promise<number> {
  const { free } = await db.selectFrom("stock").select((e) => e.fn.sum<number>("free").as("free"))
    .where("link_id", "=", linkId).executeTakeFirstOrThrow();
  return Number(free ?? 0);
}
