/** Keys from QKD devices: requested here, and stored before the other end is told; or fetched because the other end told of them. */
import { Buffer } from "node:buffer";
import type { Kysely } from "kysely";
import type { Block, KeyIdBytes } from "../../domain/block.ts";
import { buffer, mapKey } from "../../domain/bytes.ts";
import { chunks } from "../../domain/chunks.ts";
import type { DeviceKey, DeviceKeyBits } from "../../domain/device_keys.ts";
import type { Link } from "../../domain/link.ts";
import { DEVICE_TAG, UNCONFIRMED_TAG } from "../../domain/stock_questions.ts";
import { presenceOf } from "../matching.ts";
import { isInState, ROWS } from "../statements.ts";
import { BlockState, type Schema } from "../table_schema.ts";
import { oneByOne, type Operation, type Work } from "../work.ts";
import { countBytes } from "./ingest_blocks.ts";
import { insertBlocks, recordSeen, seenAmong } from "../new_blocks.ts";

const ID_BYTES = 16;

export interface OpenBatch {
  readonly link: Link;
  /** 16 random bytes. */
  readonly batch: Uint8Array;
  readonly processId: Uint8Array;
  /** Blocks that are requested. */
  readonly asked: number;
}

/** Records that keys are requested from the device, so that a crash in between is noticed. */
export const openBatch: Operation<OpenBatch, null> = {
  name: "openDeviceBatch",
  async run({ trx }, items) {
    await trx.insertInto("device_batches").values(items.map(({ link, batch, processId, asked }) => ({
      batch_id: buffer(batch),
      link_id: link.id,
      process_id: buffer(processId),
      asked,
      keys: null,
    }))).execute();
    return items.map(() => null);
  },
};

export interface StoreBatch {
  readonly link: Link;
  readonly batch: Uint8Array;
  readonly keys: readonly DeviceKeyBits[];
}

/**
 * Stores the blocks of a batch as unconfirmed. The result is the keys that are stored now; the others have a block that was stored
 * before, at any time. Nothing is stored, and `undefined` is the result, if another process has given the batch up.
 */
export const storeBatch: Operation<StoreBatch, DeviceKey[] | undefined> = oneByOne(
  "storeDeviceBatch",
  storeOne,
);

async function storeOne(work: Work, { link, batch, keys }: StoreBatch): Promise<DeviceKey[] | undefined> {
  const { trx, dialect } = work;
  const id = buffer(batch);
  const open = await dialect.forUpdate(
    trx.selectFrom("device_batches").select("batch_id").where("batch_id", "=", id),
  ).executeTakeFirst();
  if (open === undefined) return undefined;
  const seen = await seenAmong(work, keys.flatMap(({ blocks }) => blocks.map(({ id }) => id)));
  const fresh: DeviceKeyBits[] = [];
  for (const key of keys) {
    if (key.blocks.some((block) => seen.has(mapKey(block.id)))) continue;
    for (const block of key.blocks) seen.add(mapKey(block.id));
    fresh.push(key);
  }
  const blocks = fresh.flatMap((key) => key.blocks);
  await insertBlocks(
    work,
    { linkId: link.id, state: BlockState.unmatched },
    blocks.map((block) => ({ ...block, tag: UNCONFIRMED_TAG })),
  );
  await countBytes(work, blocks);
  const stored = fresh.map(({ id, blocks }): DeviceKey => ({ id, blocks: blocks.map((block) => block.id) }));
  if (stored.length === 0) await trx.deleteFrom("device_batches").where("batch_id", "=", id).execute();
  else {
    await trx.updateTable("device_batches").set({ keys: formatKeys(stored) }).where("batch_id", "=", id)
      .execute();
  }
  return stored;
}

export interface SettleBatch {
  readonly link: Link;
  readonly batch: Uint8Array;
  /** Blocks that the other end has: they are in stock now. */
  readonly held: readonly KeyIdBytes[];
  /** Blocks that the other end will not have: they are removed. */
  readonly gone: readonly KeyIdBytes[];
  /** Nothing of the batch is undecided any more. */
  readonly done: boolean;
}

/** What this call changed. */
export interface Settled {
  /** Blocks that came into stock. */
  readonly confirmed: number;
  /** Blocks that were removed. */
  readonly removed: number;
}

/** Does what the other end has said. Repeating it changes nothing. */
export const settleBatch: Operation<SettleBatch, Settled> = oneByOne("settleDeviceBatch", settleOne);

