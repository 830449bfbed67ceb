/** Opening a database: the first start, several at once, migrations, and whose it is. */
import assert from "node:assert/strict";
import { Kysely, sql } from "kysely";
import type { Migration } from "kysely/migration";
import { openDialect } from "../../src/store/dialects/open.ts";
import { StoreUnusable } from "../../src/domain/store_errors.ts";
import { migrate, migrations } from "../../src/store/migrations/migrate.ts";
import type { Schema } from "../../src/store/table_schema.ts";
import { Store } from "../../src/store/store.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { audit, closeOnce, delivery, fill, type Ledger, ledgerTest, OWN, PEER } from "./store_fixture.ts";
import { migrateWithBreaks, withDatabase } from "./migration_breaks.ts";

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
  await withDatabase(ledger, (db, dialect) => migrate(db, dialect, newer(ledger)));
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

ledgerTest("a database that processes of an older version use is not migrated", async (ledger) => {
  await (await ledger.open()).renewLease(3_600_000, []);
  await refusal(
    migrateToNewer(ledger),
    /^the database is of an older version .* \(1 process\); stop every KME process on it/,
  );
  assert.deepEqual((await audit(ledger)).keys, 0);
}, SERVERS);

ledgerTest("tables of other programs in other schemas are not mistaken for the ledger's", async (ledger) => {
  const foreign = ["deliveries", "blocks", "processes", "kysely_migration", "kysely_migration_lock"];
  await withDatabase(ledger, async (db) => {
    await sql`create schema shop`.execute(db);
    for (const name of foreign) await sql`create table ${sql.table(`shop.${name}`)} (id integer)`.execute(db);
  });
  const store = await ledger.open();
  await fill(store, 1);
  assert.equal((await store.deliver(delivery(store)))?.length, 1);
  await closeOnce(store);
  await ledger.open();
  assert.equal((await audit(ledger)).keys, 1);
  for (const name of foreign) await sql`select id from ${sql.table(`shop.${name}`)}`.execute(ledger.tables);
}, ["postgres"]);

ledgerTest("a first start that broke off is continued by the next", async (ledger) => {
  const breaks = await migrateWithBreaks(ledger);
  assert.ok(breaks > 15, `${breaks} breaks`);
  const store = await ledger.open();
  await fill(store, 2);
  assert.equal((await store.deliver(delivery(store, 2)))?.length, 2);
}, DURABLE);

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
