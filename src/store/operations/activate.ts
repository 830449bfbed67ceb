/**
 * Activates keys that a master SAE of another KME got. Blocks of the link with the sending peer become keys that wait for slaves
 * of this KME; or they are the pad that decrypts the received keys.
 */
import type { KeyIdBytes } from "../../domain/block.ts";
import type { KmeId, SaeId } from "../../domain/ids.ts";
import { buffer, mapKey } from "../../domain/bytes.ts";
import type { Operation, Work } from "../work.ts";
import { applyPad, composeBits, isWholeBlock, type Key } from "../../domain/key.ts";
import type { Link } from "../../domain/link.ts";
import type { NotNull } from "kysely";
import type { TransactionKey } from "../../domain/transaction.ts";
import { removeDamaged } from "../damaged_bits.ts";
import type { StoredBits } from "../encryption/bits_cipher.ts";
import { BlockState, ReservationPhase } from "../table_schema.ts";
import { chunks } from "../../domain/chunks.ts";
import { seenAmong } from "../new_blocks.ts";
import { partsToLock, ROWS, run } from "../statements.ts";
import { handOver, type NewDelivery, type UsedBlock } from "./hand_over.ts";
import {
  holdTransactions,
  letGoTransactions,
  type LinkTransaction,
  transactionKey,
  voidedAmong,
} from "./voided.ts";

export interface PeerActivation {
  /** With the peer that sends. */
  readonly link: Link;
  /** The KME of the master. */
  readonly origin: KmeId;
  readonly keys: readonly TransactionKey[];
  readonly master: SaeId;
  /** Empty on a KME that only passes the key on. */
  readonly slaves: readonly SaeId[];
  readonly expiresAt: number;
  /** A message of the same transaction is a repetition. */
  readonly transaction?: KeyIdBytes;
  /** Without a transaction: an activation for the same SAEs since this time is a repetition. */
  readonly repeatableSince?: number;
  /** Nothing may be activated: it is refused unless it is a repetition. */
  readonly onlyRepeated?: boolean;
}

export type Activated =
  | { readonly kind: "activated"; readonly keys: readonly Key[] }
  /** The activation was made before; nothing changed. */
  | { readonly kind: "repeated" }
  /** The transaction was taken back before; nothing changed. */
  | { readonly kind: "voided" }
  /** At least one block is not free here, or nothing may be activated; nothing changed. */
  | {
    readonly kind: "refused";
    readonly blocks: readonly KeyIdBytes[];
    /** The blocks of these that were never stored here: they may still be ingested. */
    readonly absent: readonly KeyIdBytes[];
  };

interface StoredBlock extends UsedBlock {
  readonly state: number;
  readonly half: number;
  readonly phase: number | null;
  readonly bits: StoredBits;
}

interface OpenedBlock extends UsedBlock {
  readonly state: number;
  readonly bits: Uint8Array;
}

interface StoredKey {
  readonly origin: KmeId;
  readonly master: SaeId;
  readonly slaves: Set<SaeId>;
  readonly createdAt: number;
  readonly transaction?: LinkTransaction;
}

export const activate: Operation<PeerActivation, Activated> = {
  name: "activate",
  async run(work, items) {
    const transactions = items.flatMap((item) => linkTransaction(item) ?? []);
    // First of all, so that a take-back of the same transaction comes before or after this, never in between.
    await holdTransactions(work, transactions);
    const blocks = await loadBlocks(work, items.flatMap((item) => item.keys.flatMap((key) => key.blocks)));
    const keys = await loadKeys(work, items.flatMap((item) => item.keys.map((key) => key.id)));
    const voided = await voidedAmong(work, transactions);
    const deliveries: NewDelivery[] = [];
    const seen = await everStored(work, items, blocks);
    const damaged: StoredBlock[] = [];
    // A damaged block is as if it were not here from then on.
    const open = (name: string): OpenedBlock | undefined => {
      const block = blocks.get(name)!;
      const bits = work.cipher.open({ block: block.block_id, linkId: block.link_id }, block.bits);
      if (bits !== undefined) return { ...block, bits };
      damaged.push(block);
      blocks.delete(name);
      return undefined;
    };
    const results = items.map((item): Activated => {
      const transaction = linkTransaction(item);
      if (transaction !== undefined && voided.has(transactionKey(transaction))) return { kind: "voided" };
      if (item.keys.every((key) => isRepeated(keys.get(mapKey(key.id)), item))) return { kind: "repeated" };
      if (item.onlyRepeated) return { kind: "refused", blocks: [], absent: [] };
      const ids = item.keys.flatMap((key) => key.blocks);
      // Made once: the largest message has hundreds.
      const names = ids.map(mapKey);
      const refused = ids.filter((_, i) => !mayActivate(blocks.get(names[i]!), item.link));
      if (refused.length > 0 || new Set(names).size !== names.length) {
        return { kind: "refused", blocks: refused, absent: refused.filter((id) => !seen.has(mapKey(id))) };
      }
      if (item.keys.some(({ id }) => keys.has(mapKey(id)))) {
        return { kind: "refused", blocks: ids, absent: [] };
      }
      const opened = names.map(open);
      const unusable = ids.filter((_, i) => opened[i] === undefined);
      if (unusable.length > 0) return { kind: "refused", blocks: unusable, absent: [] };
      for (const name of names) blocks.delete(name); // so that a later item does not use them again
      let next = 0;
      const made = item.keys.map(({ id, size, blocks: parts, padded }) => {
        const used = (opened as OpenedBlock[]).slice(next, next += parts.length);
        for (const block of used) if (block.state === BlockState.free) work.stock.add(block.link_id, -1);
        const composed = composeBits(used, size);
        keys.set(mapKey(id), {
          origin: item.origin,
          master: item.master,
          slaves: new Set(item.slaves),
          createdAt: work.now,
          transaction,
        });
        return {
          id,
          bits: padded === undefined ? composed : applyPad(padded, composed),
          blocks: used,
          whole: padded === undefined && isWholeBlock(size),
          returnable: padded === undefined && item.slaves.length > 0,
        };
      });
      const isRead = item.slaves.length > 0;
      deliveries.push({
        origin: item.origin,
        master: item.master,
        slaves: item.slaves,
        expiresAt: item.expiresAt,
        transaction,
        keys: made.map((key) => ({ ...key, bits: isRead ? key.bits : undefined })),
      });
      return { kind: "activated", keys: made.map(({ id, bits }): Key => ({ id, bits })) };
    });
    await removeDamaged(work, damaged);
    await handOver(work, deliveries);
    await letGoTransactions(work, transactions);
    return results;
  },
};

