/** Sets free blocks aside for a request that still has to be agreed with a peer. */
import type { Block, KeyIdBytes } from "../../model/block.ts";
import type { SaeId } from "../../model/ids.ts";
import { buffer } from "../bytes.ts";
import type { Operation } from "../commit_queue.ts";
import type { Link } from "../link.ts";
import { BlockState, ReservationPhase } from "../schema.ts";
import { claim } from "./claim.ts";
import { chunks } from "./insert_keys.ts";
import { StockChanges } from "./stock.ts";

export interface Reserve {
  /** 16 random bytes; the same again adds blocks to the reservation. */
  readonly reservation: KeyIdBytes;
  readonly processId: Uint8Array;
  readonly link: Link;
  readonly blocks: number;
  readonly fromFarEnd?: boolean;
  readonly master: SaeId;
  readonly slave: SaeId;
}

/** The reserved blocks, or `undefined` when the pool holds too few: then nothing is reserved. */
export const reserve: Operation<Reserve, Block[] | undefined> = {
  name: "reserve",
  async run(work, items) {
    const claimed = await claim(work, items);
    const stock = new StockChanges();
    const met = items.flatMap((item, i) => claimed[i] === undefined ? [] : [{ item, blocks: claimed[i] }]);
    if (met.length > 0) {
      await work.dialect.insertIgnoring(
        work.trx.insertInto("reservations").values(met.map(({ item }) => ({
          reservation_id: buffer(item.reservation),
          link_id: item.link.id,
          phase: ReservationPhase.open,
          process_id: buffer(item.processId),
          since: work.now,
          master_sae: item.master,
          slave_sae: item.slave,
        }))),
      ).execute();
    }
    for (const { item, blocks } of met) {
      stock.add(item.link.id, -blocks.length);
      for (const part of chunks(blocks, 2000)) {
        await work.trx.updateTable("blocks")
          .set({ state: BlockState.reserved, reservation_id: buffer(item.reservation) })
          .where("seq", "in", part.map((block) => block.seq)).execute();
      }
    }
    await stock.apply(work);
    return claimed.map((blocks) => blocks?.map(({ block_id, bits }) => ({ id: block_id, bits })));
  },
};
