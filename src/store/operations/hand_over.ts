/** Records keys that are handed over, and the SAEs that may read them. */
import { Buffer } from "node:buffer";
import type { KeyIdBytes } from "../../domain/block.ts";
import type { KmeId, SaeId } from "../../domain/ids.ts";
import { buffer } from "../../domain/bytes.ts";
import type { Work } from "../work.ts";
import { halfOf } from "../../domain/link.ts";
import { BlockState } from "../table_schema.ts";
import { blocksToKeys, deleteBlocks, insertRows, type KeyOfBlock, type ToKeys } from "../statements.ts";
import type { LinkTransaction } from "./voided.ts";

/** A block that becomes a key, or a part of one; locked by this transaction. */
export interface UsedBlock {
  readonly seq: number;
  readonly block_id: Uint8Array;
  readonly link_id: number;
}

export interface NewKey {
  readonly id: KeyIdBytes;
  /** Absent if no slave reads the key here: then only a record of the hand-over is kept. */
  readonly bits?: Uint8Array;
  /** At least one block: those that it is made of, or was encrypted with. */
  readonly blocks: readonly UsedBlock[];
  /** Whether the key is exactly its one block: it stays in the row of the block. */
  readonly whole: boolean;
  /** Whether the neighbour may take the key back; its blocks are then free again. */
  readonly returnable?: boolean;
}

/** Keys that are handed over together. */
export interface NewDelivery {
  /** The KME whose SAE asked for the keys. */
  readonly origin: KmeId;
  readonly master: SaeId;
  readonly slaves: readonly SaeId[];
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
  /** The neighbour's transaction that made the keys. */
  readonly transaction?: LinkTransaction;
  /** At least one. */
  readonly keys: readonly NewKey[];
}

export async function handOver(work: Work, deliveries: readonly NewDelivery[]): Promise<void> {
  if (deliveries.length === 0) return;
  const { now } = work;
  await insertRows(
    work,
    "deliveries",
    deliveries.map((delivery) => ({
      delivery_id: deliveryId(delivery),
      origin_kme: delivery.origin,
      master_sae: delivery.master,
      created_at: now,
      expires_at: delivery.expiresAt,
      transaction_id: delivery.transaction === undefined ? null : buffer(delivery.transaction.id),
      link_id: delivery.transaction?.linkId ?? null,
    })),
  );
  await insertRows(
    work,
    "delivery_slaves",
    deliveries.flatMap((delivery) =>
      delivery.slaves.map((sae) => ({ delivery_id: deliveryId(delivery), sae_id: sae }))
    ),
  );
  await keepWhole(work, deliveries);
  await replaceOthers(work, deliveries);
}

/** A number that no other delivery has: that of one of its blocks, which is used only once. */
function deliveryId({ keys }: NewDelivery): number {
  return keys[0]!.blocks[0]!.seq;
}

/** Keys that are exactly one block: the row stays and gets the key_ID. */
async function keepWhole(work: Work, deliveries: readonly NewDelivery[]): Promise<void> {
  // Most deliveries have one key. They share a statement, and have the numbers of their blocks.
  const changes = new Map<string, { change: ToKeys; keys: KeyOfBlock[] }>();
  for (const delivery of deliveries) {
    for (const { id, whole, bits, blocks, returnable = false } of delivery.keys) {
      if (!whole) continue;
      const { seq } = blocks[0]!;
      const change = {
        delivery: deliveryId(delivery) === seq ? "own" : deliveryId(delivery),
        keepBits: bits !== undefined,
        returnable,
      } as const;
      const key = `${change.delivery} ${change.keepBits} ${change.returnable}`;
      const same = changes.get(key);
      if (same === undefined) changes.set(key, { change, keys: [{ seq, id }] });
      else same.keys.push({ seq, id });
    }
  }
  for (const { change, keys } of changes.values()) await blocksToKeys(work, change, keys);
}

async function replaceOthers(work: Work, deliveries: readonly NewDelivery[]): Promise<void> {
  const spent: number[] = [];
  const rows = deliveries.flatMap((delivery) =>
    delivery.keys.flatMap(({ id, bits, blocks, whole, returnable }) => {
      if (whole) return [];
      for (const { seq } of blocks) spent.push(seq);
      return [{
        block_id: null,
        key_id: buffer(id),
        link_id: blocks[0]!.link_id,
        state: BlockState.key,
        half: halfOf(id),
        stored_at: work.now,
        reservation_id: null,
        delivery_id: deliveryId(delivery),
        bits: bits === undefined ? null : work.cipher.seal({ key: id, linkId: blocks[0]!.link_id }, bits),
        composition: returnable ? Buffer.concat(blocks.map((block) => block.block_id)) : null,
      }];
    })
  );
  if (rows.length === 0) return;
  await deleteBlocks(work, spent);
  await insertRows(work, "blocks", rows);
}
