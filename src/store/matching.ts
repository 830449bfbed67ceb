/** Questions about what a link has ingested and still holds, for the agreement with its other end. */
import { type Kysely, sql } from "kysely";
import type { KeyIdBytes } from "../domain/block.ts";
import { buffer, mapKey } from "../domain/bytes.ts";
import { chunks } from "../domain/chunks.ts";
import type { KmeId } from "../domain/ids.ts";
import {
  addHashes,
  BlockPresence,
  DEVICE_KEYS_NAME,
  DEVICE_TAG,
  type FileTag,
  fileTag,
  hashOfId,
  type HeldFile,
  type StockFile,
  UNCONFIRMED_TAG,
} from "../domain/stock_questions.ts";
import { BlockState, type Schema } from "./table_schema.ts";

/** States in which a block can still become a key. */
const HELD: readonly number[] = [BlockState.free, BlockState.reserved, BlockState.unmatched];

const BLOCK_BYTES = 32;

/** Key files of a link of which blocks were ingested, except forgotten ones; a file that is there under several names once. */
export async function ingestedFiles(db: Kysely<Schema>, linkId: number): Promise<StockFile[]> {
  const rows = await db.selectFrom("key_files").select(["name", "digest", "taken"]).where(
    "link_id",
    "=",
    linkId,
  )
    .where("taken", ">", 0).execute();
  const forgotten = new Set(await forgottenFiles(db, linkId));
  const files = new Map<FileTag, StockFile>();
  for (const { name, digest, taken } of rows) {
    const tag = fileTag(digest);
    if (forgotten.has(tag)) continue;
    const blocks = taken / BLOCK_BYTES;
    if ((files.get(tag)?.blocks ?? 0) < blocks) files.set(tag, { tag, name, blocks });
  }
  return [...files.values()];
}

/** Files of which the operator has dropped the unmatched blocks. */
export async function forgottenFiles(db: Kysely<Schema>, linkId: number): Promise<FileTag[]> {
  const rows = await db.selectFrom("forgotten_files").select("file_tag").where("link_id", "=", linkId)
    .execute();
  return rows.map(({ file_tag }) => Number(file_tag));
}

/** Unmatched blocks of a link that came from one file. */
export interface UnmatchedOfFile {
  readonly tag: FileTag;
  /** Names under which the file was ingested; none when a later file has taken the name. */
  readonly names: readonly string[];
  readonly blocks: number;
}

/** Files of a link with unmatched blocks; none when the database does not know the link. */
export async function unmatchedFilesOf(db: Kysely<Schema>, kme: KmeId): Promise<UnmatchedOfFile[]> {
  const link = await db.selectFrom("links").select("id").where("kme_id", "=", kme).executeTakeFirst();
  if (link === undefined) return [];
  const rows = await db.selectFrom("key_files").select(["name", "digest"]).where("link_id", "=", link.id)
    .execute();
  const names = Map.groupBy(rows, ({ digest }) => fileTag(digest));
  return (await unmatchedByFile(db, link.id)).map(({ tag, blocks }) => ({
    tag,
    names: tag === DEVICE_TAG ? [DEVICE_KEYS_NAME] : (names.get(tag) ?? []).map(({ name }) => name),
    blocks,
  }));
}

/** Names of the files that these blocks came from, those of the most blocks first. Blocks that are gone have none. */
export async function fileNamesOf(
  db: Kysely<Schema>,
  linkId: number,
  ids: readonly KeyIdBytes[],
): Promise<string[]> {
  const counts = new Map<FileTag, number>();
  for (const part of chunks(ids, 2000)) {
    const rows = await db.selectFrom("blocks")
      .select((e) => ["file_tag", e.fn.countAll<number>().as("blocks")] as const)
      .where("block_id", "in", part.map(buffer)).where("link_id", "=", linkId).groupBy("file_tag").execute();
    for (const { file_tag, blocks } of rows) {
      const tag = Number(file_tag ?? 0);
      counts.set(tag, Number(blocks) + (counts.get(tag) ?? 0));
    }
  }
  if (counts.size === 0) return [];
  const files = await db.selectFrom("key_files").select(["name", "digest"]).where("link_id", "=", linkId)
    .execute();
  const names = new Map(files.map(({ name, digest }) => [fileTag(digest), name]));
  return [...counts].sort(([, a], [, b]) => b - a).map(([tag]) => nameOf(tag, names));
}

function nameOf(tag: FileTag, names: ReadonlyMap<FileTag, string>): string {
  return tag === DEVICE_TAG || tag === UNCONFIRMED_TAG ? DEVICE_KEYS_NAME : names.get(tag) ?? NO_NAME;
}

/** Of a file whose name a later one has taken. */
const NO_NAME = "(an earlier file)";

export interface BlockPage {
  readonly linkId: number;
  readonly states: readonly number[];
  /** Only blocks of these files; absent: of any. */
  readonly tags?: readonly FileTag[];
  /** Only blocks after this row. */
  readonly after: number;
  readonly limit: number;
}

