/** Counts keys that wait for their slaves. */
import type { Kysely } from "kysely";
import type { Schema } from "../table_schema.ts";

/** Keys that at least one slave of this KME has not fetched yet. */
export async function keysWaiting(db: Kysely<Schema>, now: number): Promise<number> {
  const { waiting } = await db.selectFrom("deliveries")
    .innerJoin("blocks", "blocks.delivery_id", "deliveries.delivery_id")
    .select((e) => e.fn.countAll<number>().as("waiting"))
    .where("bits", "is not", null).where("expires_at", ">", now).executeTakeFirstOrThrow();
  return Number(waiting);
}
