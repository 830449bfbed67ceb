/** Everything that may have been given out already leaves the store for good. */
import type { Operation, Work } from "../commit_queue.ts";
import type { Link } from "../link.ts";
import { BlockState } from "../schema.ts";

/** Rows that one transaction removes: a server has a few seconds for each statement. */
const ROWS = 5000;

export interface Burn {
  /** Only the blocks of this link; absent: the blocks of all links, and all keys. */
  readonly link?: Link;
  /** What {@linkcode Burnt.after} of the transaction before said; absent at first. */
  readonly after?: number;
}

export interface Burnt {
  readonly blocks: number;
  /** Keys that waited for a slave. */
  readonly keys: number;
  /** There may be more: burn again after this one. Absent: nothing is left. */
  readonly after?: number;
}

/**
 * Removes a part of the blocks, and with those of all links the keys that wait; the reservations last. That blocks were seen
 * is kept, so that none comes back from a file. No other process may use the database meanwhile.
 */
export const burn: Operation<Burn, Burnt> = {
  name: "burn",
  async run(work, items) {
    const results: Burnt[] = [];
    for (const item of items) results.push(await burnPart(work, item));
    return results;
  },
};

async function burnPart(work: Work, { link, after = 0 }: Burn): Promise<Burnt> {
  const part = await burnBlocks(work, link, after);
  if (part.blocks > 0) return { ...part, keys: 0 };
  if (link === undefined) {
    const { removed, keys } = await burnKeys(work);
    if (removed > 0) return { blocks: 0, keys, after };
  }
  await work.trx.deleteFrom("reservations").where(
    "reservation_id",
    "not in",
    (e) =>
      e.selectFrom("blocks").select((b) => b.ref("reservation_id").$notNull().as("id"))
        .where("reservation_id", "is not", null),
  ).execute();
  return { blocks: 0, keys: 0 };
}

async function burnBlocks({ trx, stock }: Work, link: Link | undefined, after: number) {
  const rows = await trx.selectFrom("blocks").select("seq").where("seq", ">", after)
    .$if(link !== undefined, (query) => query.where("link_id", "=", link!.id))
    .orderBy("seq").limit(ROWS).execute();
  const last = rows.at(-1)?.seq;
  if (last === undefined) return { blocks: 0, after };
  const free = await trx.selectFrom("blocks")
    .select((e) => ["link_id", e.fn.countAll<number>().as("count")] as const)
    .where("state", "=", BlockState.free).where("seq", ">", after).where("seq", "<=", last)
    .$if(link !== undefined, (query) => query.where("link_id", "=", link!.id))
    .groupBy("link_id").execute();
  for (const { link_id, count } of free) stock.add(link_id, -Number(count));
  const deleted = await trx.deleteFrom("blocks").where("seq", ">", after).where("seq", "<=", last)
    .$if(link !== undefined, (query) => query.where("link_id", "=", link!.id))
    .executeTakeFirstOrThrow();
  return { blocks: Number(deleted.numDeletedRows), after: last };
}

async function burnKeys({ trx }: Work): Promise<{ removed: number; keys: number }> {
  const rows = await trx.selectFrom("keys").select("key_id").orderBy("key_id").limit(ROWS).execute();
  const last = rows.at(-1)?.key_id;
  if (last === undefined) return { removed: 0, keys: 0 };
  const { count } = await trx.selectFrom("keys").select((e) => e.fn.countAll<number>().as("count"))
    .where("key_id", "<=", last).where("bits", "is not", null).executeTakeFirstOrThrow();
  await trx.deleteFrom("key_slaves").where("key_id", "<=", last).execute();
  await trx.deleteFrom("keys").where("key_id", "<=", last).execute();
  return { removed: rows.length, keys: Number(count) };
}
