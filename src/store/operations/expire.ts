/** Removes expired keys, bits that were kept to repeat an answer, and blocks that the peer refused. */
import type { Buffer } from "node:buffer";
import type { KeyIdBytes } from "../../domain/block.ts";
import { buffer } from "../../domain/bytes.ts";
import type { Operation, Work } from "../work.ts";
import { BlockState, ReservationPhase } from "../table_schema.ts";
import { chunks } from "../../domain/chunks.ts";
import { eraseKept, waitsForSlaves } from "./kept_keys.ts";
import { deleteBlocks, deleteDeliveries, deleteReservations, lockBlocks } from "../statements.ts";

export interface Expiry {
  /** Keys of one transaction at most, so that requests do not wait long behind it. */
  readonly limit: number;
  /** The bits of keys that all slaves had read at this time are erased, milliseconds since 1970. */
  readonly keptBefore: number;
  /** Refused blocks older than this time are burnt, milliseconds since 1970. */
  readonly refusedBefore: number;
  /** Blocks that the peer did not have before this time are free again, milliseconds since 1970. */
  readonly absentBefore: number;
  /** Transactions taken back before this time are forgotten, milliseconds since 1970. */
  readonly voidedBefore: number;
}

export interface Expired {
  /** Key_IDs of keys that some slave had not read. */
  readonly unread: readonly KeyIdBytes[];
  /** Records of keys removed, read ones included. */
  readonly keys: number;
  /** Keys whose bits were kept, and erased now. */
  readonly erased: number;
  /** Blocks burnt. */
  readonly burnt: number;
  /** Blocks that are free again. */
  readonly freed: number;
}

export const expire: Operation<Expiry, Expired> = {
  name: "expire",
  async run(work, items) {
    const results: Expired[] = [];
    for (const item of items) {
      const erased = await eraseKept(work, item.keptBefore, item.limit);
      const { keys, unread } = await removeKeys(work, item.limit);
      await work.trx.deleteFrom("voided_transactions").where("since", "<", item.voidedBefore).execute();
      await work.trx.deleteFrom("processes").where("lease_until", "<", item.voidedBefore).execute();
      const refused = await work.trx.selectFrom("reservations").select("reservation_id")
        .where("phase", "=", ReservationPhase.refused).where("since", "<", item.refusedBefore)
        .limit(item.limit).execute();
      let burnt = 0;
      if (refused.length > 0) {
        const ids = refused.map((row) => buffer(row.reservation_id));
        const blocks = await lockReserved(work, ids);
        await deleteBlocks(work, blocks.map((block) => block.seq));
        burnt = blocks.length;
        await deleteReservations(work, ids);
      }
      const freed = await freeAbsent(work, item);
      results.push({ unread, keys, erased, burnt, freed });
    }
    return results;
  },
};

/** Keys of expired deliveries, and the deliveries that have no keys any more. */
async function removeKeys(work: Work, limit: number) {
  const { trx, dialect, now } = work;
  const expired = await dialect.skipLocked(
    trx.selectFrom("deliveries").select("delivery_id").where("expires_at", "<=", now)
      .orderBy("expires_at").limit(limit),
  ).execute();
  if (expired.length === 0) return { keys: 0, unread: [] };
  const ids = expired.map((row) => row.delivery_id);
  // Keys over the limit, or being read at this moment, are left for the next time.
  const keys = await dialect.skipLocked(
    trx.selectFrom("blocks").select(["seq", "key_id", "bits"]).where("delivery_id", "in", ids)
      .limit(limit),
  ).execute();
  const withBits = keys.filter((key) => key.bits !== null).map((key) => key.seq);
  // Asked for after the keys are locked, so that the last read of other transactions is seen.
  const waiting = withBits.length === 0 ? [] : await trx.selectFrom("blocks").select("key_id")
    .where("seq", "in", withBits).where(waitsForSlaves).execute();
  await deleteBlocks(work, keys.map((key) => key.seq));
  await deleteDeliveries(work, await endedAmong(trx, ids));
  const unread = waiting.map((key) => Uint8Array.from(key.key_id!));
  return { keys: keys.length, unread };
}

/** The deliveries of these that have no keys. */
async function endedAmong(trx: Work["trx"], ids: readonly number[]): Promise<number[]> {
  const rows = await trx.selectFrom("deliveries").select("delivery_id").where("delivery_id", "in", ids)
    .where((e) =>
      e.not(e.exists(
        e.selectFrom("blocks").select("seq").whereRef("blocks.delivery_id", "=", "deliveries.delivery_id"),
      ))
    ).execute();
  return rows.map((row) => row.delivery_id);
}

async function freeAbsent(work: Work, { absentBefore, limit }: Expiry): Promise<number> {
  const absent = await work.trx.selectFrom("reservations").select("reservation_id")
    .where("phase", "=", ReservationPhase.absent).where("since", "<", absentBefore).limit(limit).execute();
  if (absent.length === 0) return 0;
  const ids = absent.map((row) => buffer(row.reservation_id));
  const blocks = await lockReserved(work, ids);
  for (const part of chunks(blocks, 2000)) {
    await work.trx.updateTable("blocks").set({ state: BlockState.free, reservation_id: null })
      .where("seq", "in", part.map((block) => block.seq)).execute();
    for (const block of part) work.stock.add(block.link_id, 1);
  }
  await deleteReservations(work, ids);
  return blocks.length;
}

/** Locks the blocks of reservations; in the meantime the peer may have activated some. */
async function lockReserved(work: Work, reservations: readonly Buffer[]) {
  const blocks = () =>
    work.trx.selectFrom("blocks").select(["seq", "link_id"]).where("reservation_id", "in", reservations)
      .orderBy("block_id").execute(); // as `collect` and `activate` lock them
  await lockBlocks(work, (await blocks()).map((block) => block.seq));
  return await blocks();
}
