/** A slave SAE reads keys by their key_IDs: each once, and the last reader takes the bits out of the store. */
import type { KeyIdBytes } from "../../model/block.ts";
import type { SaeId } from "../../model/ids.ts";
import { buffer, mapKey } from "../bytes.ts";
import type { Operation, Work } from "../commit_queue.ts";
import type { Key } from "../keys.ts";
import { chunks } from "../statements.ts";

export interface Collection {
  /** The SAE that asks. */
  readonly caller: SaeId;
  /** The master that it names. */
  readonly master: SaeId;
  /** Without duplicates. */
  readonly ids: readonly KeyIdBytes[];
}

export type Collected =
  | { readonly kind: "keys"; readonly keys: readonly Key[] }
  /** A key was handed out, but not for the caller; nothing was read. */
  | { readonly kind: "foreign" }
  /** A key is unknown, read already, expired, or of another master; nothing was read. */
  | { readonly kind: "missing" };

interface StoredKey {
  readonly id: Uint8Array;
  readonly master: SaeId;
  readonly expiresAt: number;
  bits: Uint8Array | null;
  /** Slaves of this key, true when they have read it. */
  readonly slaves: Map<SaeId, boolean>;
}

export const collect: Operation<Collection, Collected> = {
  name: "collect",
  async run(work, items) {
    const stored = await loadKeys(work, items.flatMap((item) => item.ids));
    const read = new Map<SaeId, Uint8Array[]>();
    const emptied: Uint8Array[] = [];
    const results = items.map((item): Collected => {
      const keys = item.ids.map((id) => stored.get(mapKey(id)));
      // A key that others may read is told apart before anything is said about keys that do not exist.
      if (keys.some((key) => key !== undefined && !key.slaves.has(item.caller))) return { kind: "foreign" };
      if (!keys.every((key) => key !== undefined && isReadable(key, item, work.now))) {
        return { kind: "missing" };
      }
      return {
        kind: "keys",
        keys: (keys as StoredKey[]).map((key) => {
          const bits = key.bits!;
          key.slaves.set(item.caller, true);
          const ids = read.get(item.caller);
          if (ids === undefined) read.set(item.caller, [key.id]);
          else ids.push(key.id);
          if ([...key.slaves.values()].every((done) => done)) {
            key.bits = null;
            emptied.push(key.id);
          }
          return { id: key.id, bits };
        }),
      };
    });
    await record(work, read, emptied);
    return results;
  },
};

function isReadable(key: StoredKey, item: Collection, now: number): boolean {
  return key.master === item.master && key.expiresAt > now && key.bits !== null &&
    key.slaves.get(item.caller) === false;
}

async function loadKeys({ trx, dialect }: Work, ids: readonly KeyIdBytes[]) {
  const keys = new Map<string, StoredKey>();
  for (const part of chunks([...new Map(ids.map((id) => [mapKey(id), id])).values()], 2000)) {
    const rows = await dialect.forUpdate(
      trx.selectFrom("keys").select(["key_id", "master_sae", "expires_at", "bits"])
        .where("key_id", "in", part.map(buffer)).orderBy("key_id"),
    ).execute();
    if (rows.length === 0) continue;
    for (const row of rows) {
      keys.set(mapKey(row.key_id), {
        id: row.key_id,
        master: row.master_sae,
        expiresAt: row.expires_at,
        bits: row.bits,
        slaves: new Map(),
      });
    }
    // Read after the keys are locked: another transaction's read is seen.
    const slaves = await trx.selectFrom("key_slaves").select(["key_id", "sae_id", "read_at"])
      .where("key_id", "in", part.map(buffer)).execute();
    for (const slave of slaves) {
      keys.get(mapKey(slave.key_id))?.slaves.set(slave.sae_id, slave.read_at !== null);
    }
  }
  return keys;
}

async function record(
  { trx, now }: Work,
  read: ReadonlyMap<SaeId, Uint8Array[]>,
  emptied: readonly Uint8Array[],
): Promise<void> {
  for (const [sae, ids] of read) {
    for (const part of chunks(ids, 2000)) {
      const { numUpdatedRows } = await trx.updateTable("key_slaves").set({ read_at: now })
        .where("key_id", "in", part.map(buffer)).where("sae_id", "=", sae).where("read_at", "is", null)
        .executeTakeFirst();
      // The database has the last word on who reads first.
      if (Number(numUpdatedRows) !== part.length) throw new Error("a key was read by two requests at once");
    }
  }
  for (const part of chunks(emptied, 2000)) {
    await trx.updateTable("keys").set({ bits: null }).where("key_id", "in", part.map(buffer)).execute();
  }
}
