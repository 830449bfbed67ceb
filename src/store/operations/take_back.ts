/** A peer takes back a transaction whose keys its master SAE did not get. */
import type { KeyIdBytes } from "../../domain/block.ts";
import { BLOCK_BYTES } from "../../domain/block.ts";
import { buffer, mapKey } from "../../domain/bytes.ts";
import { oneByOne, type Operation, type Work } from "../work.ts";
import { halfOf, type Link } from "../../domain/link.ts";
import { ownerOf, type StoredBits } from "../encryption/bits_cipher.ts";
import { BlockState } from "../table_schema.ts";
import { freeAmong } from "../free_among.ts";
import { chunks } from "../../domain/chunks.ts";
import { deleteBlocks, deleteDeliveries, isInState, lockBlocks } from "../statements.ts";
import { HELD, holdTransactions, letGoTransactions } from "./voided.ts";

export interface TakeBack {
  /** With the peer that asks. */
  readonly link: Link;
  readonly transaction: KeyIdBytes;
  /** Blocks of the link that the transaction named. */
  readonly blocks: readonly KeyIdBytes[];
  /** Whether they may go back into the pool; otherwise they are burnt on both ends. */
  readonly reuse: boolean;
}

export type TakenBack =
  /** The transaction was not here, and will be refused. */
  | { readonly kind: "unknown" }
  /** Its keys are removed; `free` are the blocks that are in the pool again. A repeated request gets the same answer. */
  | { readonly kind: "takenBack"; readonly free: readonly KeyIdBytes[] }
  /** A slave has read a key of it already. */
  | { readonly kind: "read" };

interface StoredKey {
  readonly seq: number;
  /** Null for a key that is not exactly one block. */
  readonly block_id: Uint8Array | null;
  readonly key_id: Uint8Array | null;
  readonly link_id: number;
  readonly bits: StoredBits | null;
  readonly composition: Uint8Array | null;
}

export const takeBack: Operation<TakeBack, TakenBack> = oneByOne("takeBack", takeBackOne);

async function takeBackOne(work: Work, item: TakeBack): Promise<TakenBack> {
  const { trx, now } = work;
  const transaction = buffer(item.transaction);
  const held = { id: item.transaction, linkId: item.link.id };
  await holdTransactions(work, [held]);
  const deliveries = (await trx.selectFrom("deliveries").select("delivery_id")
    .where("transaction_id", "=", transaction).where("link_id", "=", item.link.id).execute())
    .map((row) => row.delivery_id);
  const keys = deliveries.length === 0 ? [] : await lockKeys(work, deliveries);
  if (keys.length > 0) {
    const read = await trx.selectFrom("key_reads").select("seq")
      .where("seq", "in", keys.map((key) => key.seq)).limit(1).execute();
    if (read.length > 0) {
      await letGoTransactions(work, [held]);
      return { kind: "read" };
    }
  }
  if (!item.reuse) await burnFree(work, item);
  const before = await trx.selectFrom("voided_transactions").select("had_keys")
    .where("transaction_id", "=", transaction).where("link_id", "=", item.link.id).executeTakeFirstOrThrow();
  if (before.had_keys !== HELD) {
    if (before.had_keys === 0) return { kind: "unknown" };
    return { kind: "takenBack", free: item.reuse ? await freeAmong(trx, item.link.id, item.blocks) : [] };
  }
  await trx.updateTable("voided_transactions").set({ had_keys: keys.length > 0 ? 1 : 0, since: now })
    .where("transaction_id", "=", transaction).where("link_id", "=", item.link.id).execute();
  if (keys.length === 0) return { kind: "unknown" };
  const free = await undo(work, item, keys);
  await deleteDeliveries(work, deliveries);
  return { kind: "takenBack", free };
}

async function lockKeys(work: Work, deliveries: readonly number[]): Promise<StoredKey[]> {
  const keys = () =>
    work.trx.selectFrom("blocks").select(["seq", "block_id", "key_id", "link_id", "bits", "composition"])
      .where("delivery_id", "in", deliveries)
      .orderBy("key_id").execute(); // as `collect` locks them
  await lockBlocks(work, (await keys()).map((key) => key.seq));
  return await keys(); // read again: other transactions may have changed them
}

async function burnFree(work: Work, { link, blocks }: TakeBack): Promise<void> {
  for (const part of chunks(blocks, 2000)) {
    const remove = async (state: number) => {
      const { numDeletedRows } = await work.trx.deleteFrom("blocks").where("block_id", "in", part.map(buffer))
        .where("link_id", "=", link.id).where(isInState(state)).executeTakeFirst();
      return Number(numDeletedRows);
    };
    work.stock.add(link.id, -await remove(BlockState.free));
    await remove(BlockState.unmatched);
  }
}

/** Removes the keys; returns the blocks that are in the pool again. */
async function undo(
  work: Work,
  { link, reuse }: TakeBack,
  keys: readonly StoredKey[],
): Promise<KeyIdBytes[]> {
  const { trx } = work;
  const standing: StoredKey[] = [];
  const gone: StoredKey[] = [];
  for (const key of keys) (reuse && isItsBlock(key) ? standing : gone).push(key);
  for (const part of chunks(standing.map((key) => key.seq), 2000)) {
    await trx.updateTable("blocks").set({
      state: BlockState.free,
      key_id: null,
      delivery_id: null,
      composition: null,
    })
      .where("seq", "in", part).execute();
  }
  await deleteBlocks(work, gone.map((key) => key.seq));
  const composed = reuse ? await putBack(work, link, gone) : [];
  work.stock.add(link.id, standing.length + composed.length);
  return [...standing.map((key) => Uint8Array.from(key.block_id!)), ...composed];
}

/** Whether the key is exactly one block and still has its bits. */
function isItsBlock({ block_id, bits, composition }: StoredKey): boolean {
  return block_id !== null && bits !== null && composition !== null &&
    mapKey(composition) === mapKey(block_id);
}

/** Puts whole blocks of composed keys back into the pool. A block that was cut is lost. */
async function putBack(work: Work, link: Link, keys: readonly StoredKey[]): Promise<KeyIdBytes[]> {
  const rows = keys.flatMap((key) => {
    const { bits: stored, composition } = key;
    if (stored === null || composition === null) return [];
    const bits = work.cipher.open(ownerOf(key), stored);
    if (bits === undefined) {
      const id = Uint8Array.from(key.block_id ?? key.key_id!);
      work.damaged.push({ what: "key", id, linkId: key.link_id });
      return [];
    }
    return Array.from({ length: Math.floor(bits.length / BLOCK_BYTES) }, (_, i) => ({
      id: Uint8Array.from(composition.subarray(i * 16, i * 16 + 16)),
      bits: Uint8Array.from(bits.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES)),
    }));
  });
  const unique = [...new Map(rows.map((row) => [mapKey(row.id), row])).values()];
  for (const part of chunks(unique, 1000)) {
    await work.trx.insertInto("blocks").values(part.map(({ id, bits }) => ({
      block_id: buffer(id),
      link_id: link.id,
      state: BlockState.free,
      half: halfOf(id),
      stored_at: 0, // the time when it was first stored is lost: it never counts as recent
      reservation_id: null,
      file_tag: null,
      delivery_id: null,
      bits: work.cipher.seal({ block: id, linkId: link.id }, bits),
      composition: null,
    }))).execute();
  }
  return unique.map((row) => row.id);
}
