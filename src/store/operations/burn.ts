/** Everything that may have been given out already leaves the store for good. */
import type { Operation } from "../commit_queue.ts";
import type { Link } from "../link.ts";
import { BlockState } from "../schema.ts";

export interface Burn {
  /** Only the blocks of this link; absent: the blocks of all links, and all keys. */
  readonly link?: Link;
}

export interface Burnt {
  readonly blocks: number;
  /** Keys that waited for a slave. */
  readonly keys: number;
}

/**
 * Removes blocks, and with those of all links the keys that wait and the reservations. That blocks were seen is kept, so
 * that none comes back from a file. No other process may use the database meanwhile.
 */
export const burn: Operation<Burn, Burnt> = {
  name: "burn",
  async run({ trx, stock }, items) {
    const results: Burnt[] = [];
    for (const { link } of items) {
      const free = await trx.selectFrom("blocks")
        .select((e) => ["link_id", e.fn.countAll<number>().as("count")] as const)
        .where("state", "=", BlockState.free)
        .$if(link !== undefined, (query) => query.where("link_id", "=", link!.id))
        .groupBy("link_id").execute();
      for (const { link_id, count } of free) stock.add(link_id, -Number(count));
      const deleted = await trx.deleteFrom("blocks")
        .$if(link !== undefined, (query) => query.where("link_id", "=", link!.id))
        .executeTakeFirstOrThrow();
      await trx.deleteFrom("reservations").where(
        "reservation_id",
        "not in",
        (e) =>
          e.selectFrom("blocks").select((b) => b.ref("reservation_id").$notNull().as("id"))
            .where("reservation_id", "is not", null),
      ).execute();
      let keys = 0;
      if (link === undefined) {
        const waiting = await trx.selectFrom("keys").select((e) => e.fn.countAll<number>().as("count"))
          .where("bits", "is not", null).executeTakeFirstOrThrow();
        keys = Number(waiting.count);
        await trx.deleteFrom("key_slaves").execute();
        await trx.deleteFrom("keys").execute();
      }
      results.push({ blocks: Number(deleted.numDeletedRows), keys });
    }
    return results;
  },
};
