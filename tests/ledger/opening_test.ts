/** Opening a database: the first start, several at once, migrations, and whose it is. */
import assert from "node:assert/strict";
import { Kysely, sql } from "kysely";
import type { Migration } from "kysely/migration";
import { openDialect } from "../../src/store/dialects/open.ts";
import { StoreUnusable } from "../../src/store/errors.ts";
import { migrate, migrations } from "../../src/store/migrations/migrate.ts";
import type { Schema } from "../../src/store/schema.ts";
import { Store } from "../../src/store/store.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import type { Block } from "../../src/model/block.ts";
import { Buffer } from "node:buffer";
import {
  assertDistinctBlocks,
  audit,
  closeOnce,
  delivery,
  fill,
  freshBlocks,
  freshId,
  hex,
  type Ledger,
  ledgerTest,
  OWN,
  PEER,
} from "./ledger.ts";

const DURABLE = ["sqlite", "postgres", "mariadb"] as const;
const SERVERS = ["postgres", "mariadb"] as const;

function refusal(open: Promise<unknown>, line: RegExp): Promise<void> {
  return assert.rejects(open, (error: unknown) => {
    assert.ok(error instanceof StoreUnusable);
    assert.match(error.message, line);
    assert.ok(!error.message.includes("\n"), "more than one line");
    return true;
  });
}

ledgerTest("what was stored is there after closing and opening", async (ledger) => {
  const store = await ledger.open();
  await fill(store, 5);
  const [key] = (await store.deliver(delivery(store)))!;
  await closeOnce(store);
  const again = await ledger.open();
  assert.equal(await again.freeBlocks(OWN.text), 4);
  assert.equal((await again.collect({ caller: "12", master: "11", ids: [key!.id] })).kind, "keys");
  assert.deepEqual(await audit(ledger), {
    seen: 5,
    free: 4,
    reserved: 0,
    keys: 1,
    waiting: 0,
    reservations: 0,
  });
}, DURABLE);

ledgerTest("sixteen starting at once on a fresh database do not collide", async (ledger) => {
  const stores = await Promise.all(Array.from({ length: 16 }, () => ledger.open()));
  await fill(stores[0]!, 16);
  const keys = await Promise.all(stores.map((store) => store.deliver(delivery(store))));
  assert.ok(keys.every((made) => made?.length === 1));
  const rows = await sql<{ name: string }>`select name from kysely_migration`.execute(ledger.tables);
  assert.deepEqual(rows.rows.map((row) => row.name), Object.keys(migrations(ledger.dialect)));
  assert.equal((await audit(ledger)).free, 0);
}, SERVERS);

ledgerTest("a database of another KME is refused", async (ledger) => {
  await closeOnce(await ledger.open());
  await refusal(ledger.open({ thisKme: PEER, neighbours: [OWN] }), /belongs to KME 1, not to KME 2/);
  await closeOnce(await ledger.open());
}, DURABLE);

/** A version of the program with one migration more. */
function newer(ledger: Ledger): Record<string, Migration> {
  return {
    ...migrations(ledger.dialect),
    "9999_for_tests": {
      up: (db) => db.schema.alterTable("deliveries").addColumn("note", "integer").execute(),
    },
  };
}

async function migrateToNewer(ledger: Ledger): Promise<void> {
  const dialect = openDialect(ledger.database, () => {});
  const db = new Kysely<Schema>({ dialect: dialect.kysely });
  try {
    await migrate(db, dialect, newer(ledger));
  } finally {
    await db.destroy();
  }
}

ledgerTest(
  "a newer program migrates the database and keeps what is in it; an older one refuses it then",
  async (ledger) => {
    const store = await ledger.open();
    await fill(store, 3);
    const [key] = (await store.deliver(delivery(store)))!;
    const before = await audit(ledger);
    await closeOnce(store);
    await Promise.all(Array.from({ length: ledger.shared ? 4 : 1 }, () => migrateToNewer(ledger)));
    await refusal(ledger.open(), /made by a newer version of this program \(it has 9999_for_tests\)/);
    // The newer program itself goes on.
    await migrateToNewer(ledger);
    const dialect = openDialect(ledger.database, () => {});
    const db = new Kysely<Schema>({ dialect: dialect.kysely });
    const row = await sql<{ note: null }>`select note from ${sql.table("deliveries")}`.execute(db);
    assert.deepEqual(row.rows, [{ note: null }]);
    // Taken out by hand, the older one finds its own again.
    await db.schema.alterTable("deliveries").dropColumn("note").execute();
    await sql`delete from kysely_migration where name = '9999_for_tests'`.execute(db);
    await db.destroy();
    const again = await ledger.open();
    assert.deepEqual(await audit(ledger), before);
    assert.equal((await again.collect({ caller: "12", master: "11", ids: [key!.id] })).kind, "keys");
  },
  DURABLE,
);

