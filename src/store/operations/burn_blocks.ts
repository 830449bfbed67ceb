/** Burns blocks and keys that may have been handed out before. */
import { oneByOne, type Operation, type Work } from "../work.ts";
import type { Link } from "../../domain/link.ts";
import { buffer } from "../../domain/bytes.ts";
import { clearBits } from "../encryption/bits_cipher.ts";
import { BYTE_COUNTS_BYTES } from "../encryption/byte_counts.ts";
import { BlockState } from "../table_schema.ts";
import { waitsForSlaves } from "./kept_keys.ts";
import { livingProcesses, lockOpening } from "./leases.ts";

/** Rows removed in one transaction: each statement has a time limit of a few seconds. */
const ROWS = 5000;

export interface Burn {
  /** Only the blocks of this link; absent: the blocks of all links, and all keys. */
  readonly link?: Link;
  /** {@linkcode Burnt.after} of the previous transaction; absent in the first one. */
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
 * Removes a part of the blocks; if those of all links are burnt, also the waiting keys, and the reservations last. The record of
 * seen blocks is kept, so that none can be ingested again. No other process may use the database meanwhile.
 */
export const burn: Operation<Burn, Burnt> = oneByOne("burn", burnPart);

async function burnPart(work: Work, { link, after = 0 }: Burn): Promise<Burnt> {
  const part = await burnBlocks(work, link, after);
  if (part.after > after) return part;
  if (link === undefined) {
    if (await burnDeliveries(work) > 0) return { blocks: 0, keys: 0, after };
    await work.trx.deleteFrom("kept_keys").execute();
  }
  await work.trx.deleteFrom("device_batches")
    .$if(link !== undefined, (query) => query.where("link_id", "=", link!.id)).execute();
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
  // Keys that were handed over are removed only if the blocks of all links are.
  const rows = await trx.selectFrom("blocks").select(["seq", "link_id", "state"])
    .select((e) => waitsForSlaves(e).as("waits"))
    .where("seq", ">", after)
    .$if(
      link !== undefined,
      (query) => query.where("link_id", "=", link!.id).where("state", "!=", BlockState.key),
    )
    .orderBy("seq").limit(ROWS).execute();
  const last = rows.at(-1)?.seq;
  if (last === undefined) return { blocks: 0, keys: 0, after };
  for (const { link_id, state } of rows) if (state === BlockState.free) stock.add(link_id, -1);
  const { numDeletedRows } = await trx.deleteFrom("blocks").where("seq", ">", after).where("seq", "<=", last)
    .$if(
      link !== undefined,
      (query) => query.where("link_id", "=", link!.id).where("state", "!=", BlockState.key),
    )
    .executeTakeFirstOrThrow();
  if (Number(numDeletedRows) !== rows.length) throw new Error("another process uses the database");
  const blocks = rows.filter((row) => row.state !== BlockState.key).length;
  const keys = rows.filter((row) => row.state === BlockState.key && row.waits).length;
  return { blocks, keys, after: last };
}

async function burnDeliveries({ trx }: Work): Promise<number> {
  const rows = await trx.selectFrom("deliveries").select("delivery_id").orderBy("delivery_id").limit(ROWS)
    .execute();
  const last = rows.at(-1)?.delivery_id;
  if (last === undefined) return 0;
  await trx.deleteFrom("deliveries").where("delivery_id", "<=", last).execute();
  return rows.length;
}

/**
 * Removes the keys that the bits were encrypted with, after all bits were burnt: the next start makes a new one, with the master
 * key that it has then. The process must end without storing any bits. False when another process uses the database: they stay.
 */
export const discardDataKeys: Operation<{ readonly processId: Uint8Array }, boolean> = {
  name: "discardDataKeys",
  async run({ trx, dialect, now }, items) {
    await lockOpening(trx, dialect);
    for (const { processId } of items) {
      if (await livingProcesses(trx, now, processId) > 0) return items.map(() => false);
    }
    await trx.deleteFrom("data_keys").execute();
    // The next start need not wait for this process, which stores nothing any more.
    for (const { processId } of items) {
      await trx.deleteFrom("processes").where("process_id", "=", buffer(processId)).execute();
    }
    const counts = clearBits.seal("byteCounts", new Uint8Array(BYTE_COUNTS_BYTES));
    await trx.updateTable("byte_counts").set({ counts }).where("one", "=", 1).execute();
    return items.map(() => true);
  },
};
