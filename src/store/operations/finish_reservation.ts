/** Finishes a reservation: its blocks are handed over, burnt, released, or kept until their state at the peer is known. */
import { randomBytes } from "node:crypto";
import type { KeyIdBytes } from "../../domain/block.ts";
import { buffer, mapKey } from "../../domain/bytes.ts";
import type { Operation, Work } from "../work.ts";
import { BlockState, ReservationPhase } from "../table_schema.ts";
import { chunks } from "../../domain/chunks.ts";
import { deleteBlocks, deleteReservations, ROWS, run } from "../statements.ts";
import type { KmeId, SaeId } from "../../domain/ids.ts";
import { handOver, type NewDelivery, type NewKey, type UsedBlock } from "./hand_over.ts";

/** Milliseconds until blocks that the peer had not stored yet are free again, unless said otherwise. */
const RETRY_AFTER_MS = 60_000;

/** A key made of the blocks of a reservation. */
export interface DeliveredKey {
  /** The block that it is exactly, one of those to be spent; absent if it is cut from a block or joined from several. */
  readonly block?: KeyIdBytes;
  readonly id: KeyIdBytes;
  /** The KME whose SAE asked for the key. */
  readonly origin: KmeId;
  readonly master: SaeId;
  readonly slaves: readonly SaeId[];
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
  /** Absent if no slave reads the key here. */
  readonly bits?: Uint8Array;
}

/** How a reservation is finished. Every list holds key_IDs of blocks. */
export interface ReservationOutcome {
  readonly reservation: KeyIdBytes;
  /** Blocks of the keys that are handed over. If one is no longer reserved, or another process resolves it, nothing is changed. */
  readonly spend?: readonly KeyIdBytes[];
  /** Keys handed over, recorded in the same transaction. */
  readonly keys?: readonly DeliveredKey[];
  /** To be burnt. */
  readonly burn?: readonly KeyIdBytes[];
  /** Certainly not used: they go back into the pool. */
  readonly release?: readonly KeyIdBytes[];
  /**
   * All other reserved blocks go back into the pool. To be used if it is not known whether the reservation was stored: afterwards
   * it is not stored, even if its commit comes late.
   */
  readonly releaseRest?: boolean;
  /** The peer does not have them free: it may still ask for them here, otherwise they are burnt later. */
  readonly refused?: readonly KeyIdBytes[];
  /** The peer has not stored them yet: they are not used for a while, then they are free again. */
  readonly absent?: readonly KeyIdBytes[];
  /** Milliseconds until the absent ones are free again. */
  readonly retryAfter?: number;
  /** The peer may have used them: they are not used until that is resolved. */
  readonly unresolved?: readonly KeyIdBytes[];
}

export interface FinishReservation extends ReservationOutcome {
  /** The process that finishes it. If another one has adopted the reservation, nothing is changed. */
  readonly processId: Uint8Array;
}

export type ReservationResult =
  | { readonly ok: true; readonly burnt: number; readonly released: number }
  /**
   * A block to be spent is no longer reserved, or another process considers this one dead and takes the keys back. Nothing was
   * changed; the keys must not be handed over.
   */
  | { readonly ok: false };

interface ReservedBlock extends UsedBlock {
  readonly state: number;
  readonly phase: number;
  readonly process_id: Uint8Array;
}

export const finishReservation: Operation<FinishReservation, ReservationResult> = {
  name: "finishReservation",
  async run(work, items) {
    await awaitCommits(work, items);
    const reserved = await reservedBlocks(work, items);
    const results: ReservationResult[] = [];
    const deliveries: NewDelivery[] = [];
    const gone: number[] = [];
    const free: number[] = [];
    const ended: KeyIdBytes[] = [];
    for (const item of items) {
      const blocks = reserved.get(mapKey(item.reservation)) ?? new Map<string, ReservedBlock>();
      // Each block only once, even if two calls for a reservation share a transaction.
      const take = (ids: readonly KeyIdBytes[] | undefined) =>
        (ids ?? []).flatMap((id) => {
          const block = blocks.get(mapKey(id));
          return block !== undefined && blocks.delete(mapKey(id)) ? [block] : [];
        });
      if (!mayHandOver(item, blocks)) {
        results.push({ ok: false });
        continue;
      }
      if ([...blocks.values()].some((block) => !isOwn(block, item))) {
        results.push({ ok: true, burnt: 0, released: 0 });
        continue;
      }
      const spent = take(item.spend);
      const burnt = take(item.burn);
      const released = take(item.release);
      const handed = deliveriesOf(item.keys ?? [], spent);
      deliveries.push(...handed.deliveries);
      for (const block of handed.others) gone.push(block.seq);
      for (const block of burnt) gone.push(block.seq);
      for (const block of released) {
        free.push(block.seq);
        work.stock.add(block.link_id, 1);
      }
      const unresolved = take(item.unresolved);
      const refused = take(item.refused);
      const absent = take(item.absent);
      if (item.releaseRest) {
        for (const block of blocks.values()) {
          free.push(block.seq);
          released.push(block);
          work.stock.add(block.link_id, 1);
        }
        blocks.clear();
      }
      const retryAt = work.now + (item.retryAfter ?? RETRY_AFTER_MS);
      await keepApart(work, item, absent, ReservationPhase.absent, retryAt);
      if (unresolved.length > 0) await keepApart(work, item, refused, ReservationPhase.refused);
      if (unresolved.length > 0) {
        await work.trx.updateTable("reservations").set({
          phase: ReservationPhase.unresolved,
          since: work.now,
        })
          .where("reservation_id", "=", buffer(item.reservation)).execute();
      } else if ((item.refused?.length ?? 0) > 0) {
        await work.trx.updateTable("reservations").set({ phase: ReservationPhase.refused, since: work.now })
          .where("reservation_id", "=", buffer(item.reservation)).execute();
      } else ended.push(item.reservation);
      results.push({ ok: true, burnt: burnt.length, released: released.length });
    }
    await change(work, gone, free);
    await handOver(work, deliveries);
    await deleteReservations(work, ended);
    return results;
  },
};

