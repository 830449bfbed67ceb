/** Sets aside free blocks that the peer does not have free: they are not used for a while, unless the peer activates them here. */
import { randomBytes } from "node:crypto";
import type { KeyIdBytes } from "../../domain/block.ts";
import { buffer } from "../../domain/bytes.ts";
import type { Operation } from "../work.ts";
import type { Link } from "../../domain/link.ts";
import { isInState } from "../statements.ts";
import { BlockState, ReservationPhase } from "../table_schema.ts";
import { chunks } from "../../domain/chunks.ts";

export interface SetAside {
  readonly link: Link;
  readonly processId: Uint8Array;
  readonly blocks: readonly KeyIdBytes[];
  /** Milliseconds until they are free again. */
  readonly retryAfter: number;
}

/** How many of them were free until now. */
export const setAside: Operation<SetAside, number> = {
  name: "setAside",
  async run(work, items) {
    const results: number[] = [];
    for (const { link, processId, blocks, retryAfter } of items) {
      const reservation = randomBytes(16);
      await work.trx.insertInto("reservations").values({
        reservation_id: reservation,
        phase: ReservationPhase.absent,
        process_id: buffer(processId),
        since: work.now + retryAfter,
        plan: null,
      }).execute();
      let changed = 0;
      for (const part of chunks(blocks, 2000)) {
        const { numUpdatedRows } = await work.trx.updateTable("blocks")
          .set({ state: BlockState.reserved, reservation_id: reservation, spare: null })
          .where("block_id", "in", part.map(buffer)).where("link_id", "=", link.id)
          .where(isInState(BlockState.free)).executeTakeFirst();
        changed += Number(numUpdatedRows);
      }
      work.stock.add(link.id, -changed);
      results.push(changed);
    }
    return results;
  },
};
