/** Ends a reservation: its blocks are handed over, burnt, released, or kept until more is known. */
import { randomBytes } from "node:crypto";
import type { KeyIdBytes } from "../../model/block.ts";
import { buffer, mapKey } from "../bytes.ts";
import type { Operation, Work } from "../commit_queue.ts";
import { BlockState, ReservationPhase } from "../schema.ts";
import { chunks, insertKeys, type NewKey } from "./insert_keys.ts";

/** What becomes of a reservation. Every list holds key_IDs of blocks. */
export interface Settlement {
  readonly reservation: KeyIdBytes;
  /** Blocks of the keys that are handed over: each must still be reserved and no one else settle it, or nothing is changed. */
  readonly spend?: readonly KeyIdBytes[];
  /** Keys handed over, recorded in the same transaction. */
  readonly keys?: readonly NewKey[];
  /** Never to be used by anyone. */
  readonly burn?: readonly KeyIdBytes[];
  /** Certainly unused: back into the pool. */
  readonly release?: readonly KeyIdBytes[];
  /** The peer does not have them free: it may still ask for them here, otherwise they are burnt later. */
  readonly refused?: readonly KeyIdBytes[];
  /** Nobody knows what the peer did with them: nobody gets them until that is settled. */
  readonly unresolved?: readonly KeyIdBytes[];
}

export type Settled =
  | { readonly ok: true; readonly burnt: number; readonly released: number }
  /**
   * A block to be spent is no longer reserved, or another process took this one for dead and takes the keys back: they
   * must not be handed over, nothing was changed.
   */
  | { readonly ok: false };

interface ReservedBlock {
  readonly seq: number;
  readonly link_id: number;
  readonly phase: number;
}

export const settle: Operation<Settlement, Settled> = {
  name: "settle",
  async run(work, items) {
    const reserved = await reservedBlocks(work, items);
    const results: Settled[] = [];
    const keys: NewKey[] = [];
    const gone: number[] = [];
    const free: number[] = [];
    const ended: KeyIdBytes[] = [];
    for (const item of items) {
      const blocks = reserved.get(mapKey(item.reservation)) ?? new Map<string, ReservedBlock>();
      const take = (ids: readonly KeyIdBytes[] | undefined) =>
        (ids ?? []).flatMap((id) => blocks.get(mapKey(id)) ?? []);
      const spent = take(item.spend);
      const open = spent.every((block) => block.phase === ReservationPhase.open);
      if (spent.length !== (item.spend?.length ?? 0) || !open) {
        results.push({ ok: false });
        continue;
      }
      const burnt = take(item.burn);
      const released = take(item.release);
      for (const block of spent) gone.push(block.seq);
      for (const block of burnt) gone.push(block.seq);
      for (const block of released) {
        free.push(block.seq);
        work.stock.add(block.link_id, 1);
      }
      for (const key of item.keys ?? []) keys.push(key);
      const unresolved = take(item.unresolved);
      await keepRefused(work, item, take(item.refused), unresolved.length === 0);
      if (unresolved.length > 0) {
        await work.trx.updateTable("reservations").set({
          phase: ReservationPhase.unresolved,
          since: work.now,
        })
          .where("reservation_id", "=", buffer(item.reservation)).execute();
      } else if ((item.refused?.length ?? 0) === 0) {
        ended.push(item.reservation);
      }
      results.push({ ok: true, burnt: burnt.length, released: released.length });
    }
    await change(work, gone, free);
    for (const part of chunks(ended, 2000)) {
      await work.trx.deleteFrom("reservations").where("reservation_id", "in", part.map(buffer)).execute();
    }
    await insertKeys(work, keys);
    return results;
  },
};

async function reservedBlocks({ trx, dialect }: Work, items: readonly Settlement[]) {
  const reservations = new Map<string, Map<string, ReservedBlock>>();
  for (const part of chunks(items, 500)) {
    const rows = await dialect.forUpdate(
      // The reservations are locked too: whoever adopts one comes before or after.
      trx.selectFrom("blocks")
        .innerJoin("reservations", "reservations.reservation_id", "blocks.reservation_id")
        .select(["seq", "block_id", "link_id", "blocks.reservation_id", "phase"])
        .where("blocks.reservation_id", "in", part.map((item) => buffer(item.reservation))),
    ).execute();
    for (const row of rows) {
      const key = mapKey(row.reservation_id!);
      let blocks = reservations.get(key);
      if (blocks === undefined) reservations.set(key, blocks = new Map());
      blocks.set(mapKey(row.block_id), row);
    }
  }
  return reservations;
}

/** Refused blocks stay reserved, in the same reservation where nothing else of it stays. */
async function keepRefused(
  { trx, now }: Work,
  item: Settlement,
  blocks: readonly ReservedBlock[],
  alone: boolean,
): Promise<void> {
  if (item.refused === undefined || item.refused.length === 0) return;
  const old = buffer(item.reservation);
  if (alone) {
    await trx.updateTable("reservations").set({ phase: ReservationPhase.refused, since: now })
      .where("reservation_id", "=", old).execute();
    return;
  }
  const id = randomBytes(16);
  const row = await trx.selectFrom("reservations").selectAll().where("reservation_id", "=", old)
    .executeTakeFirst();
  if (row === undefined || blocks.length === 0) return;
  await trx.insertInto("reservations")
    .values({ ...row, reservation_id: id, phase: ReservationPhase.refused, since: now }).execute();
  await trx.updateTable("blocks").set({ reservation_id: id })
    .where("seq", "in", blocks.map((block) => block.seq)).execute();
}

async function change({ trx }: Work, gone: readonly number[], free: readonly number[]): Promise<void> {
  for (const part of chunks(gone, 2000)) {
    await trx.deleteFrom("blocks").where("seq", "in", part).execute();
  }
  for (const part of chunks(free, 2000)) {
    await trx.updateTable("blocks").set({ state: BlockState.free, reservation_id: null })
      .where("seq", "in", part).execute();
  }
}
