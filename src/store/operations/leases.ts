/** Heartbeats of processes, and work that one of them at a time does. */
import type { Kysely, Transaction } from "kysely";
import { buffer } from "../../domain/bytes.ts";
import type { StoreDialect } from "../dialects/dialect.ts";
import { StoreUnusable } from "../../domain/store_errors.ts";
import { dataKeysFingerprint } from "../encryption/bits_cipher.ts";
import type { Operation, Work } from "../work.ts";
import { recordTime } from "../store_clock.ts";
import type { Schema } from "../table_schema.ts";

/** Milliseconds for which a process counts as running after it has opened the database: until its first heartbeat. */
export const OPENING_LEASE_MS = 60_000;

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

/**
 * Renews the process's lease, and records the time.
 *
 * @throws StoreUnusable when the lease had ended and the data keys were changed since: the process must not store or open bits any more.
 */
export const renewLease: Operation<LeaseRenewal, Renewed> = {
  name: "renewLease",
  async run(work, items) {
    const { trx, dialect } = work;
    const now = await recordTime(trx, dialect, work.now);
    const results: Renewed[] = [];
    for (const { processId, lease, work: names } of items) {
      const own = buffer(processId);
      const until = now + lease;
      const renewed = await trx.updateTable("processes").set({ lease_until: until })
        .where("process_id", "=", own).where("lease_until", ">", now).executeTakeFirst();
      if (Number(renewed.numUpdatedRows) === 0) {
        await requireSameDataKeys(work);
        await trx.deleteFrom("processes").where("process_id", "=", own).execute();
        await trx.insertInto("processes").values({ process_id: own, lease_until: until }).execute();
      }
      const mine: string[] = [];
      for (const name of names) {
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

/** Processes whose lease has not ended, without the one that asks. */
export async function livingProcesses(db: Kysely<Schema>, now: number, own?: Uint8Array): Promise<number> {
  const { count } = await db.selectFrom("processes").select((e) => e.fn.countAll<number>().as("count"))
    .where("lease_until", ">", now)
    .$if(own !== undefined, (query) => query.where("process_id", "!=", buffer(own!)))
    .executeTakeFirstOrThrow();
  return Number(count);
}

/**
 * Keeps other processes from opening the database until the transaction ends. Who decides by the processes that run, or by how bits
 * are stored, takes this lock before looking.
 */
export async function lockOpening(trx: Transaction<Schema>, dialect: StoreDialect): Promise<void> {
  await dialect.forUpdate(trx.selectFrom("kme").select("one").where("one", "=", 1)).execute();
}

/** For a process that did not count as running for a while: as long as it holds the lock, no other one changes the data keys. */
async function requireSameDataKeys({ trx, dialect, cipher: { madeFrom } }: Work): Promise<void> {
  // Nobody else could have changed them.
  if (dialect.exclusive || madeFrom === undefined) return;
  await lockOpening(trx, dialect);
  const rows = await trx.selectFrom("data_keys").selectAll().execute();
  if (dataKeysFingerprint(rows) === madeFrom) return;
  throw new StoreUnusable(
    "the keys that encrypt the database were changed while this process did not renew its lease; start it again",
  );
}

/** The first lease of a process that opens the database. */
export async function beginLease(
  trx: Transaction<Schema>,
  processId: Uint8Array,
  now: number,
): Promise<void> {
  await trx.insertInto("processes").values({
    process_id: buffer(processId),
    lease_until: now + OPENING_LEASE_MS,
  }).execute();
}
