/** Counts of free blocks, kept with every change so that nobody has to count. */
import type { Kysely } from "kysely";
import type { Work } from "./commit_queue.ts";
import type { Schema } from "./schema.ts";
import { run } from "./statements.ts";

/** Changes by link, to be applied once at the end of a transaction. */
export class StockChanges {
  readonly #changes = new Map<number, number>();

  add(linkId: number, change: number): void {
    if (change !== 0) this.#changes.set(linkId, (this.#changes.get(linkId) ?? 0) + change);
  }

  /** The change of one link so far. */
  of(linkId: number): number {
    return this.#changes.get(linkId) ?? 0;
  }

  [Symbol.iterator](): Iterator<[linkId: number, change: number]> {
    return this.#changes[Symbol.iterator]();
  }

  async apply(work: Work): Promise<void> {
    // In the order of links, so that two transactions never wait for each other in a circle.
    for (const [linkId, change] of [...this.#changes].sort(([a], [b]) => a - b)) {
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
}

/** Free blocks of a link. */
export async function freeBlocks(db: Kysely<Schema>, linkId: number): Promise<number> {
  const { free } = await db.selectFrom("stock").select((e) => e.fn.sum<number>("free").as("free"))
    .where("link_id", "=", linkId).executeTakeFirstOrThrow();
  return Number(free ?? 0);
}
