/** Which of some blocks are free. */
import type { Kysely } from "kysely";
import type { KeyIdBytes } from "../domain/block.ts";
import { buffer } from "../domain/bytes.ts";
import { BlockState, type Schema } from "./table_schema.ts";
import { chunks } from "../domain/chunks.ts";

/** Those of the blocks that the peer of the link may have now. */
export async function freeAmong(
  db: Kysely<Schema>,
  linkId: number,
  blocks: readonly KeyIdBytes[],
): Promise<KeyIdBytes[]> {
  const free: KeyIdBytes[] = [];
  for (const part of chunks(blocks, 2000)) {
    const rows = await db.selectFrom("blocks").select("block_id").where("block_id", "in", part.map(buffer))
      .where("link_id", "=", linkId).where("state", "in", [BlockState.free, BlockState.unmatched]).execute();
    for (const row of rows) free.push(Uint8Array.from(row.block_id));
  }
  return free;
}
