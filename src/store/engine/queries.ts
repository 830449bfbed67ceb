/** The queries of the store, by name. */
import type { FileProgress } from "../block_store.ts";
import type { KeyIdBytes } from "../../domain/block.ts";
import { buffer } from "../../domain/bytes.ts";
import { shannonEntropy } from "../../domain/entropy.ts";
import { freeAmong } from "../free_among.ts";
import type { Link } from "../../domain/link.ts";
import type { FileTag, StockFile } from "../../domain/stock_questions.ts";
import {
  type BlockPage,
  blockPage,
  fileNamesOf,
  forgottenFiles,
  type HeldPage,
  heldPage,
  ingestedFiles,
  type PageOfBlocks,
  presenceOf,
  unmatchedByFile,
} from "../matching.ts";
import { openByteCounts } from "../encryption/byte_counts.ts";
import { currentGeneration } from "../operations/advance_generation.ts";
import { keptCrls } from "../operations/keep_crl.ts";
import { type OpenedBatch, openedBatches, type OpenedBatchesOf } from "../operations/device_batches.ts";
import { livingProcesses } from "../operations/leases.ts";
import { keysWaiting } from "../operations/waiting.ts";
import { freeBlocks } from "../stock.ts";
import { BlockState } from "../table_schema.ts";
import { sql } from "kysely";
import type { SaeId } from "../../domain/ids.ts";
import type { Query } from "./executor.ts";

/** Whether the database answers. */
export const pingQuery: Query<null, null> = {
  name: "ping",
  run: async (db) => {
    await sql`select 1`.execute(db);
    return null;
  },
};

/** Writes all of SQLite's write-ahead log into the database file, and leaves the log empty. */
export const truncateLogQuery: Query<null, null> = {
  name: "truncateLog",
  run: async (db) => {
    await sql`pragma wal_checkpoint(truncate)`.execute(db);
    return null;
  },
};

/** The blocks of these that are free on the link now. */
export const freeAmongQuery: Query<{ link: Link; ids: readonly KeyIdBytes[] }, KeyIdBytes[]> = {
  name: "freeAmong",
  run: (db, { link, ids }) => freeAmong(db, link.id, ids),
};

/** Whether keys of this transaction, received over this link, are stored. */
export const hasTransactionQuery: Query<{ link: Link; transaction: KeyIdBytes }, boolean> = {
  name: "hasTransaction",
  run: async (db, { link, transaction }) => {
    const row = await db.selectFrom("deliveries").select("delivery_id")
      .where("transaction_id", "=", buffer(transaction)).where("link_id", "=", link.id).limit(1)
      .executeTakeFirst();
    return row !== undefined;
  },
};

export const generationQuery: Query<null, number> = {
  name: "generation",
  run: (db) => currentGeneration(db),
};

/** DER of the newest CRL of each CA. */
export const keptCrlsQuery: Query<null, Uint8Array[]> = { name: "keptCrls", run: (db) => keptCrls(db) };

/** Other processes whose lease has not ended; `now` in milliseconds since 1970. */
export const livingProcessesQuery: Query<{ now: number; processId: Uint8Array }, number> = {
  name: "livingProcesses",
  run: (db, { now, processId }) => livingProcesses(db, now, processId),
};

export const fileProgressQuery: Query<{ link: Link; names: readonly string[] }, FileProgress[]> = {
  name: "fileProgress",
  run: async (db, { link, names }) => {
    if (names.length === 0) return [];
    const rows = await db.selectFrom("key_files").selectAll()
      .where("link_id", "=", link.id).where("name", "in", names).execute();
    return rows.map(({ name, size, digest, taken }) => ({
      name,
      size,
      digest: Uint8Array.from(digest),
      offset: taken,
    }));
  },
};

export const freeBlocksQuery: Query<{ link: Pick<Link, "id"> }, number> = {
  name: "freeBlocks",
  run: (db, { link }) => freeBlocks(db, link.id),
};

/** Keys that a slave has not fetched yet; `now` in milliseconds since 1970. */
export const keysWaitingQuery: Query<{ now: number; master?: SaeId }, number> = {
  name: "keysWaiting",
  run: (db, { now, master }) => keysWaiting(db, now, master),
};

