/** Time passes: keys that nobody fetched, and blocks that the peer refused, leave the store. */
import { buffer } from "../bytes.ts";
import type { Operation } from "../commit_queue.ts";
import { ReservationPhase } from "../schema.ts";

export interface Expiry {
  /** Keys of one transaction at most, so that requests do not wait long behind it. */
  readonly limit: number;
  /** Refused blocks older than this time are burnt, milliseconds since 1970. */
  readonly refusedBefore: number;
}

export interface Expired {
  /** Keys of which some slave had not read. */
  readonly unread: number;
  /** Records of keys removed, read ones included. */
  readonly keys: number;
  /** Blocks burnt. */
  readonly burnt: number;
}

/** Milliseconds after which no message of a transaction can come any more. */
const VOIDED_MS = 24 * 3600 * 1000;

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
      await work.trx.deleteFrom("voided_transactions").where("since", "<", work.now - VOIDED_MS).execute();
      await work.trx.deleteFrom("processes").where("lease_until", "<", work.now - VOIDED_MS).execute();
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
      results.push({ unread: keys.filter((key) => key.bits !== null).length, keys: keys.length, burnt });
    }
    return results;
  },
};