export interface PageOfBlocks {
  readonly ids: readonly KeyIdBytes[];
  /** State of each. */
  readonly states: readonly number[];
  /** Where the next page begins; absent after the last one. */
  readonly next?: number;
}

/** Rows looked at in one page, so that no page keeps the database busy for long, however few of a large pool are asked for. */
const ROWS_A_PAGE = 16_384;

/** Blocks in the order in which they were stored. A page may be empty and have a next one. */
export async function blockPage(
  db: Kysely<Schema>,
  { linkId, states, tags, after, limit }: BlockPage,
): Promise<PageOfBlocks> {
  // One by one: for both in one statement SQLite reads the whole index.
  const first = await db.selectFrom("blocks").select((e) => e.fn.min("seq").as("seq")).executeTakeFirst();
  const last = await db.selectFrom("blocks").select((e) => e.fn.max("seq").as("seq")).executeTakeFirst();
  const end = Number(last?.seq ?? 0);
  const begin = Math.max(after, Number(first?.seq ?? 0) - 1);
  const until = begin + ROWS_A_PAGE;
  const rows = await db.selectFrom("blocks").select(["seq", "block_id", "state"])
    .where("link_id", "=", linkId)
    // The index of unmatched blocks is right here, which SQLite uses for a literal. That of free blocks, by halves, is not: all
    // free blocks would be read for each page, so the condition is one that no index fits.
    .where((e) =>
      e.or(
        states.map((state) =>
          state === BlockState.unmatched
            ? e("state", "=", sql.lit(state))
            : e(sql<number>`${sql.ref("state")} + 0`, "=", state)
        ),
      )
    )
    .where("seq", ">", begin).where("seq", "<=", until)
    .$if(tags !== undefined, (query) => query.where("file_tag", "in", tags!))
    .orderBy("seq").limit(limit).execute();
  return {
    ids: rows.map((row) => Uint8Array.from(row.block_id)),
    states: rows.map((row) => row.state),
    next: rows.length === limit ? rows.at(-1)!.seq : until < end ? until : undefined,
  };
}

export interface HeldPage {
  readonly files: readonly HeldFile[];
  readonly next?: number;
}

/** What is held of each file, over the next blocks in the order in which they were stored: pages are to be added up. */
export async function heldPage(
  db: Kysely<Schema>,
  { linkId, after, limit }: { linkId: number; after: number; limit: number },
): Promise<HeldPage> {
  const rows = await db.selectFrom("blocks").select(["seq", "block_id", "file_tag"])
    .where("link_id", "=", linkId).where("state", "in", HELD).where("seq", ">", after)
    .orderBy("seq").limit(limit).execute();
  const files = new Map<FileTag, { tag: FileTag; blocks: number; hash: number }>();
  for (const { block_id, file_tag } of rows) {
    if (file_tag === null) continue;
    const tag = Number(file_tag);
    let file = files.get(tag);
    if (file === undefined) files.set(tag, file = { tag, blocks: 0, hash: 0 });
    file.blocks++;
    file.hash = addHashes(file.hash, hashOfId(block_id));
  }
  return { files: [...files.values()], next: rows.length < limit ? undefined : rows.at(-1)!.seq };
}

/** A {@linkcode BlockPresence} for each block. */
export async function presenceOf(
  db: Kysely<Schema>,
  linkId: number,
  ids: readonly KeyIdBytes[],
): Promise<Uint8Array> {
  const states = new Map<string, number>();
  for (const part of chunks(ids, 2000)) {
    const rows = await db.selectFrom("blocks").select(["block_id", "state"])
      .where("block_id", "in", part.map(buffer)).where("link_id", "=", linkId).execute();
    for (const row of rows) states.set(mapKey(row.block_id), row.state);
  }
  const seen = new Set<string>();
  for (const part of chunks(ids.filter((id) => !states.has(mapKey(id))), 2000)) {
    const rows = await db.selectFrom("seen_blocks").select("block_id")
      .where("block_id", "in", part.map(buffer)).execute();
    for (const row of rows) seen.add(mapKey(row.block_id));
  }
  return Uint8Array.from(ids, (id) => {
    const state = states.get(mapKey(id));
    if (state !== undefined) return HELD.includes(state) ? BlockPresence.held : BlockPresence.gone;
    return seen.has(mapKey(id)) ? BlockPresence.gone : BlockPresence.absent;
  });
}

/** Unmatched blocks of each file. Those that wait for their confirmation are no difference. */
export async function unmatchedByFile(
  db: Kysely<Schema>,
  linkId: number,
): Promise<{ tag: FileTag; blocks: number }[]> {
  const rows = await db.selectFrom("blocks")
    .select((e) => ["file_tag", e.fn.countAll<number>().as("blocks")] as const)
    .where("link_id", "=", linkId).where("state", "=", sql.lit(BlockState.unmatched))
    .where("file_tag", "!=", UNCONFIRMED_TAG).groupBy("file_tag").execute();
  return rows.map(({ file_tag, blocks }) => ({ tag: Number(file_tag ?? 0), blocks: Number(blocks) }));
}