/** Shannon entropy in bits per byte over the bytes of all blocks ever stored. */
export const totalEntropyQuery: Query<null, number> = {
  name: "totalEntropy",
  run: async (db, _, cipher) => {
    const { counts } = await db.selectFrom("byte_counts").select("counts").executeTakeFirstOrThrow();
    const bytes = openByteCounts(cipher, counts);
    return shannonEntropy(Array.from(new BigUint64Array(bytes.buffer), Number));
  },
};

/** The lowest and the highest `seq` of the link's free blocks; `undefined`: there are none. */
export const freeRangeQuery: Query<{ link: Pick<Link, "id"> }, FreeRange | undefined> = {
  name: "freeRange",
  run: async (db, { link }) => {
    const seqs: number[] = [];
    for (const half of [0, 1]) {
      for (const order of ["asc", "desc"] as const) {
        const row = await db.selectFrom("blocks").select("seq").where("link_id", "=", link.id)
          .where("state", "=", sql.lit(BlockState.free)).where("half", "=", half).orderBy("seq", order).limit(
            1,
          )
          .executeTakeFirst();
        if (row !== undefined) seqs.push(Number(row.seq));
      }
    }
    return seqs.length === 0 ? undefined : { first: Math.min(...seqs), last: Math.max(...seqs) };
  },
};

export interface FreeRange {
  readonly first: number;
  readonly last: number;
}

export const ingestedFilesQuery: Query<{ link: Pick<Link, "id"> }, StockFile[]> = {
  name: "ingestedFiles",
  run: (db, { link }) => ingestedFiles(db, link.id),
};

/** Files of which the operator has dropped the unmatched blocks. */
export const forgottenFilesQuery: Query<{ link: Pick<Link, "id"> }, FileTag[]> = {
  name: "forgottenFiles",
  run: (db, { link }) => forgottenFiles(db, link.id),
};

/** Names of the files that blocks came from. */
export const fileNamesQuery: Query<{ link: Pick<Link, "id">; ids: readonly KeyIdBytes[] }, string[]> = {
  name: "fileNames",
  run: (db, { link, ids }) => fileNamesOf(db, link.id, ids),
};

export const blockPageQuery: Query<BlockPage, PageOfBlocks> = { name: "blockPage", run: blockPage };

export const heldPageQuery: Query<{ linkId: number; after: number; limit: number }, HeldPage> = {
  name: "heldPage",
  run: heldPage,
};

/** A `BlockPresence` for each block. */
export const presenceQuery: Query<{ link: Pick<Link, "id">; ids: readonly KeyIdBytes[] }, Uint8Array> = {
  name: "presence",
  run: (db, { link, ids }) => presenceOf(db, link.id, ids),
};

export const unmatchedByFileQuery: Query<{ link: Pick<Link, "id"> }, { tag: FileTag; blocks: number }[]> = {
  name: "unmatchedByFile",
  run: (db, { link }) => unmatchedByFile(db, link.id),
};

/** The database of the other end with which the stocks were compared block by block last. */
export const peerDatabaseQuery: Query<{ link: Pick<Link, "id"> }, string | null> = {
  name: "peerDatabase",
  run: async (db, { link }) => {
    const row = await db.selectFrom("links").select("peer_database").where("id", "=", link.id)
      .executeTakeFirstOrThrow();
    return row.peer_database;
  },
};

/** Batches of device keys that are not settled, and that no other process works on. */
export const openedBatchesQuery: Query<OpenedBatchesOf, OpenedBatch[]> = {
  name: "openedBatches",
  run: openedBatches,
};

/** All of them. */
export const QUERIES = [
  pingQuery,
  truncateLogQuery,
  freeAmongQuery,
  hasTransactionQuery,
  generationQuery,
  keptCrlsQuery,
  livingProcessesQuery,
  fileProgressQuery,
  freeBlocksQuery,
  keysWaitingQuery,
  totalEntropyQuery,
  freeRangeQuery,
  ingestedFilesQuery,
  forgottenFilesQuery,
  fileNamesQuery,
  blockPageQuery,
  heldPageQuery,
  presenceQuery,
  unmatchedByFileQuery,
  peerDatabaseQuery,
  openedBatchesQuery,
] as const;
