/** Time passes: keys that nobody fetched, and blocks that the peer refused, leave the store. */
import { buffer } from "../bytes.ts";
import type { Operation, Work } from "../commit_queue.ts";
import { BlockState, ReservationPhase } from "../schema.ts";
import { chunks } from "../statements.ts";

export interface Expiry {
  /** Keys of one transaction at most, so that requests do not wait long behind it. */
  readonly limit: number;
  /** Refused blocks older than this time are burnt, milliseconds since 1970. */
  readonly refusedBefore: number;
  /** Blocks that the peer did not have before this time are free again, milliseconds since 1970. */
  readonly absentBefore: number;
  /** Transactions taken back before this time are forgotten, milliseconds since 1970. */
  readonly voidedBefore: number;
}

export interface Expired {
  /** Keys of which some slave had not read. */
  readonly unread: number;
  /** Records of keys removed, read ones included. */
  readonly keys: number;
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
      const keys = await work.dialect.skipLocked(
        work.trx.selectFrom("keys").select(["key_id", "bits"]).where("expires_at", "<=", work.now)
          .orderBy("expires_at").limit(item.limit),
      ).execute();
      if (keys.length > 0) {
        const ids = keys.map((key) => buffer(key.key_id));
        await work.trx.deleteFrom("key_slaves").where("key_id", "in", ids).execute();
        await work.trx.deleteFrom("keys").where("key_id", "in", ids).execute();
      }
      await work.trx.deleteFrom("voided_transactions").where("since", "<", item.voidedBefore).execute();
      await work.trx.deleteFrom("processes").where("lease_until", "<", item.voidedBefore).execute();
      const refused = await work.trx.selectFrom("reservations").select("reservation_id")
        .where("phase", "=", ReservationPhase.refused).where("since", "<", item.refusedBefore)
        .limit(item.limit).execute();
      let burnt = 0;
      if (refused.length > 0) {
        const ids = refused.map((row) => buffer(row.reservation_id));
        const deleted = await work.trx.deleteFrom("blocks").where("reservation_id", "in", ids)
          .executeTakeFirst();
        burnt = Number(deleted.numDeletedRows);
        await work.trx.deleteFrom("reservations").where("reservation_id", "in", ids).execute();
      }
      const freed = await freeAbsent(work, item);
      results.push({
        unread: keys.filter((key) => key.bits !== null).length,
        keys: keys.length,
        burnt,
        freed,
      });
    }
    return results;
  },
};

async function freeAbsent(work: Work, { absentBefore, limit }: Expiry): Promise<number> {
  const absent = await work.trx.selectFrom("reservations").select("reservation_id")
    .where("phase", "=", ReservationPhase.absent).where("since", "<", absentBefore).limit(limit).execute();
  if (absent.length === 0) return 0;
  const ids = absent.map((row) => buffer(row.reservation_id));
  const blocks = await work.dialect.forUpdate(
    work.trx.selectFrom("blocks").select(["seq", "link_id"]).where("reservation_id", "in", ids),
  ).execute();
  for (const part of chunks(blocks, 2000)) {
    await work.trx.updateTable("blocks").set({ state: BlockState.free, reservation_id: null })
      .where("seq", "in", part.map((block) => block.seq)).execute();
    for (const block of part) work.stock.add(block.link_id, 1);
  }
  await work.trx.deleteFrom("reservations").where("reservation_id", "in", ids).execute();
  return blocks.length;
}
