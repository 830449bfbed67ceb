/** Finds reservations that no running process resolves, and adopts them. */
import type { KeyIdBytes } from "../../domain/block.ts";
import { buffer, mapKey } from "../../domain/bytes.ts";
import type { Operation } from "../work.ts";
import { ReservationPhase } from "../table_schema.ts";

export interface Adoption {
  /** The process that adopts. */
  readonly processId: Uint8Array;
  /** Reservations of the process itself that are unresolved are found too. */
  readonly limit: number;
  /** Only reservations made after this time, milliseconds since 1970: for the next page. */
  readonly after: number;
}

export interface AdoptedReservation {
  readonly id: KeyIdBytes;
  readonly plan: string | null;
  /** Milliseconds since 1970. */
  readonly since: number;
  readonly blocks: readonly { readonly id: KeyIdBytes; readonly linkId: number }[];
}

/** Milliseconds after which no request of this process can still use its reservation: the request has failed. */
const FORGOTTEN_MS = 5 * 60_000;

/**
 * Reservations to be resolved: unresolved ones of this process, and those of processes whose lease has ended. All of them are
 * assigned to this process, and open ones become unresolved.
 */
export const adopt: Operation<Adoption, AdoptedReservation[]> = {
  name: "adopt",
  async run({ trx, dialect, now }, items) {
    const results: AdoptedReservation[][] = [];
    for (const { processId, limit, after } of items) {
      const own = buffer(processId);
      const rows = await dialect.skipLocked(
        trx.selectFrom("reservations").select(["reservation_id", "plan", "since"])
          .where("phase", "in", [ReservationPhase.open, ReservationPhase.unresolved])
          .where("since", ">", after)
          .where((e) =>
            e.or([
              e.and([e("process_id", "=", own), e("phase", "=", ReservationPhase.unresolved)]),
              e.and([e("process_id", "=", own), e("since", "<", now - FORGOTTEN_MS)]),
              e.and([
                e("process_id", "!=", own),
                e(
                  "process_id",
                  "not in",
                  e.selectFrom("processes").select("processes.process_id").where("lease_until", ">", now),
                ),
              ]),
            ])
          )
          .orderBy("since").limit(limit),
      ).execute();
      if (rows.length === 0) {
        results.push([]);
        continue;
      }
      const ids = rows.map((row) => buffer(row.reservation_id));
      await trx.updateTable("reservations").set({ phase: ReservationPhase.unresolved, process_id: own })
        .where("reservation_id", "in", ids).execute();
      const blocks = await trx.selectFrom("blocks").select(["block_id", "link_id", "reservation_id"])
        .where("reservation_id", "in", ids).orderBy("seq").execute();
      results.push(rows.map((row) => ({
        id: row.reservation_id,
        plan: row.plan,
        since: row.since,
        blocks: blocks.filter((block) => mapKey(block.reservation_id!) === mapKey(row.reservation_id))
          .map((block) => ({ id: block.block_id, linkId: block.link_id })),
      })));
    }
    return results;
  },
};
