/** Stores blocks of key files in a link's pool, each block at most once. */
import type { AddedBlocks, BlockBatch } from "../block_store.ts";
import type { Block } from "../../domain/block.ts";
import { buffer, mapKey } from "../../domain/bytes.ts";
import type { Operation, Work } from "../work.ts";
import { halfOf, type Link } from "../../domain/link.ts";
import { type FileTag, fileTag } from "../../domain/stock_questions.ts";
import { openByteCounts } from "../encryption/byte_counts.ts";
import { BlockState } from "../table_schema.ts";
import { chunks } from "../../domain/chunks.ts";
import { insertRows, ROWS, run } from "../statements.ts";
import { freeBlocks } from "../stock.ts";

export interface IngestBlocks extends Omit<BlockBatch, "link"> {
  readonly link: Link;
}

export const ingestBlocks: Operation<IngestBlocks, AddedBlocks> = {
  name: "ingestBlocks",
  async run(work, items) {
    const seen = await seenAmong(work, items.flatMap((item) => item.blocks));
    const free = new Map<number, number>();
    for (const { link: { id } } of items) {
      if (!free.has(id)) free.set(id, await freeBlocks(work.trx, id) + work.stock.of(id));
    }
    const fresh: FreshBlock[] = [];
    const results = items.map(({ link, blocks, maxFree, file }): AddedBlocks => {
      const tag = fileTag(file.digest);
      let room = Math.max(0, maxFree - free.get(link.id)!);
      let taken = 0;
      let stored = 0;
      for (const block of blocks) {
        const key = mapKey(block.id);
        if (!seen.has(key)) {
          if (room === 0) break;
          room--;
          stored++;
          seen.add(key);
          fresh.push({ ...block, linkId: link.id, tag, state: BlockState.free });
        }
        taken++;
      }
      free.set(link.id, free.get(link.id)! + stored);
      work.stock.add(link.id, stored);
      return { stored, known: taken - stored, taken };
    });
    await insertBlocks(work, fresh);
    await countBytes(work, fresh);
    await recordProgress(work, items, results);
    return results;
  },
};

/** The most that a row can grow: by a reservation, or by a key_ID, a delivery and a composition. */
const SPARE = buffer(new Uint8Array(40));

export interface FreshBlock extends Block {
  readonly linkId: number;
  readonly tag: FileTag;
  readonly state: number;
}

/** Those of the blocks that were stored before, at any time. */
export async function seenAmong(work: Work, blocks: readonly Pick<Block, "id">[]): Promise<Set<string>> {
  const seen = new Set<string>();
  for (const part of chunks(blocks, ROWS)) {
    const ids = part.map((block) => buffer(block.id));
    const build = () => work.trx.selectFrom("seen_blocks").select("block_id").where("block_id", "in", ids);
    for (const row of await run(work, `seen ${ids.length}`, ids, build)) seen.add(mapKey(row.block_id));
  }
  return seen;
}

/** The caller counts them as stock. */
export async function insertBlocks(work: Work, blocks: readonly FreshBlock[]): Promise<void> {
  await insertRows(work, "seen_blocks", blocks.map((block) => ({ block_id: buffer(block.id) })));
  await insertRows(
    work,
    "blocks",
    blocks.map((block) => ({
      block_id: buffer(block.id),
      link_id: block.linkId,
      state: block.state,
      half: halfOf(block.id),
      stored_at: work.now,
      file_tag: block.tag,
      bits: work.cipher.seal({ block: block.id, linkId: block.linkId }, block.bits),
      spare: SPARE,
    })),
  );
}

/** Adds the bytes of new blocks to the counts of which the entropy is computed. */
export async function countBytes({ trx, dialect, cipher }: Work, blocks: readonly Block[]): Promise<void> {
  // Bits that nobody can read again do not count, and the counts stay readable if nothing is burnt after all.
  if (blocks.length === 0 || cipher.madeFrom === undefined) return;
  const { counts } = await dialect.forUpdate(
    trx.selectFrom("byte_counts").select("counts").where("one", "=", 1),
  )
    .executeTakeFirstOrThrow();
  const bytes = openByteCounts(cipher, counts);
  const view = new BigUint64Array(bytes.buffer);
  const added = new Uint32Array(256);
  for (const { bits } of blocks) {
    for (let i = 0; i < bits.length; i++) added[bits[i]!]!++; // an iterator is several times slower
  }
  added.forEach((count, byte) => view[byte]! += BigInt(count));
  await trx.updateTable("byte_counts").set({ counts: cipher.seal("byteCounts", bytes) }).where("one", "=", 1)
    .execute();
}

/** The last progress counts if a file occurs several times. */
async function recordProgress(
  work: Work,
  items: readonly IngestBlocks[],
  results: readonly AddedBlocks[],
): Promise<void> {
  const rows = new Map(items.map(({ link, file, blocks }, i) => {
    const taken = file.offset + results[i]!.taken * (blocks[0]?.bits.length ?? 0);
    const row = { link_id: link.id, name: file.name, size: file.size, digest: buffer(file.digest), taken };
    return [`${link.id}/${file.name}`, row];
  }));
  for (const linkId of new Set(items.map((item) => item.link.id))) {
    const ofLink = [...rows.values()].filter((row) => row.link_id === linkId);
    for (const part of chunks(ofLink, ROWS)) {
      const names = part.map((row) => row.name);
      const build = () =>
        work.trx.deleteFrom("key_files").where("link_id", "=", linkId).where("name", "in", names);
      await run(work, `forget files ${names.length}`, [linkId, ...names], build);
      await insertRows(work, "key_files", part);
    }
  }
}
