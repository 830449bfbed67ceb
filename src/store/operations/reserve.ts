/** Sets free blocks aside for a request that still has to be agreed with peers. */
import type { Block, KeyIdBytes } from "../../domain/block.ts";
import { sql } from "kysely";
import { buffer } from "../../domain/bytes.ts";
import type { Operation } from "../work.ts";
import { BlockState, ReservationPhase } from "../table_schema.ts";
import { type Claim, claim } from "./claim.ts";
import { chunks } from "../../domain/chunks.ts";
import { insertRows, ROWS, run } from "../statements.ts";

export interface Reserve {
  /** 16 random bytes. Reserving again with the same id adds blocks. */
  readonly reservation: KeyIdBytes;
  readonly processId: Uint8Array;
  /** Either all are met or none. */
  readonly claims: readonly Claim[];
  /** What the blocks are for, so that any process can resolve the reservation. */
  readonly plan?: string;
}

/** The reserved blocks of each claim, or `undefined` when a pool holds too few, or too few would be left: then nothing is reserved. */
export const reserve: Operation<Reserve, Block[][] | undefined> = {
  name: "reserve",
  async run(work, items) {
    const claimed = await claim(work, items.map((item) => item.claims));
    const met = items.flatMap((item, i) => claimed[i] === undefined ? [] : [{ item, parts: claimed[i] }]);
    const rows = met.map(({ item }) => ({
      reservation_id: buffer(item.reservation),
      phase: ReservationPhase.open,
      process_id: buffer(item.processId),
      since: work.now,
      plan: item.plan ?? null,
    }));
    await insertRows(work, "reservations", rows, "stays");
    for (const { item, parts } of met) {
      item.claims.forEach(({ link }, i) => work.stock.add(link.id, -parts[i]!.length));
      for (const [i, { pad }] of item.claims.entries()) {
        const state = pad ? BlockState.pad : BlockState.reserved;
        const reservation = buffer(item.reservation);
        for (const part of chunks(parts[i]!, ROWS)) {
          const seqs = part.map((block) => block.seq);
          await run(
            work,
            `reserve ${seqs.length}`,
            [state, reservation, ...seqs],
            () =>
              work.trx.updateTable("blocks").set({ state, reservation_id: reservation, spare: sql.lit(null) })
                .where(
                  "seq",
                  "in",
                  seqs,
                ),
          );
        }
      }
    }
    return claimed.map((parts) =>
      parts?.map((part) => part.map(({ block_id, bits }) => ({ id: block_id, bits })))
    );
  },
};
