/** Bits that are not those that were stored in their row: altered, or those of another row. */
import type { KeyIdBytes } from "../domain/block.ts";
import { chunks } from "../domain/chunks.ts";
import { ROWS, run } from "./statements.ts";
import { BlockState } from "./table_schema.ts";
import type { Work } from "./work.ts";

export interface DamagedBits {
  readonly what: "block" | "key";
  readonly id: KeyIdBytes;
  readonly linkId: number;
}

/** A damaged block, locked by this transaction. */
export interface DamagedBlock {
  readonly seq: number;
  readonly block_id: Uint8Array;
  readonly link_id: number;
  readonly state: number;
}

/** Takes damaged blocks out of the stock for good; their rows stay for an investigation. Reserved ones stay reserved. */
export async function removeDamaged(work: Work, blocks: readonly DamagedBlock[]): Promise<void> {
  const idle = blocks.filter(({ state }) => state === BlockState.free || state === BlockState.unmatched);
  for (const { state, link_id } of idle) if (state === BlockState.free) work.stock.add(link_id, -1);
  for (const part of chunks(idle.map(({ seq }) => seq), ROWS)) {
    await run(
      work,
      `damaged ${part.length}`,
      [BlockState.damaged, ...part],
      () => work.trx.updateTable("blocks").set({ state: BlockState.damaged }).where("seq", "in", part),
    );
  }
  for (const { block_id, link_id } of blocks) {
    work.damaged.push({ what: "block", id: Uint8Array.from(block_id), linkId: link_id });
  }
}
