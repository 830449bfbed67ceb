/** The write-ahead log of an SQLite file is copied into the file after answers, not within the commits that they wait for. */
import assert from "node:assert/strict";
import { Kysely, sql } from "kysely";
import { sqliteDialect } from "../../src/store/dialects/sqlite.ts";
import { startStoreWorker } from "../../src/store/engine/worker_executor.ts";
import { Store } from "../../src/store/store.ts";
import { eventually } from "../harness/eventually.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { fullDiskTest } from "./full_disk.ts";
import { fill, OWN } from "./store_fixture.ts";

Deno.test("sqlite: a commit only writes the log, and the work after it copies a long log into the file", async () => {
  await using dir = await makeTempDir("kme-ledger-");
  const path = `${dir.path}/kme.db`;
  const dialect = sqliteDialect(path);
  const db = new Kysely<unknown>({ dialect: dialect.kysely });
  try {
    const bytes = 1500 * 4096;
    await sql`create table filler (bytes blob)`.execute(db);
    dialect.tidy!(false);
    assert.ok(Deno.statSync(path).size < bytes, "a short log stays");
    await sql`insert into filler values (zeroblob(${bytes}))`.execute(db);
    assert.ok(Deno.statSync(path).size < bytes);
    dialect.tidy!(false);
    assert.ok(Deno.statSync(path).size > bytes);
  } finally {
    await db.destroy();
  }
});

Deno.test("sqlite: a log of some length is copied when no work is expected, and when there is much it may become longer", async () => {
  await using dir = await makeTempDir("kme-ledger-");
  const path = `${dir.path}/kme.db`;
  const dialect = sqliteDialect(path);
  const db = new Kysely<unknown>({ dialect: dialect.kysely });
  try {
    const bytes = 300 * 4096;
    await sql`create table filler (bytes blob)`.execute(db);
    await sql`insert into filler values (zeroblob(${bytes}))`.execute(db);
    dialect.tidy!(false);
    assert.ok(Deno.statSync(path).size < bytes);
    dialect.tidy!(true);
    assert.ok(Deno.statSync(path).size > bytes);
  } finally {
    await db.destroy();
  }
});

fullDiskTest(
  "sqlite: a full disk fails the copy of the log, which is not tried again after each answer",
  32,
  async (disk) => {
    const path = `${disk.path}/kme.db`;
    const dialect = sqliteDialect(path);
    const db = new Kysely<unknown>({ dialect: dialect.kysely });
    try {
      const bytes = 1500 * 4096;
      await sql`create table filler (bytes blob)`.execute(db);
      await sql`pragma wal_checkpoint(truncate)`.execute(db);
      await sql`insert into filler values (zeroblob(${bytes}))`.execute(db);
      await disk.fill();
      const past = new Date(1_000_000_000_000);
      const isWritten = () => {
        Deno.utimeSync(path, past, past);
        dialect.tidy!(false);
        return Deno.statSync(path).mtime!.getTime() !== past.getTime();
      };
      assert.equal(isWritten(), true);
      assert.ok(Deno.statSync(path).size < bytes, "the disk is not full");
      assert.equal(isWritten(), false, "tried again");
      await sql`select count(*) from filler`.execute(db);
      await disk.empty();
      await sql`insert into filler values (null)`.execute(db);
      assert.equal(isWritten(), true);
      assert.ok(Deno.statSync(path).size > bytes);
    } finally {
      await db.destroy();
    }
    assert.throws(() => Deno.statSync(`${path}-wal`), Deno.errors.NotFound);
    // The answer to a request that was under way when the database was closed.
    dialect.tidy!(false);
  },
);

Deno.test("sqlite: the log stays short while a store is used", async () => {
  await using dir = await makeTempDir("kme-ledger-");
  const path = `${dir.path}/kme.db`;
  const store = await openInThread(path);
  try {
    // They write some 2,500 pages of 4 KiB. Without the work after answers all of them would be in the log, which SQLite copies
    // when it has 4,000 pages.
    for (let round = 0; round < 16; round++) {
      await fill(store, 1000);
      // The answer to a read comes after the work that follows the answers before it.
      await store.generation();
      assert.ok(Deno.statSync(`${path}-wal`).size < 2000 * 4096);
    }
  } finally {
    await store.close();
  }
});

Deno.test("sqlite: the log is copied when a store is not used for a moment", async () => {
  await using dir = await makeTempDir("kme-ledger-");
  const path = `${dir.path}/kme.db`;
  const store = await openInThread(path);
  try {
    // They write more than 200 pages of 4 KiB and less than 1,000.
    for (let round = 0; round < 3; round++) await fill(store, 1000);
    await eventually(() => Deno.statSync(path).size > 100 * 4096);
    // It was not the regular work that truncates the log as well.
    assert.ok(Deno.statSync(`${path}-wal`).size > 100 * 4096);
  } finally {
    await store.close();
  }
});

function openInThread(path: string): Promise<Store> {
  return Store.open({
    database: { kind: "sqlite", path },
    thisKme: OWN,
    neighbours: [],
    worker: startStoreWorker,
    // Nothing here is about time: a busy disk may take long for a commit.
    statementLimitMs: 60_000,
  });
}
