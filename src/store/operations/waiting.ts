/** Counts keys that wait for their slaves. */
import type { SaeId } from "../../domain/ids.ts";
import type { Kysely } from "kysely";
import { waitsForSlaves } from "./kept_keys.ts";
import type { Schema } from "../table_schema.ts";

/** Keys that at least one slave of this KME has not fetched yet: all, or those of a master. */
export async function keysWaiting(db: Kysely<Schema>, now: number, master?: SaeId): Promise<number> {
  const { waiting } = await db.selectFrom("deliveries")
    .innerJoin("blocks", "blocks.delivery_id", "deliveries.delivery_id")
    .select((e) => e.fn.countAll<number>().as("waiting"))
    .where(waitsForSlaves).where("expires_at", ">", now)
    .$if(master !== undefined, (query) => query.where("master_sae", "=", master!)).executeTakeFirstOrThrow();
  return Number(waiting);
}
