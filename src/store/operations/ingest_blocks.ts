/** Stores blocks of key files in a link's pool, each block at most once. */
import type { AddedBlocks, BlockBatch } from "../block_store.ts";
import type { Block } from "../../domain/block.ts";
import { buffer, mapKey } from "../../domain/bytes.ts";
import type { Operation, Work } from "../work.ts";
import type { Link } from "../../domain/link.ts";
import { fileTag } from "../../domain/stock_questions.ts";
import { openByteCounts } from "../encryption/byte_counts.ts";
import { BlockState } from "../table_schema.ts";
import { chunks } from "../../domain/chunks.ts";
import { insertRows, ROWS, run } from "../statements.ts";
import { insertBlocks, type NewBlock, seenAmong } from "../new_blocks.ts";
import { freeBlocks } from "../stock.ts";

export interface IngestBlocks extends Omit<BlockBatch, "link"> {
  readonly link: Link;
}

export const ingestBlocks: Operation<IngestBlocks, AddedBlocks> = {
  name: "ingestBlocks",
  async run(work, items) {
    const seen = await seenAmong(work, items.flatMap(({ blocks }) => blocks.map(({ id }) => id)));
    const free = new Map<number, number>();
    for (const { link: { id } } of items) {
      if (!free.has(id)) free.set(id, await freeBlocks(work.trx, id) + work.stock.of(id));
    }
    const fresh = new Map([...free.keys()].map((linkId): [number, NewBlock[]] => [linkId, []]));
    const results = items.map(({ link, blocks, maxFree, file }): AddedBlocks => {
      const tag = fileTag(file.digest);
      const ofLink = fresh.get(link.id)!;
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
          ofLink.push({ id: block.id, bits: block.bits, tag });
        }
        taken++;
      }
      free.set(link.id, free.get(link.id)! + stored);
      work.stock.add(link.id, stored);
      return { stored, known: taken - stored, taken };
    });
    for (const [linkId, blocks] of fresh) {
      await insertBlocks(work, { linkId, state: BlockState.free }, blocks);
    }
    await countBytes(work, [...fresh.values()].flat());
    await recordProgress(work, items, results);
    return results;
  },
};

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
