/** Takes blocks out of the stock that the other end of a link does not have, and puts them back when it has them. */
import { sql } from "kysely";
import type { KeyIdBytes } from "../../domain/block.ts";
import { buffer } from "../../domain/bytes.ts";
import { chunks } from "../../domain/chunks.ts";
import type { Link } from "../../domain/link.ts";
import { type FileTag, UNCONFIRMED_TAG } from "../../domain/stock_questions.ts";
import { isInState } from "../statements.ts";
import { BlockState } from "../table_schema.ts";
import { oneByOne, type Operation, type Work } from "../work.ts";

export interface MatchBlocks {
  readonly link: Link;
  /** Free blocks that the other end does not have. */
  readonly unmatched?: readonly KeyIdBytes[];
  /** Unmatched blocks that the other end has. */
  readonly matched?: readonly KeyIdBytes[];
  /** All unmatched blocks are free again, except those of a device that wait for their confirmation. */
  readonly matchAll?: boolean;
  /**
   * Unmatched blocks of this file are removed, at most {@linkcode MAX_FORGOTTEN} at once: they are never used, and the other
   * end is not told of the file any more.
   */
  readonly forget?: FileTag;
  /** The database of the other end with which the stocks have been compared block by block. */
  readonly peerDatabase?: string;
}

/** Rows that one transaction removes: a server has a few seconds for each statement. */
export const MAX_FORGOTTEN = 5000;

/** The number of blocks that changed. */
export const matchBlocks: Operation<MatchBlocks, number> = oneByOne("matchBlocks", matchOne);

async function matchOne(work: Work, item: MatchBlocks) {
  const { link, unmatched = [], matched = [], matchAll, forget, peerDatabase } = item;
  const { free, unmatched: away } = BlockState;
  let [taken, back, gone] = [0, 0, 0];
  for (const part of chunks(unmatched, 500)) taken += await change(work, link, part, free, away);
  for (const part of chunks(matched, 500)) back += await change(work, link, part, away, free);
  if (matchAll) {
    const { numUpdatedRows } = await work.trx.updateTable("blocks").set({ state: free })
      .where("link_id", "=", link.id).where("state", "=", sql.lit(away)).where(
        "file_tag",
        "!=",
        UNCONFIRMED_TAG,
      )
      .executeTakeFirst();
    back += Number(numUpdatedRows);
  }
  if (forget !== undefined) gone += await forgetFile(work, link, forget);
  if (peerDatabase !== undefined) {
    await work.trx.updateTable("links").set({ peer_database: peerDatabase }).where("id", "=", link.id)
      .execute();
  }
  work.stock.add(link.id, back - taken);
  return taken + back + gone;
}

async function forgetFile({ trx }: Work, link: Link, tag: FileTag): Promise<number> {
  const known = await trx.selectFrom("forgotten_files").select("file_tag").where("link_id", "=", link.id)
    .where("file_tag", "=", tag).executeTakeFirst();
  if (known === undefined) {
    await trx.insertInto("forgotten_files").values({ link_id: link.id, file_tag: tag }).execute();
  }
  const rows = await trx.selectFrom("blocks").select("seq").where("link_id", "=", link.id)
    .where("state", "=", BlockState.unmatched).where("file_tag", "=", tag).orderBy("seq").limit(MAX_FORGOTTEN)
    .execute();
  for (const part of chunks(rows, 500)) {
    await trx.deleteFrom("blocks").where("seq", "in", part.map(({ seq }) => seq))
      .where("state", "=", BlockState.unmatched).execute();
  }
  return rows.length;
}

async function change({ trx }: Work, link: Link, ids: readonly KeyIdBytes[], from: number, to: number) {
  const { numUpdatedRows } = await trx.updateTable("blocks").set({ state: to })
    .where("block_id", "in", ids.map(buffer)).where("link_id", "=", link.id).where(isInState(from))
    .executeTakeFirst();
  return Number(numUpdatedRows);
}