/** Breaks off after each statement that changes something in turn, until it comes to its end; returns how often. */
async function migrateWithBreaks(ledger: Ledger): Promise<number> {
  // Where a migration is one transaction, nothing is left of it; elsewhere what is there is gone over again.
  for (let allowed = 1; allowed < 200; allowed++) {
    const dialect = openDialect(ledger.database, () => {});
    const db = new Kysely<Schema>({ dialect: dialect.kysely });
    let statements = 0;
    const broken = Object.entries(migrations(dialect)).map(([name, { up }]): [string, Migration] => [name, {
      up: (inner) =>
        up(inner.withPlugin({
          transformQuery: ({ node }) => {
            if (node.kind !== "SelectQueryNode" && ++statements > allowed) throw new Error("broken off");
            return node;
          },
          transformResult: ({ result }) => Promise.resolve(result),
        })),
    }]);
    const failure = await migrate(db, dialect, Object.fromEntries(broken))
      .then(() => undefined, (error: Error) => error);
    await db.destroy();
    if (failure === undefined) return allowed - 1;
    assert.match(failure.message, /broken off/);
  }
  throw new Error("does not end");
}

ledgerTest("a first start that broke off is continued by the next", async (ledger) => {
  const breaks = await migrateWithBreaks(ledger);
  assert.ok(breaks > 15, `${breaks} breaks`);
  const store = await ledger.open();
  await fill(store, 2);
  assert.equal((await store.deliver(delivery(store, 2)))?.length, 2);
}, DURABLE);

ledgerTest(
  "what a database of the first schema holds is carried over, however often that breaks off",
  async (ledger) => {
    const dialect = openDialect(ledger.database, () => {});
    const db = new Kysely<Schema>({ dialect: dialect.kysely });
    const [first, second] = Object.entries(migrations(dialect));
    await migrate(db, dialect, Object.fromEntries([first!, second!]));
    const HOUR = 3_600_000;
    const blocks = freshBlocks(4);
    const [free, reserved, unread, read] = blocks as [Block, Block, Block, Block];
    const [reservation, transaction, composed] = [freshId(), freshId(), freshId()];
    const parts = freshBlocks(2);
    const insert = async (table: string, row: Record<string, unknown>) => {
      const values = Object.values(row).map((value) =>
        value instanceof Uint8Array ? Buffer.from(value) : value
      );
      await sql`insert into ${sql.table(table)} (${
        sql.join(Object.keys(row).map((name) => sql.ref(name)))
      }) values (${sql.join(values)})`.execute(db);
    };
    await insert("links", { id: 7, kme_id: OWN.text });
    await insert("links", { id: 8, kme_id: PEER.text });
    await insert("reservations", {
      reservation_id: reservation,
      phase: 0,
      process_id: freshId(),
      since: Date.now(),
    });
    for (const { id } of [...blocks, ...parts]) await insert("seen_blocks", { block_id: id });
    const stored = { link_id: 7, half: 0, stored_at: Date.now() };
    await insert("blocks", { ...stored, block_id: free.id, bits: free.bits, state: 0 });
    await insert("blocks", {
      ...stored,
      block_id: reserved.id,
      bits: reserved.bits,
      state: 1,
      reservation_id: reservation,
    });
    for (let slot = 0; slot < 8; slot++) {
      await insert("stock", {
        link_id: 7,
        slot,
        free: slot === 3 ? 1 : 0,
      });
    }
    const key = { origin_kme: "2", master_sae: "21", created_at: Date.now(), expires_at: Date.now() + HOUR };
    await insert("keys", { ...key, key_id: unread.id, bits: unread.bits });
    await insert("keys", { ...key, key_id: read.id, bits: null });
    await insert("keys", {
      ...key,
      key_id: composed,
      bits: Buffer.concat(parts.map((part) => part.bits)),
      transaction_id: transaction,
      link_id: 8,
      blocks: Buffer.concat(parts.map((part) => part.id)),
    });
    await insert("key_slaves", { key_id: unread.id, sae_id: "11", read_at: Date.now() });
    await insert("key_slaves", { key_id: unread.id, sae_id: "12" });
    await insert("key_slaves", { key_id: read.id, sae_id: "11", read_at: Date.now() });
    await insert("key_slaves", { key_id: composed, sae_id: "11" });
    await db.destroy();

    assert.ok(await migrateWithBreaks(ledger) > 10);
    const store = await ledger.open();
    const held = { seen: 6, free: 1, reserved: 1, keys: 3, waiting: 2, reservations: 1 };
    assert.deepEqual(await audit(ledger), held);
    assert.equal(await store.freeBlocks(OWN.text), 1);
    const get = (caller: string, id: Uint8Array, master = "21") =>
      store.collect({ caller, master, ids: [id] });
    assert.equal((await get("11", unread.id)).kind, "missing", "read before");
    assert.equal((await get("13", unread.id)).kind, "foreign");
    const got = await get("12", unread.id);
    assert.ok(got.kind === "keys" && hex(got.keys[0]!.bits) === hex(unread.bits));
    assert.equal((await get("12", unread.id)).kind, "missing");
    assert.equal((await get("11", read.id)).kind, "missing");
    // The composed key can still be taken back; its blocks are free again then.
    const taken = await store.takeBack({
      link: store.link(PEER.text)!,
      transaction,
      blocks: parts.map((part) => part.id),
      reuse: true,
    });
    assert.ok(taken.kind === "takenBack" && taken.free.length === 2);
    assert.equal((await get("11", composed)).kind, "missing");
    // New blocks and deliveries do not collide with old ones.
    await fill(store, 3);
    const made = (await store.deliver(delivery(store, 4)))!;
    assertDistinctBlocks(made.slice(0, 1), [free]);
    for (const { id } of made) assert.equal((await get("12", id, "11")).kind, "keys");
  },
  DURABLE,
);

