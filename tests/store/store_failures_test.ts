/** Real errors of each driver, how they are taken, and how long a caller waits. */
import assert from "node:assert/strict";
import { Kysely, sql } from "kysely";
import { openDialect } from "../../src/store/dialects/open.ts";
import { StoreUnavailable } from "../../src/domain/store_errors.ts";
import type { Schema } from "../../src/store/table_schema.ts";
import { eventually } from "../harness/eventually.ts";
import { delivery, fill, type Ledger, ledgerTest, OWN } from "./store_fixture.ts";

const SERVERS = ["postgres", "mariadb"] as const;

async function failureOf(run: Promise<unknown>): Promise<unknown> {
  return await run.then(() => assert.fail("no error"), (error: unknown) => error);
}

/** Another client of the same database, closed with the test. */
function another(ledger: Ledger, stack: AsyncDisposableStack, limit?: number) {
  const dialect = openDialect(ledger.database, () => {}, limit);
  const db = new Kysely<Schema>({ dialect: dialect.kysely });
  stack.defer(() => db.destroy());
  return { dialect, db };
}

ledgerTest("a deadlock is tried again", async (ledger) => {
  await using stack = new AsyncDisposableStack();
  await ledger.open();
  const { db, dialect } = another(ledger, stack);
  await db.insertInto("links").values([{ kme_id: "x" }, { kme_id: "y" }]).execute();
  const arrived = { x: Promise.withResolvers<void>(), y: Promise.withResolvers<void>() };
  const lockBoth = (first: "x" | "y", second: "x" | "y") =>
    db.transaction().execute(async (trx) => {
      await trx.selectFrom("links").selectAll().where("kme_id", "=", first).forUpdate().execute();
      arrived[first].resolve();
      await arrived[second].promise;
      await trx.selectFrom("links").selectAll().where("kme_id", "=", second).forUpdate().execute();
    });
  const results = await Promise.allSettled([lockBoth("x", "y"), lockBoth("y", "x")]);
  const failed = results.filter((result) => result.status === "rejected");
  assert.equal(failed.length, 1);
  assert.equal(dialect.classify(failed[0]!.reason), "again");
}, SERVERS);

ledgerTest(
  "a lock that another one holds, a connection that is ended, a statement that is wrong",
  async (ledger) => {
    await using stack = new AsyncDisposableStack();
    const store = await ledger.open();
    await fill(store, 3);
    const { db, dialect } = another(ledger, stack);
    const release = Promise.withResolvers<void>();
    const locked = Promise.withResolvers<void>();
    const holder = db.transaction().execute(async (trx) => {
      await trx.selectFrom("byte_counts").selectAll().forUpdate().execute();
      locked.resolve();
      await release.promise;
    });
    await locked.promise;
    const begin = performance.now();
    const waiting = await failureOf(db.selectFrom("byte_counts").selectAll().forUpdate().execute());
    assert.equal(dialect.classify(waiting), "unavailable");
    assert.ok(performance.now() - begin < 40_000);
    release.resolve();
    await holder;

    const ended = await failureOf(
      db.connection().execute(async (connection) => {
        const id = ledger.kind === "postgres"
          ? (await sql<{ id: number }>`select pg_backend_pid() as id`.execute(connection)).rows[0]!.id
          : (await sql<{ id: number }>`select connection_id() as id`.execute(connection)).rows[0]!.id;
        const kill = ledger.kind === "postgres"
          ? sql`select pg_terminate_backend(${id})`
          : sql.raw(`kill ${id}`);
        await kill.execute(ledger.tables);
        await eventually(async () => {
          await sql`select 1`.execute(connection);
          return false;
        }, { timeout: 1, what: "the connection to be lost" }).catch((error) => {
          throw error.cause ?? error;
        });
        await sql`select 1`.execute(connection);
      }),
    );
    assert.equal(dialect.classify(ended), "unavailable");
    const wrong = await failureOf(sql`select nothing from nowhere`.execute(db));
    assert.equal(dialect.classify(wrong), "fault");
    assert.equal((await store.deliver(delivery(store)))?.length, 1);
  },
  SERVERS,
);

ledgerTest(
  "callers wait seconds, not minutes, behind locks that are not released; the store goes on afterwards",
  async (ledger) => {
    await using stack = new AsyncDisposableStack();
    const store = await ledger.open({ statementLimitMs: undefined });
    await fill(store, 400);
    const { db } = another(ledger, stack, 60_000);
    const release = Promise.withResolvers<void>();
    const locked = Promise.withResolvers<void>();
    // Whoever holds the stock stops every writer, in all lanes.
    const holder = db.transaction().execute(async (trx) => {
      await trx.selectFrom("stock").selectAll().forUpdate().execute();
      locked.resolve();
      await release.promise;
    });
    await locked.promise;
    const waits: number[] = [];
    await Promise.all(Array.from({ length: 300 }, async () => {
      const begin = performance.now();
      await assert.rejects(store.deliver(delivery(store)), StoreUnavailable);
      waits.push(performance.now() - begin);
    }));
    const longest = Math.max(...waits);
    assert.ok(longest < 40_000, `a caller waited ${longest} ms`);
    release.resolve();
    await holder;
    const keys = await store.deliver(delivery(store, 400));
    assert.equal(keys?.length, 400, "something was spent");
    assert.equal(await store.freeBlocks(OWN.text), 0);
  },
  SERVERS,
);
