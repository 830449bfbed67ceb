/**
 * A slave SAE reads keys by their key_IDs: each key once, unless the answer may be repeated for a time. After the last slave has
 * read a key, its bits are deleted, or kept for that time.
 */
import type { KeyIdBytes } from "../../domain/block.ts";
import type { SaeId } from "../../domain/ids.ts";
import { buffer, mapKey, sameBytes } from "../../domain/bytes.ts";
import type { Operation, Work } from "../work.ts";
import type { Key } from "../../domain/key.ts";
import type { Insertable } from "kysely";
import { type BitsOwner, ownerOf, type StoredBits } from "../encryption/bits_cipher.ts";
import type { KeptKeysTable, KeyReadsTable } from "../table_schema.ts";
import { forgetBits, insertRows, partsToLock, run } from "../statements.ts";

export interface Collection {
  /** The SAE that requests the keys. */
  readonly caller: SaeId;
  /** The master that it names. */
  readonly master: SaeId;
  /** Without duplicates. */
  readonly ids: readonly KeyIdBytes[];
  /** Absent: no key is read a second time. */
  readonly repeat?: Repeat;
  /** The process that reads. */
  readonly processId: Uint8Array;
}

/** For how long, and with which certificate, an SAE may read a key again. */
export interface Repeat {
  /** SHA-256 of the certificate that the caller uses now; it must be the one of the first time. */
  readonly certificate: Uint8Array;
  /** Milliseconds after the first time, more than 0. */
  readonly ms: number;
}

export type Collected =
  | {
    readonly kind: "keys";
    readonly keys: readonly Key[];
    /** Those of them that the caller had read before; absent: none. */
    readonly repeated?: readonly KeyIdBytes[];
    /** Those of `repeated` that another process had read, or this one before it was started again; absent: none. */
    readonly readElsewhere?: readonly KeyIdBytes[];
    /** How many of them no longer wait for any slave, by this read. */
    readonly finished: number;
  }
  /** A key was handed out, but not for the caller; nothing was read. */
  | { readonly kind: "foreign" }
  /** A key is unknown, read already, expired, or of another master; nothing was read. */
  | { readonly kind: "missing" }
  /** The stored bits of a key are not those that were stored; nothing was read. */
  | { readonly kind: "damaged" };

interface StoredKey {
  readonly seq: number;
  readonly id: Uint8Array;
  readonly owner: BitsOwner;
  readonly linkId: number;
  readonly master: SaeId;
  readonly expiresAt: number;
  bits: StoredBits | null;
  /** Slaves of this key; `undefined` for those that have not read it. */
  readonly slaves: Map<SaeId, FirstRead | undefined>;
}

interface FirstRead {
  /** Milliseconds since 1970. */
  readonly at: number;
  /** SHA-256; null: the answer may not be repeated. */
  readonly certificate: Uint8Array | null;
  /** Like `certificate`. */
  readonly processId: Uint8Array | null;
}

export const collect: Operation<Collection, Collected> = {
  name: "collect",
  async run(work, items) {
    const stored = await loadKeys(work, items.flatMap((item) => item.ids));
    const read: Insertable<KeyReadsTable>[] = [];
    const repeatable: Insertable<KeyReadsTable>[] = [];
    const emptied: number[] = [];
    const kept: Insertable<KeptKeysTable>[] = [];
    const results = items.map((item): Collected => {
      const keys = item.ids.map((id) => stored.get(mapKey(id)));
      // A key that others may read is told apart before anything is said about keys that do not exist.
      if (keys.some((key) => key !== undefined && !key.slaves.has(item.caller))) return { kind: "foreign" };
      if (!keys.every((key) => key !== undefined && isReadable(key, item, work.now))) {
        return { kind: "missing" };
      }
      const opened = (keys as StoredKey[]).map((key) => {
        const bits = work.cipher.open(key.owner, key.bits!);
        if (bits === undefined) work.damaged.push({ what: "key", id: key.id, linkId: key.linkId });
        // A copy: the caller overwrites it, and another slave may read the same key in this transaction.
        return bits && { key, bits: Uint8Array.from(bits) };
      });
      if (!opened.every((key) => key !== undefined)) return { kind: "damaged" };
      const { caller, repeat, processId } = item;
      const repeated: KeyIdBytes[] = [];
      const readElsewhere: KeyIdBytes[] = [];
      let finished = 0;
      for (const { key } of opened) {
        const { seq, slaves } = key;
        const first = slaves.get(caller);
        if (first !== undefined) {
          repeated.push(key.id);
          if (first.processId === null || !sameBytes(first.processId, processId)) readElsewhere.push(key.id);
          continue;
        }
        slaves.set(caller, { at: work.now, certificate: repeat?.certificate ?? null, processId });
        const row = { seq, sae_id: caller, read_at: work.now };
        if (repeat === undefined) read.push(row);
        else {
          repeatable.push({
            ...row,
            certificate: buffer(repeat.certificate),
            process_id: buffer(processId),
          });
        }
        if (![...slaves.values()].every((first) => first !== undefined)) continue;
        finished++;
        if (repeat === undefined) {
          key.bits = null;
          emptied.push(seq);
        } else kept.push({ seq, since: work.now });
      }
      return {
        kind: "keys",
        keys: opened.map(({ key: { id }, bits }) => ({ id, bits })),
        ...repeated.length === 0 ? {} : { repeated },
        ...readElsewhere.length === 0 ? {} : { readElsewhere },
        finished,
      };
    });
    // The database decides which read is first: no read is recorded twice.
    await insertRows(work, "key_reads", read);
    await insertRows(work, "key_reads", repeatable);
    await insertRows(work, "kept_keys", kept);
    await forgetBits(work, emptied);
    return results;
  },
};