/** The keys with their blocks, and the blocks of no key: pads. */
function deliveriesOf(keys: readonly DeliveredKey[], spent: readonly ReservedBlock[]) {
  const left = new Map(spent.map((block) => [mapKey(block.block_id), block]));
  const whole = new Map<DeliveredKey, ReservedBlock>();
  for (const key of keys) {
    if (key.block === undefined) continue;
    const block = left.get(mapKey(key.block));
    if (block?.state !== BlockState.reserved) throw new Error("a key of a block that is not reserved for it");
    left.delete(mapKey(key.block));
    whole.set(key, block);
  }
  const others = [...left.values()];
  const deliveries = new Map<string, NewDelivery & { keys: NewKey[] }>();
  for (const made of keys) {
    const { id, bits, block: _, ...delivery } = made;
    const block = whole.get(made);
    const key = JSON.stringify([delivery.origin, delivery.master, delivery.slaves, delivery.expiresAt]);
    let same = deliveries.get(key);
    if (same === undefined) deliveries.set(key, same = { ...delivery, keys: [] });
    // With several blocks it does not matter which belong to which key: all are removed.
    const blocks = block === undefined ? others.splice(0, 1) : [block];
    if (blocks.length === 0) throw new Error("a key of no blocks");
    same.keys.push({ id, bits, blocks, whole: block !== undefined });
  }
  return { deliveries: [...deliveries.values()], others };
}

function isOwn(block: ReservedBlock, item: FinishReservation): boolean {
  return mapKey(block.process_id) === mapKey(item.processId);
}

/** Whether every block to be spent is still reserved by this process and not being resolved. */
function mayHandOver(
  { spend = [], ...item }: FinishReservation,
  blocks: ReadonlyMap<string, ReservedBlock>,
): boolean {
  return new Set(spend.map(mapKey)).size === spend.length && spend.every((id) => {
    const block = blocks.get(mapKey(id));
    return block !== undefined && block.phase === ReservationPhase.open && isOwn(block, item);
  });
}

/** Waits for transactions that are storing one of the reservations: they may still run after their connection was lost. */
async function awaitCommits({ trx, dialect, now }: Work, items: readonly FinishReservation[]): Promise<void> {
  for (const { reservation, processId, releaseRest } of items) {
    if (!releaseRest) continue;
    await dialect.insertIgnoring(
      trx.insertInto("reservations").values({
        reservation_id: buffer(reservation),
        phase: ReservationPhase.open,
        process_id: buffer(processId),
        since: now,
        plan: null,
      }),
    ).execute();
  }
}

async function reservedBlocks(work: Work, items: readonly FinishReservation[]) {
  const reservations = new Map<string, Map<string, ReservedBlock>>();
  for (const part of chunks(items, ROWS)) {
    const ids = part.map((item) => buffer(item.reservation));
    // Locks the reservations too, so that another process adopts them before or after this, not meanwhile.
    const rows = await run(work, `reserved ${ids.length}`, ids, () =>
      work.dialect.forUpdate(
        work.trx.selectFrom("blocks")
          .innerJoin("reservations", "reservations.reservation_id", "blocks.reservation_id")
          .select(["seq", "block_id", "link_id", "state", "blocks.reservation_id", "phase", "process_id"])
          .where("blocks.reservation_id", "in", ids),
      ));
    for (const row of rows) {
      const key = mapKey(row.reservation_id!);
      let blocks = reservations.get(key);
      if (blocks === undefined) reservations.set(key, blocks = new Map());
      blocks.set(mapKey(row.block_id), row);
    }
  }
  return reservations;
}

/** Moves blocks into a reservation of their own. */
async function keepApart(
  { trx, now }: Work,
  item: ReservationOutcome,
  blocks: readonly ReservedBlock[],
  phase: number,
  since = now,
): Promise<void> {
  if (blocks.length === 0) return;
  const id = randomBytes(16);
  const row = await trx.selectFrom("reservations").selectAll()
    .where("reservation_id", "=", buffer(item.reservation)).executeTakeFirstOrThrow();
  await trx.insertInto("reservations").values({ ...row, reservation_id: id, phase, since }).execute();
  await trx.updateTable("blocks").set({ reservation_id: id })
    .where("seq", "in", blocks.map((block) => block.seq)).execute();
}

async function change(work: Work, gone: readonly number[], free: readonly number[]): Promise<void> {
  await deleteBlocks(work, gone);
  for (const part of chunks(free, 2000)) {
    await work.trx.updateTable("blocks").set({ state: BlockState.free, reservation_id: null })
      .where("seq", "in", part).execute();
  }
}
