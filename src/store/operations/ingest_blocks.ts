/** Blocks of a key file enter a link's pool, each block once for ever. */
import type { AddedBlocks, BlockBatch } from "../block_store.ts";
import type { Block } from "../../domain/block.ts";
import { buffer, mapKey } from "../../domain/bytes.ts";
import type { Operation, Work } from "../work.ts";
import { halfOf, type Link } from "../../domain/link.ts";
import { BlockState } from "../table_schema.ts";
import { chunks, insertRows, ROWS, run } from "../statements.ts";
import { freeBlocks } from "../stock.ts";

export interface IngestBlocks extends Omit<BlockBatch, "link"> {
  readonly link: Link;
}

export const ingestBlocks: Operation<IngestBlocks, AddedBlocks> = {
  name: "ingestBlocks",
  async run(work, items) {
    const results: AddedBlocks[] = [];
    for (const item of items) results.push(await ingestOne(work, item));
    return results;
  },
};

async function ingestOne(work: Work, item: IngestBlocks): Promise<AddedBlocks> {
  const free = await freeBlocks(work.trx, item.link.id) + work.stock.of(item.link.id);
  let room = Math.max(0, item.maxFree - free);
  let taken = 0;
  const fresh: Block[] = [];
  const inBatch = new Set<string>();
  for (const part of chunks(item.blocks, ROWS)) {
    const seen = await seenAmong(work, part);
    for (const block of part) {
      const key = mapKey(block.id);
      const isNew = !seen.has(key) && !inBatch.has(key);
      if (isNew && room === 0) break;
      taken++;
      if (!isNew) continue;
      room--;
      inBatch.add(key);
      fresh.push(block);
    }
    if (room === 0 && taken < item.blocks.length) break;
  }
  await insertBlocks(work, item.link, fresh);
  await countBytes(work, fresh);
  work.stock.add(item.link.id, fresh.length);
  await recordProgress(work, item, taken);
  return { stored: fresh.length, known: taken - fresh.length, taken };
}

async function seenAmong(work: Work, blocks: readonly Block[]): Promise<Set<string>> {
  const ids = blocks.map((block) => buffer(block.id));
  const rows = await run(
    work,
    `seen ${ids.length}`,
    ids,
    () => work.trx.selectFrom("seen_blocks").select("block_id").where("block_id", "in", ids),
  );
  return new Set(rows.map((row) => mapKey(row.block_id)));
}

async function insertBlocks(work: Work, link: Link, blocks: readonly Block[]): Promise<void> {
  await insertRows(work, "seen_blocks", blocks.map((block) => ({ block_id: buffer(block.id) })));
  await insertRows(
    work,
    "blocks",
    blocks.map((block) => ({
      block_id: buffer(block.id),
      link_id: link.id,
      state: BlockState.free,
      half: halfOf(block.id),
      stored_at: work.now,
      bits: buffer(block.bits),
    })),
  );
}

async function countBytes({ trx, dialect }: Work, blocks: readonly Block[]): Promise<void> {
  if (blocks.length === 0) return;
  const { counts } = await dialect.forUpdate(
    trx.selectFrom("byte_counts").select("counts").where("one", "=", 1),
  )
    .executeTakeFirstOrThrow();
  const bytes = Uint8Array.from(counts);
  const view = new BigUint64Array(bytes.buffer);
  const added = new Uint32Array(256);
  for (const { bits } of blocks) {
    for (let i = 0; i < bits.length; i++) added[bits[i]!]!++; // an iterator takes several times as long
  }
  added.forEach((count, byte) => view[byte]! += BigInt(count));
  await trx.updateTable("byte_counts").set({ counts: buffer(bytes) }).where("one", "=", 1).execute();
}

async function recordProgress(
  { trx }: Work,
  { link, file, blocks }: IngestBlocks,
  taken: number,
): Promise<void> {
  const bytesTaken = file.offset + taken * (blocks[0]?.bits.length ?? 0);
  const progress = { size: file.size, mtime: Math.trunc(file.mtime), taken: bytesTaken };
  const updated = await trx.updateTable("key_files").set(progress)
    .where("link_id", "=", link.id).where("name", "=", file.name).executeTakeFirst();
  if (Number(updated.numUpdatedRows) > 0) return;
  await trx.insertInto("key_files").values({ link_id: link.id, name: file.name, ...progress }).execute();
}