function isReadable(key: StoredKey, item: Collection, now: number): boolean {
  if (key.master !== item.master || key.expiresAt <= now || key.bits === null) return false;
  const first = key.slaves.get(item.caller);
  return first === undefined || mayRepeat(first, item.repeat, now);
}

function mayRepeat({ at, certificate }: FirstRead, repeat: Repeat | undefined, now: number): boolean {
  return repeat !== undefined && certificate !== null && now < at + repeat.ms &&
    sameBytes(certificate, repeat.certificate);
}

async function loadKeys(work: Work, ids: readonly KeyIdBytes[]) {
  const keys = new Map<string, StoredKey>();
  for (const part of partsToLock([...new Map(ids.map((id) => [mapKey(id), id])).values()])) {
    const rows = await lockKeys(work, part);
    if (rows.length === 0) continue;
    // Read after the keys are locked, so that changes of other transactions are seen.
    const deliveries = await loadDeliveries(work, [...new Set(rows.map((row) => row.delivery_id!))]);
    const bySeq = new Map<number, StoredKey>();
    for (const { seq, id, link_id: linkId, delivery_id, owner, bits } of rows) {
      const { slaves, ...delivery } = deliveries.get(delivery_id!)!;
      const key = {
        seq,
        id,
        owner,
        linkId,
        bits,
        ...delivery,
        slaves: new Map(slaves.map((sae): [SaeId, FirstRead | undefined] => [sae, undefined])),
      };
      keys.set(mapKey(id), key);
      bySeq.set(seq, key);
    }
    const seqs = [...bySeq.keys()];
    const reads = await run(
      work,
      `reads of ${seqs.length}`,
      seqs,
      () =>
        work.trx.selectFrom("key_reads").select(["seq", "sae_id", "read_at", "certificate", "process_id"])
          .where("seq", "in", seqs),
    );
    for (const { seq, sae_id, read_at: at, certificate, process_id: processId } of reads) {
      bySeq.get(seq)!.slaves.set(sae_id, { at, certificate, processId });
    }
  }
  return keys;
}

/** The row of a key; `block_id` is that of the block that it exactly is. */
interface LockedKey {
  readonly seq: number;
  readonly block_id: Uint8Array | null;
  readonly key_id: Uint8Array;
  readonly link_id: number;
  readonly delivery_id: number;
  readonly bits: StoredBits | null;
}

async function lockKeys(work: Work, ids: readonly KeyIdBytes[]) {
  const values = ids.map(buffer);
  const rows = await run(work, `keys ${ids.length}`, values, () =>
    work.dialect.forUpdate(
      work.trx.selectFrom("blocks").select(["seq", "block_id", "key_id", "link_id", "delivery_id", "bits"])
        .$castTo<LockedKey>()
        .where("key_id", "in", values).orderBy("key_id"),
    ));
  return rows.map((row) => ({ ...row, id: row.key_id, owner: ownerOf(row) }));
}

interface StoredDelivery {
  readonly master: SaeId;
  readonly expiresAt: number;
  readonly slaves: SaeId[];
}

async function loadDeliveries(work: Work, ids: readonly number[]) {
  const deliveries = new Map<number, StoredDelivery>();
  const rows = await run(
    work,
    `deliveries ${ids.length}`,
    ids,
    () =>
      work.trx.selectFrom("deliveries")
        .leftJoin("delivery_slaves", "delivery_slaves.delivery_id", "deliveries.delivery_id")
        .select(["deliveries.delivery_id", "master_sae", "expires_at", "sae_id"])
        .where("deliveries.delivery_id", "in", ids),
  );
  for (const { delivery_id, master_sae, expires_at, sae_id } of rows) {
    let delivery = deliveries.get(delivery_id);
    if (delivery === undefined) {
      delivery = { master: master_sae, expiresAt: expires_at, slaves: [] };
      deliveries.set(delivery_id, delivery);
    }
    if (sae_id !== null) delivery.slaves.push(sae_id);
  }
  return deliveries;
}
