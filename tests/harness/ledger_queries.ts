/** Reads the SQLite file of a KME that does not run: a running one locks the file. It returns no bits of keys. */
import Sqlite from "better-sqlite3";
import { Buffer } from "node:buffer";
import { formatKeyId } from "../../src/domain/block.ts";

export interface LedgerBlock {
  readonly state: "free" | "reserved";
  /** KME at the other end of its link. */
  readonly link: string;
}

export interface LedgerKey {
  readonly keyId: string;
  readonly master: string;
  readonly hasBits: boolean;
  /** Slaves that have not read it. */
  readonly waitingFor: readonly string[];
}

export interface Ledger {
  /** By key_ID: blocks that are not gone. */
  readonly blocks: ReadonlyMap<string, LedgerBlock>;
  /** key_IDs of all blocks that were ever stored. */
  readonly seen: ReadonlySet<string>;
  readonly keys: readonly LedgerKey[];
  /** Counters of free blocks, by KME at the other end. */
  readonly stock: ReadonlyMap<string, number>;
  readonly reservations: number;
}

/** @param kme one whose database is `sqlite`, and whose process has ended. */
export function ledgerOf(kme: { readonly directory: string }): Ledger {
  const database = new Sqlite(`${kme.directory}/kme.db`, { readonly: true });
  // deno-lint-ignore no-explicit-any
  const all = (sql: string) => database.prepare(sql).all() as any[];
  const id = (bytes: Buffer) => formatKeyId(Uint8Array.from(bytes));
  try {
    const slaves = all(
      `select blocks.seq, delivery_slaves.sae_id from blocks
        join delivery_slaves on delivery_slaves.delivery_id = blocks.delivery_id
        left join key_reads on key_reads.seq = blocks.seq and key_reads.sae_id = delivery_slaves.sae_id
        where read_at is null`,
    );
    return {
      blocks: new Map(
        all("select block_id, state, kme_id from blocks join links on links.id = link_id where state <> 3")
          .map((
            row,
          ) => [
            id(row.block_id),
            { state: row.state === 0 ? "free" : "reserved", link: row.kme_id },
          ]),
      ),
      seen: new Set(all("select block_id from seen_blocks").map((row) => id(row.block_id))),
      keys: all(
        `select seq, key_id, master_sae, bits is not null as has_bits from blocks
          join deliveries on deliveries.delivery_id = blocks.delivery_id where state = 3`,
      ).map((row) => ({
        keyId: id(row.key_id),
        master: row.master_sae,
        hasBits: row.has_bits === 1,
        waitingFor: slaves.filter((slave) => slave.seq === row.seq)
          .map((slave) => slave.sae_id),
      })),
      stock: new Map(
        all("select kme_id, sum(free) as free from stock join links on links.id = link_id group by kme_id")
          .map((row) => [row.kme_id, Number(row.free)]),
      ),
      reservations: all("select reservation_id from reservations").length,
    };
  } finally {
    database.close();
  }
}
