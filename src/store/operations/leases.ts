/** Heartbeats of processes, and work that one of them at a time does. */
import type { Kysely } from "kysely";
import { buffer } from "../../domain/bytes.ts";
import type { Operation } from "../work.ts";
import { recordTime } from "../store_clock.ts";
import type { Schema } from "../table_schema.ts";

export interface LeaseRenewal {
  readonly processId: Uint8Array;
  /** Milliseconds for which it counts. */
  readonly lease: number;
  /** Work that this process does, or would do if no other process does it. */
  readonly work: readonly string[];
}

export interface Renewed {
  /** What this process does until the lease ends. */
  readonly work: readonly string[];
  /** The time of the store, milliseconds since 1970: at least that of every process that has recorded it. */
  readonly time: number;
}

/** Renews the process's lease, and records the time. */
export const renewLease: Operation<LeaseRenewal, Renewed> = {
  name: "renewLease",
  async run({ trx, dialect, now: begun }, items) {
    const now = await recordTime(trx, dialect, begun);
    const results: Renewed[] = [];
    for (const { processId, lease, work } of items) {
      const own = buffer(processId);
      const until = now + lease;
      const renewed = await trx.updateTable("processes").set({ lease_until: until })
        .where("process_id", "=", own).executeTakeFirst();
      if (Number(renewed.numUpdatedRows) === 0) {
        await trx.insertInto("processes").values({ process_id: own, lease_until: until }).execute();
      }
      const mine: string[] = [];
      for (const name of work) {
        const taken = await trx.updateTable("leases").set({ process_id: own, lease_until: until })
          .where("name", "=", name)
          .where((e) => e.or([e("process_id", "=", own), e("lease_until", "<", now)]))
          .executeTakeFirst();
        if (Number(taken.numUpdatedRows) > 0) {
          mine.push(name);
          continue;
        }
        await dialect.insertIgnoring(
          trx.insertInto("leases").values({ name, process_id: own, lease_until: until }),
        ).execute();
        const holder = await trx.selectFrom("leases").select("process_id").where("name", "=", name)
          .executeTakeFirstOrThrow();
        if (buffer(holder.process_id).equals(own)) mine.push(name);
      }
      results.push({ work: mine, time: now });
    }
    return results;
  },
};

/** Releases the leases of a process that ends. */
export const releaseLease: Operation<{ readonly processId: Uint8Array }, void> = {
  name: "releaseLease",
  async run({ trx, dialect, now }, items) {
    await recordTime(trx, dialect, now);
    for (const { processId } of items) {
      const own = buffer(processId);
      await trx.deleteFrom("leases").where("process_id", "=", own).execute();
      await trx.deleteFrom("processes").where("process_id", "=", own).execute();
    }
    return items.map(() => {});
  },
};

/** Processes whose lease has not ended. */
export async function livingProcesses(db: Kysely<Schema>, now: number): Promise<number> {
  const { count } = await db.selectFrom("processes").select((e) => e.fn.countAll<number>().as("count"))
    .where("lease_until", ">", now).executeTakeFirstOrThrow();
  return Number(count);
}
