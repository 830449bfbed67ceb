/**
 * Blocks that come into the database. Where a statement can read JSON, it gets all digests in one value and
 * all bits in another: to pass each of them takes longer than to use it.
 */
import { type CompiledQuery, type RawBuilder, sql } from "kysely";
import type { Block, KeyIdBytes } from "../domain/block.ts";
import { buffer, fromMapKeys, joinBytes, mapKey } from "../domain/bytes.ts";
import { chunks } from "../domain/chunks.ts";
import { halfOf } from "../domain/link.ts";
import type { FileTag } from "../domain/stock_questions.ts";
import { joinBits, type StoredBits } from "./encryption/bits_cipher.ts";
import { insertRows, ROWS, run } from "./statements.ts";
import type { Work } from "./work.ts";

export interface NewBlock extends Block {
  readonly tag: FileTag;
}

/** What new blocks become. */
export interface Destination {
  readonly linkId: number;
  readonly state: number;
}

/** The most that a row can grow: by a reservation, or by a key_ID, a delivery and a composition. */
const SPARE = buffer(new Uint8Array(40));

const ID_BYTES = 16;

/** Those of the blocks that were stored before, at any time, as keys of a map. */
export async function seenAmong(work: Work, ids: readonly KeyIdBytes[]): Promise<Set<string>> {
  const seen = new Set<string>();
  for (const part of inOrder(ids)) {
    for (const { block_id } of await readSeen(work, part)) seen.add(mapKey(block_id));
  }
  return seen;
}

function readSeen(work: Work, part: readonly string[]): Promise<{ block_id: Uint8Array }[]> {
  if (!work.dialect.readsJson) {
    const ids = part.map((id) => fromMapKeys([id]));
    const build = () => work.trx.selectFrom("seen_blocks").select("block_id").where("block_id", "in", ids);
    return run(work, `seen ${ids.length}`, ids, build);
  }
  const parameters = [placeholders(part.length), fromMapKeys(part)] as const;
  const [list, ids] = parameters;
  // A cross join is done in this order.
  return run(work, "seen in list", parameters, () =>
    compiled(
      work,
      sql<{ block_id: Uint8Array }>`select block_id from json_each(${list}) cross join seen_blocks
        on block_id = substr(${ids}, key * 16 + 1, 16)`,
    ));
}

/** Records that blocks were stored, or may never be. */
export async function recordSeen(work: Work, ids: readonly KeyIdBytes[]): Promise<void> {
  for (const part of inOrder(ids)) {
    if (!work.dialect.readsJson) {
      await insertRows(work, "seen_blocks", part.map((id) => ({ block_id: fromMapKeys([id]) })));
      continue;
    }
    const parameters = [fromMapKeys(part), placeholders(part.length)] as const;
    const [ids, list] = parameters;
    await run(work, "insert seen list", parameters, () =>
      compiled(
        work,
        sql`insert into seen_blocks (block_id) select substr(${ids}, key * 16 + 1, 16) from json_each(${list})`,
      ));
  }
}

/** Inserts blocks, in their order. The caller counts them as stock. */
export async function insertBlocks(
  work: Work,
  to: Destination,
  blocks: readonly NewBlock[],
): Promise<void> {
  await recordSeen(work, blocks.map(({ id }) => id));
  for (const part of chunks(blocks, ROWS)) {
    await (work.dialect.readsJson ? insertList(work, to, part) : insertEach(work, to, part));
  }
}

async function insertList(work: Work, { linkId, state }: Destination, blocks: readonly NewBlock[]) {
  const ids = joinBytes(blocks.map(({ id }) => id), ID_BYTES);
  const { bytes: bits, length } = joinBits(seal(work, linkId, blocks));
  // The tag of the file, then a bit for the half: one number for each block.
  const numbers = `[${blocks.map(({ id, tag }) => 2 * tag + halfOf(id)).join()}]`;
  const parameters = [ids, linkId, state, work.now, bits, length, length, SPARE, numbers];
  try {
    await run(work, "insert block list", parameters, () =>
      compiled(
        work,
        sql`insert into blocks (block_id, link_id, state, half, stored_at, file_tag, bits, spare)
          select substr(${ids}, key * 16 + 1, 16), ${linkId}, ${state}, value & 1, ${work.now}, value >> 1,
            substr(${bits}, key * ${length} + 1, ${length}), ${SPARE}
          from json_each(${numbers})`,
      ));
  } finally {
    bits.fill(0);
  }
}

async function insertEach(work: Work, { linkId, state }: Destination, blocks: readonly NewBlock[]) {
  const bits = seal(work, linkId, blocks);
  await insertRows(
    work,
    "blocks",
    blocks.map(({ id, tag }, i) => ({
      block_id: buffer(id),
      link_id: linkId,
      state,
      half: halfOf(id),
      stored_at: work.now,
      file_tag: tag,
      bits: bits[i]!,
      spare: SPARE,
    })),
  );
}

function seal({ cipher }: Work, linkId: number, blocks: readonly NewBlock[]): StoredBits[] {
  return blocks.map(({ id, bits }) => cipher.seal({ block: id, linkId }, bits));
}

/**
 * Parts of the ids for one statement each, as keys of a map. In the order of the index: it is read and written page by page then,
 * each once. The ids are random, so a large batch touches more pages than are cached.
 */
function inOrder(ids: readonly KeyIdBytes[]): Iterable<string[]> {
  return chunks(ids.map(mapKey).sort(), ROWS);
}

/** So many elements, of which only the places are read. */
function placeholders(count: number): string {
  return `[${"0,".repeat(count - 1)}0]`;
}

function compiled<Row>({ trx }: Work, query: RawBuilder<Row>): { compile(): CompiledQuery<Row> } {
  return { compile: () => query.compile(trx) };
}
