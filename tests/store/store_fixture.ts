/** The ledger on every database: one test becomes six, and an audit counts what the database really holds. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { Kysely } from "kysely";
import type { Database, StoreEncryption } from "../../src/config/config.ts";
import { type Block, blockKeyId, formatKeyId, type KeyIdBytes } from "../../src/domain/block.ts";
import type { ConfiguredId } from "../../src/domain/ids.ts";
import { newKeyIds } from "../../src/domain/key.ts";
import type { StoreDialect } from "../../src/store/dialects/dialect.ts";
import { openDialect } from "../../src/store/dialects/open.ts";
import { BlockState, type Schema } from "../../src/store/table_schema.ts";
import { Store, type StoreOptions } from "../../src/store/store.ts";
import { databaseTest, type DatabaseTestOptions, type TestDatabaseServer } from "../harness/databases.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { TestWorker } from "./test_worker.ts";

export type LedgerKind = "memory" | "sqlite" | "postgres" | "mariadb";

/** Milliseconds for a statement in tests that are not about this limit: other tests use the same processors and server. */
const STATEMENT_LIMIT_MS = 60_000;

/** Of the contents of key files; the store only compares it. */
export const TEST_DIGEST: Uint8Array = new Uint8Array(32).fill(7);

export const OWN: ConfiguredId = { text: "1", integer: true };
export const PEER: ConfiguredId = { text: "2", integer: true };

/** A database of a test. All that is opened through it is closed after the test. */
export interface Ledger {
  readonly kind: LedgerKind;
  readonly database: Database;
  /** Whether several processes may have it open. */
  readonly shared: boolean;
  /** Whether each store has its database in a thread of its own. */
  readonly thread: boolean;
  /** Where the master key is, if stores encrypt their bits. */
  readonly encryption?: StoreEncryption;
  readonly server?: TestDatabaseServer;
  /**
   * Opens a store of KME 1 with a link to KME 2, with a generous time limit for statements: `statementLimitMs: undefined`
   * for that of a KME. In memory, each has a database of its own.
   */
  open(options?: Partial<StoreOptions>): Promise<Store>;
  /** The tables beneath the store that was opened last. */
  readonly tables: Kysely<Schema>;
  readonly dialect: StoreDialect;
}

const KINDS: readonly LedgerKind[] = ["memory", "sqlite", "postgres", "mariadb"];

/** Registers a test for each kind of database. */
export function ledgerTest(
  name: string,
  fn: (ledger: Ledger) => Promise<void>,
  kinds: readonly LedgerKind[] = KINDS,
  options: DatabaseTestOptions = {},
): void {
  for (const kind of kinds) {
    if (kind === "postgres" || kind === "mariadb") {
      databaseTest(kind, name, async (uri, server) => {
        const database = { kind: kind === "postgres" ? "postgres" : "mysql", uri } as const;
        await using dir = await makeTempDir("kme-ledger-");
        const encryption = kind === "postgres" ? await makeTestKey(dir.path) : undefined;
        await withLedger(kind, database, fn, { server, encryption });
      }, options);
    } else {
      // In the thread of the test, and in one of its own as in a KME, encrypted.
      for (const thread of [false, true]) {
        Deno.test(`${kind}${thread ? " in a thread" : ""}: ${name}`, async () => {
          await using dir = await makeTempDir("kme-ledger-");
          const path = `${dir.path}/kme.db`;
          const encryption = thread ? await makeTestKey(dir.path) : undefined;
          await withLedger(kind, kind === "memory" ? { kind } : { kind, path }, fn, { thread, encryption });
        });
      }
    }
  }
}

/** A master key for tests, in a file of its own. */
export async function makeTestKey(directory: string, name = "test-store.key"): Promise<StoreEncryption> {
  const path = `${directory}/${name}`;
  await Deno.writeTextFile(path, randomBytes(32).toString("hex"), { mode: 0o600 });
  return { kind: "file", path };
}

async function withLedger(
  kind: LedgerKind,
  database: Database,
  fn: (ledger: Ledger) => Promise<void>,
  { server, thread = false, encryption }: Partial<Pick<Ledger, "server" | "thread" | "encryption">> = {},
): Promise<void> {
  await using opened = new AsyncDisposableStack();
  const shared = server !== undefined;
  let dialect: StoreDialect | undefined;
  let tables: Kysely<Schema> | undefined;
  const current = () => {
    dialect ??= openDialect(database, () => {}, STATEMENT_LIMIT_MS);
    if (tables === undefined) {
      const opening = tables = new Kysely<Schema>({ dialect: dialect.kysely });
      opened.defer(() => opening.destroy());
    }
    return { dialect, tables };
  };
  await fn({
    kind,
    database,
    shared,
    thread,
    encryption,
    server,
    async open(options = {}) {
      if (thread) {
        const worker = opened.use(new TestWorker());
        const store = await Store.open({
          database,
          encryption,
          thisKme: OWN,
          neighbours: [PEER],
          worker: worker.start,
          statementLimitMs: STATEMENT_LIMIT_MS,
          ...options,
        });
        dialect = { ...openDialect({ kind: "memory" }, () => {}), kysely: worker.tables };
        tables = undefined;
        opened.defer(() => closeOnce(store));
        return store;
      }
      if (!shared) {
        // The only connection that there can be: the test looks through it too.
        tables = undefined;
        dialect = openDialect(database, () => {});
      }
      const store = await Store.open({
        database,
        encryption,
        thisKme: OWN,
        neighbours: [PEER],
        dialect: shared ? undefined : dialect,
        statementLimitMs: STATEMENT_LIMIT_MS,
        ...options,
      });
      opened.defer(() => closeOnce(store));
      return store;
    },
    get tables() {
      return current().tables;
    },
    get dialect() {
      return current().dialect;
    },
  });
}

