/** Reads the database of a KME, of any kind. It returns no bits of keys. */
import Sqlite from "better-sqlite3";
import mysql from "mysql2/promise";
import pg from "pg";
import { formatKeyId } from "../../src/domain/block.ts";
import { BlockState } from "../../src/store/table_schema.ts";

export interface LedgerBlock {
  /** `reserved`: for a request; `unmatched`: not known to be at the other end too. */
  readonly state: "free" | "unmatched" | "reserved";
  /** KME at the other end of its link. */
  readonly link: string;
}

export interface Ledger {
  /** By key_ID: blocks that are not gone. */
  readonly blocks: ReadonlyMap<string, LedgerBlock>;
  /** key_IDs of all blocks that were ever stored. */
  readonly seen: ReadonlySet<string>;
  /** key_IDs of keys that a slave can still read, with the number of bytes that they hold. */
  readonly waiting: ReadonlyMap<string, number>;
  /** Counters of free blocks, by KME at the other end. */
  readonly stock: ReadonlyMap<string, number>;
  readonly reservations: number;
}

type Rows = Record<string, unknown>[];

/** @param uri a `db_uri`; a file's KME must have ended, a server's may run. */
export async function readLedger(uri: string): Promise<Ledger> {
  const database = await connect(uri);
  const id = (bytes: unknown) => formatKeyId(Uint8Array.from(bytes as Uint8Array));
  try {
    const { all } = database;
    return {
      blocks: new Map(
        (await all(
          "select block_id, state, kme_id from blocks join links on links.id = link_id where state <> 3",
        )).map((
          row,
        ) => [
          id(row.block_id),
          { state: stateOf(Number(row.state)), link: String(row.kme_id) },
        ]),
      ),
      seen: new Set((await all("select block_id from seen_blocks")).map((row) => id(row.block_id))),
      waiting: new Map(
        (await all(
          "select key_id, length(bits) as bytes from blocks where state = 3 and bits is not null",
        ))
          .map((row) => [id(row.key_id), Number(row.bytes)]),
      ),
      stock: new Map(
        (await all(
          "select kme_id, sum(free) as free from stock join links on links.id = link_id group by kme_id",
        )).map((row) => [String(row.kme_id), Number(row.free)]),
      ),
      reservations: (await all("select reservation_id from reservations")).length,
    };
  } finally {
    await database.close();
  }
}

function stateOf(state: number): LedgerBlock["state"] {
  if (state === BlockState.free) return "free";
  return state === BlockState.unmatched ? "unmatched" : "reserved";
}

async function connect(
  uri: string,
): Promise<{ all(sql: string): Promise<Rows>; close(): Promise<unknown> | void }> {
  if (uri.startsWith("sqlite:")) {
    const database = new Sqlite(uri.slice("sqlite://".length), { fileMustExist: true });
    return {
      all: (sql) => Promise.resolve(database.prepare(sql).all() as Rows),
      close: () => void database.close(),
    };
  }
  if (uri.startsWith("postgres")) {
    const client = new pg.Client(uri);
    await client.connect();
    return { all: async (sql) => (await client.query(sql)).rows, close: () => client.end() };
  }
  const connection = await mysql.createConnection(uri);
  return { all: async (sql) => (await connection.query(sql))[0] as Rows, close: () => connection.end() };
}