/**
 * Whether the peer of `link` may have the block: it is free; or both ends use it at the same time, and it is of the peer's half;
 * or the own attempt to use it failed.
 */
function mayActivate(block: StoredBlock | undefined, link: Link): boolean {
  if (block === undefined || block.link_id !== link.id) return false;
  // The peer names it, so it has it.
  if (block.state === BlockState.free || block.state === BlockState.unmatched) return true;
  if (block.state !== BlockState.reserved) return false; // a key, or a pad, which may have been used on the wire
  return block.phase !== ReservationPhase.open || block.half !== link.ownHalf;
}

function linkTransaction({ transaction, link }: PeerActivation): LinkTransaction | undefined {
  return transaction && { id: transaction, linkId: link.id };
}

/** Blocks that were stored here at any time, among those that are asked for and not here now; and all that are. */
async function everStored(
  work: Work,
  items: readonly PeerActivation[],
  blocks: ReadonlyMap<string, StoredBlock>,
): Promise<Set<string>> {
  const seen = new Set(blocks.keys());
  const missing = items.flatMap((item) => item.keys.flatMap((key) => key.blocks)).filter((id) =>
    !seen.has(mapKey(id))
  );
  for (const name of await seenAmong(work, missing)) seen.add(name);
  return seen;
}

function isRepeated(key: StoredKey | undefined, item: PeerActivation): boolean {
  if (key === undefined || key.origin !== item.origin || key.master !== item.master) return false;
  const transaction = linkTransaction(item);
  if (transaction !== undefined) {
    return key.transaction !== undefined && transactionKey(key.transaction) === transactionKey(transaction);
  }
  return item.repeatableSince !== undefined && key.transaction === undefined &&
    key.createdAt >= item.repeatableSince &&
    key.slaves.size === item.slaves.length && item.slaves.every((slave) => key.slaves.has(slave));
}

async function loadBlocks(work: Work, ids: readonly KeyIdBytes[]) {
  const blocks = new Map<string, StoredBlock>();
  for (const part of partsToLock(ids)) {
    const values = part.map(buffer);
    const rows = await run(work, `blocks ${values.length}`, values, () =>
      work.dialect.forUpdate(
        work.trx.selectFrom("blocks").select([
          "seq",
          "block_id",
          "link_id",
          "state",
          "half",
          "reservation_id",
          "bits",
        ]).$narrowType<{ bits: NotNull }>() // of a key they may be absent, but it is not activated again
          .where("block_id", "in", values).orderBy("block_id"),
      ));
    const phases = await loadPhases(work.trx, rows.flatMap((row) => row.reservation_id ?? []));
    for (const { reservation_id, ...row } of rows) {
      const phase = reservation_id === null ? null : phases.get(mapKey(reservation_id)) ?? null;
      blocks.set(mapKey(row.block_id), { ...row, phase });
    }
  }
  return blocks;
}

async function loadPhases(trx: Work["trx"], reservations: readonly Uint8Array[]) {
  if (reservations.length === 0) return new Map<string, number>();
  const rows = await trx.selectFrom("reservations").select(["reservation_id", "phase"])
    .where("reservation_id", "in", reservations.map(buffer)).execute();
  return new Map(rows.map((row) => [mapKey(row.reservation_id), row.phase]));
}

async function loadKeys(work: Work, ids: readonly KeyIdBytes[]) {
  const keys = new Map<string, StoredKey>();
  for (const part of chunks(ids, ROWS)) {
    for (const row of await keysBy(work, part)) {
      const id = mapKey(row.key_id!);
      let key = keys.get(id);
      if (key === undefined) {
        key = {
          origin: row.origin_kme,
          master: row.master_sae,
          slaves: new Set(),
          createdAt: row.created_at,
          transaction: row.transaction_id === null || row.link_id === null
            ? undefined
            : { id: row.transaction_id, linkId: row.link_id },
        };
        keys.set(id, key);
      }
      if (row.sae_id !== null) key.slaves.add(row.sae_id);
    }
  }
  return keys;
}

async function keysBy(work: Work, ids: readonly KeyIdBytes[]) {
  const values = ids.map(buffer);
  return await run(
    work,
    `delivered ${values.length}`,
    values,
    () =>
      work.trx.selectFrom("blocks")
        .innerJoin("deliveries", "deliveries.delivery_id", "blocks.delivery_id")
        .leftJoin("delivery_slaves", "delivery_slaves.delivery_id", "deliveries.delivery_id")
        .select([
          "key_id",
          "origin_kme",
          "master_sae",
          "created_at",
          "transaction_id",
          "deliveries.link_id",
          "sae_id",
        ])
        .where("key_id", "in", values),
  );
}