const closed = new WeakSet<Store>();

/** Closes a store before its test ends. */
export async function closeOnce(store: Store): Promise<void> {
  if (closed.has(store)) return;
  closed.add(store);
  await store.close();
}

export function freshBlocks(count: number): Block[] {
  return Array.from({ length: count }, () => {
    const bits = Uint8Array.from(randomBytes(32));
    return { id: blockKeyId(bits), bits };
  });
}

export function freshId(): KeyIdBytes {
  return Uint8Array.from(randomBytes(16));
}

/** Stores fresh blocks in the pool shared with a KME; returns them. */
export async function fill(store: Store, count: number, link = OWN.text): Promise<Block[]> {
  const blocks = freshBlocks(count);
  for (let i = 0; i < count; i += 5000) {
    const part = blocks.slice(i, i + 5000);
    const added = await store.addBlocks({
      link,
      blocks: part,
      maxFree: 1_000_000,
      file: {
        name: `fresh-${formatKeyId(freshId())}.cor`,
        size: part.length * 32,
        digest: TEST_DIGEST,
        offset: 0,
      },
    });
    assert.deepEqual(added, { stored: part.length, known: 0, taken: part.length });
  }
  return blocks;
}

/** A delivery of the KME's own pool, `number` keys of 256 bits from SAE 11 to SAE 12. */
export function delivery(store: Store, number = 1) {
  return {
    link: store.link(OWN.text)!,
    ids: newKeyIds(number),
    size: 256,
    origin: OWN.text,
    master: "11",
    slaves: ["12"],
    expiresAt: Date.now() + 3_600_000,
  };
}

export interface Audit {
  readonly seen: number;
  readonly free: number;
  readonly reserved: number;
  readonly keys: number;
  /** Keys whose bits are still there. */
  readonly waiting: number;
  readonly reservations: number;
}

/** Counts what is there, after checking that the tables agree with each other. */
export async function audit(ledger: Ledger): Promise<Audit> {
  const { tables } = ledger;
  const rows = await tables.selectFrom("blocks").select([
    "block_id",
    "key_id",
    "link_id",
    "state",
    "reservation_id",
    "bits",
  ]).execute();
  const seen = await tables.selectFrom("seen_blocks").select("block_id").execute();
  const blocks = rows.filter((row) => row.state !== BlockState.key);
  const keys = rows.filter((row) => row.state === BlockState.key);
  const reservations = await tables.selectFrom("reservations").select("reservation_id").execute();
  const stock = await tables.selectFrom("stock").selectAll().execute();

  const seenIds = new Set(seen.map((row) => hex(row.block_id)));
  assert.equal(seenIds.size, seen.length, "a block was seen twice");
  for (const block of blocks) assert.ok(seenIds.has(hex(block.block_id)), "a block was never seen");
  const keyIds = new Set(keys.map((row) => hex(row.key_id!)));
  assert.equal(keyIds.size, keys.length, "a key_ID twice");
  for (const block of blocks) {
    assert.equal(block.key_id, null, "a block in the pool has a key_ID");
    assert.ok(!keyIds.has(hex(block.block_id)), "a block is in the pool and a key");
  }
  const free = blocks.filter((block) => block.state === BlockState.free);
  for (const link of new Set(stock.map((row) => row.link_id))) {
    const counted = free.filter((block) => block.link_id === link).length;
    const kept = stock.filter((row) => row.link_id === link).reduce((sum, row) => sum + row.free, 0);
    assert.equal(kept, counted, `the stock of link ${link} is not the number of its free blocks`);
  }
  return {
    seen: seen.length,
    free: free.length,
    reserved: blocks.length - free.length,
    keys: keys.length,
    waiting: keys.filter((key) => key.bits !== null).length,
    reservations: reservations.length,
  };
}

export function hex(bytes: Uint8Array): string {
  return Uint8Array.from(bytes).toHex();
}

/** Fails when two keys hold the same bits, or one of them is not a whole block of these. */
export function assertDistinctBlocks(keys: readonly { bits: Uint8Array }[], blocks: readonly Block[]): void {
  const known = new Set(blocks.map((block) => hex(block.bits)));
  const used = new Set<string>();
  for (const key of keys) {
    const bits = hex(key.bits);
    assert.ok(known.has(bits), "a key is not one of the blocks");
    assert.ok(!used.has(bits), "a block is in two keys");
    used.add(bits);
  }
}