ledgerTest("a server that is not there, or a login that is wrong, is one clear line", async (ledger) => {
  const { kind, uri } = ledger.database as { kind: "postgres" | "mysql"; uri: string };
  const wrong = new URL(uri);
  wrong.password = "for-tests-wrong";
  await refusal(ledger.open({ database: { kind, uri: wrong.href } }), /^cannot open the database: /);
  const absent = new URL(uri);
  absent.port = "1";
  await refusal(
    ledger.open({ database: { kind, uri: absent.href } }),
    /^cannot open the database: .*ECONNREFUSED/,
  );
  const unknown = new URL(uri);
  unknown.pathname = "/for_tests_absent";
  await refusal(ledger.open({ database: { kind, uri: unknown.href } }), /^cannot open the database: /);
}, SERVERS);

Deno.test("sqlite: the file is its owner's only, and a second process on it is refused", async () => {
  await using dir = await makeTempDir("kme-ledger-");
  const path = `${dir.path}/kme.db`;
  const database = { kind: "sqlite", path } as const;
  const store = await Store.open({ database, thisKme: OWN, neighbours: [PEER] });
  try {
    await fill(store, 1);
    for (const { name } of Deno.readDirSync(dir.path)) {
      const { mode } = await Deno.stat(`${dir.path}/${name}`);
      if (Deno.build.os !== "windows") assert.equal(mode! & 0o777, 0o600, name);
    }
    const script = `
      import { Store } from ${JSON.stringify(new URL("../../src/store/store.ts", import.meta.url).href)};
      const id = { text: "1", integer: true };
      try {
        await Store.open({ database: { kind: "sqlite", path: Deno.args[0] }, thisKme: id, neighbours: [] });
        console.log("opened");
      } catch (error) {
        console.log(error.message);
      }
      Deno.exit(0);`;
    await Deno.writeTextFile(`${dir.path}/second.ts`, script);
    const second = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "-A",
        "--no-check",
        "--config",
        new URL("../../deno.json", import.meta.url).pathname,
        `${dir.path}/second.ts`,
        path,
      ],
      stderr: "inherit",
    });
    const { stdout } = await second.output();
    assert.equal(
      new TextDecoder().decode(stdout).trim(),
      `the database file ${path} is in use by another process`,
    );
    assert.equal(await store.freeBlocks(OWN.text), 1);
    assert.equal((await store.deliver(delivery(store)))?.length, 1);
  } finally {
    await store.close();
  }
});

Deno.test("sqlite: what is no database, or cannot be made, is one clear line", async () => {
  await using dir = await makeTempDir("kme-ledger-");
  const open = (path: string) =>
    Store.open({ database: { kind: "sqlite", path }, thisKme: OWN, neighbours: [] });
  await Deno.writeTextFile(
    `${dir.path}/text`,
    "no database, but long enough to be taken for one\n".repeat(100),
  );
  await refusal(open(`${dir.path}/text`), /text is not an SQLite database$/);
  await refusal(open(`${dir.path}/absent/kme.db`), /^cannot create the database file /);
  await refusal(open(dir.path), /^cannot (open|create) the database file /);
});

ledgerTest(
  "transactions are read committed, whatever the database or the URI has for a default",
  async (ledger) => {
    const { database } = ledger;
    assert.ok(database.kind === "postgres");
    const name = sql.id(new URL(database.uri).pathname.slice(1));
    await sql`alter database ${name} set default_transaction_isolation = 'serializable'`.execute(
      ledger.tables,
    );
    const uri = `${database.uri}?options=${
      encodeURIComponent("-c default_transaction_isolation=serializable -c work_mem=5MB")
    }&application_name=test`;
    for (const [each, memory] of [[database.uri, "4MB"], [uri, "5MB"]] as const) {
      const { kysely, unbounded } = openDialect({ kind: "postgres", uri: each }, () => {});
      for (const dialect of [kysely, unbounded!()]) {
        await using db = new Kysely<Schema>({ dialect });
        const { rows } = await sql`
        select current_setting('transaction_isolation') as isolation, current_setting('work_mem') as memory
      `.execute(db);
        assert.deepEqual(rows, [{ isolation: "read committed", memory }]);
      }
    }
  },
  ["postgres"],
);
