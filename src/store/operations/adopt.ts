/** Reservations of processes that are gone: nobody will settle them any more. */
import { buffer } from "../bytes.ts";
import type { Operation } from "../commit_queue.ts";
import { ReservationPhase } from "../schema.ts";

export interface Adoption {
  /** The process that adopts. */
  readonly processId: Uint8Array;
}

/**
 * Puts blocks of dead processes where nobody gets them: the peer may activate them here, otherwise they are burnt.
 *
 * @returns reservations changed.
 */
export const adopt: Operation<Adoption, number> = {
  name: "adopt",
  async run({ trx, now }, items) {
    const results: number[] = [];
    for (const { processId } of items) {
      const { numUpdatedRows } = await trx.updateTable("reservations")
        .set({ phase: ReservationPhase.refused, process_id: buffer(processId), since: now })
        .where("process_id", "!=", buffer(processId)).where("phase", "!=", ReservationPhase.refused)
        .executeTakeFirst();
      results.push(Number(numUpdatedRows));
    }
    return results;
  },
};