async function settleOne(work: Work, { link, batch, held, gone, done }: SettleBatch): Promise<Settled> {
  const { trx, stock } = work;
  let [confirmed, removed] = [0, 0];
  for (const part of chunks(held.toSorted(Buffer.compare), ROWS)) {
    const ids = part.map(buffer);
    // The agreement of stocks, or a key that the other end made, may have come before.
    const { numUpdatedRows } = await trx.updateTable("blocks")
      .set({ state: BlockState.free, file_tag: DEVICE_TAG })
      .where("block_id", "in", ids).where("link_id", "=", link.id)
      .where(isInState(BlockState.unmatched)).where("file_tag", "=", UNCONFIRMED_TAG).executeTakeFirst();
    confirmed += Number(numUpdatedRows);
    await trx.updateTable("blocks").set({ file_tag: DEVICE_TAG }).where("block_id", "in", ids)
      .where("link_id", "=", link.id).where("file_tag", "=", UNCONFIRMED_TAG).execute();
  }
  for (const part of chunks(gone.toSorted(Buffer.compare), ROWS)) {
    const { numDeletedRows } = await trx.deleteFrom("blocks").where("block_id", "in", part.map(buffer))
      .where("link_id", "=", link.id).where(isInState(BlockState.unmatched))
      .where("file_tag", "=", UNCONFIRMED_TAG).executeTakeFirst();
    removed += Number(numDeletedRows);
  }
  stock.add(link.id, confirmed);
  if (done) await trx.deleteFrom("device_batches").where("batch_id", "=", buffer(batch)).execute();
  return { confirmed, removed };
}

/**
 * Gives up a batch for which no keys were stored. The result is whether this call did that: of several processes that give it up, one
 * counts it. A batch whose keys another process has stored meanwhile stays.
 */
export const giveUpBatch: Operation<Uint8Array, boolean> = oneByOne(
  "giveUpDeviceBatch",
  async ({ trx }, batch) => {
    const { numDeletedRows } = await trx.deleteFrom("device_batches").where("batch_id", "=", buffer(batch))
      .where("keys", "is", null).executeTakeFirst();
    return Number(numDeletedRows) > 0;
  },
);

export interface ReceiveKeys {
  readonly link: Link;
  /** Blocks from this end's device that the other end has stored. */
  readonly blocks: readonly Block[];
  /** Blocks that this end's device does not have: they are never stored here, however late they come. */
  readonly lost: readonly KeyIdBytes[];
}

export interface ReceivedKeys {
  /** A `BlockPresence` for each of the blocks, then for each of the lost ones. */
  readonly presence: Uint8Array;
  /** Blocks newly stored. */
  readonly stored: number;
}

/** Stores blocks that the other end has stored before: they are in stock at once. */
export const receiveKeys: Operation<ReceiveKeys, ReceivedKeys> = oneByOne("receiveDeviceKeys", receiveOne);

async function receiveOne(work: Work, { link, blocks, lost }: ReceiveKeys): Promise<ReceivedKeys> {
  const ids = [...blocks.map(({ id }) => id), ...lost];
  const seen = await seenAmong(work, ids);
  const fresh = blocks.filter(({ id }) => !seen.has(mapKey(id)));
  await insertBlocks(
    work,
    { linkId: link.id, state: BlockState.free },
    fresh.map((block) => ({ ...block, tag: DEVICE_TAG })),
  );
  await countBytes(work, fresh);
  const refused = lost.filter((id) => !seen.has(mapKey(id)));
  await recordSeen(work, refused);
  work.stock.add(link.id, fresh.length);
  return { presence: await presenceOf(work.trx, link.id, ids), stored: fresh.length };
}

/** A batch that is not settled. */
export interface OpenedBatch {
  readonly batch: Uint8Array;
  readonly processId: Uint8Array;
  readonly asked: number;
  /** Absent: the device has not answered, or its answer was not stored. */
  readonly keys?: readonly DeviceKey[];
}

export interface OpenedBatchesOf {
  readonly linkId: number;
  /** The process that asks. */
  readonly processId: Uint8Array;
  /** Milliseconds since 1970. */
  readonly now: number;
}

/** Batches of this process, and of processes whose lease has ended: the others work on theirs. */
export async function openedBatches(
  db: Kysely<Schema>,
  { linkId, processId, now }: OpenedBatchesOf,
): Promise<OpenedBatch[]> {
  const rows = await db.selectFrom("device_batches").selectAll().where("link_id", "=", linkId)
    .where((e) =>
      e.or([
        e("process_id", "=", buffer(processId)),
        e(
          "process_id",
          "not in",
          e.selectFrom("processes").select("processes.process_id").where("lease_until", ">", now),
        ),
      ])
    ).execute();
  return rows.map(({ batch_id, process_id, asked, keys }) => ({
    batch: Uint8Array.from(batch_id),
    processId: Uint8Array.from(process_id),
    asked,
    ...keys === null ? {} : { keys: parseKeys(keys) },
  }));
}

function formatKeys(keys: readonly DeviceKey[]): string {
  return JSON.stringify(keys.map(({ id, blocks }) => [id, Buffer.concat(blocks).toString("base64")]));
}

function parseKeys(text: string): DeviceKey[] {
  return (JSON.parse(text) as [string, string][]).map(([id, ids]) => {
    const bytes = Uint8Array.from(Buffer.from(ids, "base64"));
    return {
      id,
      blocks: Array.from(
        { length: bytes.length / ID_BYTES },
        (_, i) => bytes.slice(i * ID_BYTES, (i + 1) * ID_BYTES),
      ),
    };
  });
}
