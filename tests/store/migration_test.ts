/** From the first schema to this one: nothing is lost, nothing is there twice, whatever happens meanwhile. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { sql } from "kysely";
import type { Block } from "../../src/domain/block.ts";
import { StoreUnusable } from "../../src/domain/store_errors.ts";
import { inspectDatabase } from "../../src/store/inspection.ts";
import {
  assertDistinctBlocks,
  audit,
  closeOnce,
  delivery,
  fill,
  freshBlocks,
  freshId,
  hex,
  ledgerTest,
  OWN,
  PEER,
} from "./store_fixture.ts";
import {
  HOUR,
  makeFirstSchema,
  migrateDisturbed,
  migrateWithBreaks,
  OWN_LINK,
  PEER_LINK,
  returnable,
  withDatabase,
} from "./first_schema.ts";

const DURABLE = ["sqlite", "postgres", "mariadb"] as const;
const SERVERS = ["postgres", "mariadb"] as const;

ledgerTest(
  "what a database of the first schema holds is carried over, however often that breaks off",
  async (ledger) => {
    const [free, reserved, unread, read] = freshBlocks(4) as [Block, Block, Block, Block];
    const [reservation, composed] = [freshId(), freshId()];
    const parts = freshBlocks(2);
    const made = returnable(parts);
    await makeFirstSchema(ledger, async (first) => {
      await first.insert("reservations", {
        reservation_id: reservation,
        phase: 0,
        process_id: freshId(),
        since: Date.now(),
      });
      for (const { id } of [unread, read, ...parts]) await first.insert("seen_blocks", { block_id: id });
      await first.block(free);
      await first.block(reserved, { reservation });
      await first.stock(OWN_LINK, 1);
      await first.key({ ...unread, slaves: { "11": Date.now(), "12": null } });
      await first.key({ id: read.id, bits: null, slaves: { "11": Date.now() } });
      await first.key({
        id: composed,
        bits: Buffer.concat(parts.map((part) => part.bits)),
        slaves: { "11": null },
        returnable: made,
      });
    });

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
      transaction: made.transaction,
      blocks: made.blocks,
      reuse: true,
    });
    assert.ok(taken.kind === "takenBack" && taken.free.length === 2);
    assert.equal((await get("11", composed)).kind, "missing");
    // New blocks and deliveries do not collide with old ones.
    const added = await fill(store, 3);
    const keys = (await store.deliver(delivery(store, 4)))!;
    assertDistinctBlocks(keys, [free, ...added]);
    for (const { id } of keys) assert.equal((await get("12", id, "11")).kind, "keys");
  },
  DURABLE,
);

ledgerTest(
  "the old version, started after each break of the migration, hands out nothing that is handed out again",
  async (ledger) => {
    const blocks = freshBlocks(80);
    await makeFirstSchema(ledger, async (first) => {
      for (const block of blocks) await first.block(block);
      await first.stock(OWN_LINK, blocks.length);
    });
    const handedOut: Block[] = [];
    const takenUp: Block[] = [];
    await migrateWithBreaks(ledger, () =>
      withDatabase(ledger, async (first) => {
        const key = await first.deliver("12").catch(() => undefined);
        if (key !== undefined) handedOut.push(key);
        const [block] = freshBlocks(1);
        await first.ingestBlocks(block!).then(() => takenUp.push(block!), () => {});
      }));
    if (ledger.kind !== "mariadb") assert.ok(handedOut.length > 0 && takenUp.length > 0);
    const store = await ledger.open();
    const held = await audit(ledger);
    assert.equal(held.keys, handedOut.length);
    assert.equal(held.free, blocks.length + takenUp.length - handedOut.length);
    const keys = (await store.deliver(delivery(store, held.free)))!;
    assertDistinctBlocks([...handedOut, ...keys], [...blocks, ...takenUp]);
    for (const { id } of handedOut) {
      assert.equal((await store.collect({ caller: "12", master: "21", ids: [id] })).kind, "keys");
    }
  },
  DURABLE,
);

ledgerTest(
  "what an old process still does beside the migration is kept, or it fails",
  async (ledger) => {
    // More than there are statements: after each one a key is read and another one removed.
    const reads = freshBlocks(60).map(({ id, bits }, i) => ({ id, bits, slave: `reads${i}` }));
    const removals = freshBlocks(60).map(({ id, bits }, i) => ({ id, bits, slave: `removed${i}` }));
    const keys = [...reads, ...removals];
    await makeFirstSchema(ledger, async (first) => {
      for (const { id, bits, slave } of keys) {
        await first.insert("seen_blocks", { block_id: id });
        await first.key({ id, bits, slaves: { [slave]: null } });
      }
    });
    const read = new Set<string>();
    const removed = new Set<string>();
    await withDatabase(ledger, async (first, db) => {
      const failure = await migrateDisturbed(ledger, {
        after: async (statement) => {
          // Waits for nobody.
          await (ledger.kind === "postgres"
            ? sql`set lock_timeout = '1ms'`
            : sql`set session lock_wait_timeout = 0, innodb_lock_wait_timeout = 0`).execute(db);
          const [reading, removing] = [reads[statement]!, removals[statement]!];
          if (!read.has(reading.slave)) {
            await first.read(reading.id, reading.slave).then(() => read.add(reading.slave), () => {});
          }
          await first.remove(removing.id).then(() => removed.add(removing.slave), () => {});
        },
      });
      assert.equal(failure, undefined);
    });
    const store = await ledger.open();
    for (const { id, bits, slave } of keys) {
      const got = await store.collect({ caller: slave, master: "21", ids: [id] });
      const gone = read.has(slave) || removed.has(slave);
      assert.equal(got.kind, gone ? "missing" : "keys", `${slave}: ${gone ? "gone" : "there"} before`);
      assert.ok(got.kind !== "keys" || hex(got.keys[0]!.bits) === hex(bits));
    }
  },
  SERVERS,
);

ledgerTest("a database that processes of the old version use is not migrated", async (ledger) => {
  const [block] = freshBlocks(1);
  await makeFirstSchema(ledger, async (first) => {
    await first.block(block!);
    await first.stock(OWN_LINK, 1);
    await first.insert("processes", { process_id: freshId(), lease_until: Date.now() + HOUR });
  });
  await assert.rejects(ledger.open(), (error: unknown) => {
    assert.ok(error instanceof StoreUnusable);
    assert.match(
      error.message,
      /^the database is of an older version .* \(1 process\); stop every KME process on it/,
    );
    return true;
  });
  // There it is as it was, for those who use it.
  await withDatabase(ledger, async (first, db) => {
    assert.equal(hex((await first.deliver("12"))!.id), hex(block!.id));
    await sql`update processes set lease_until = ${Date.now()}`.execute(db);
  });
  await ledger.open();
  assert.deepEqual((await audit(ledger)).keys, 1);
}, SERVERS);

ledgerTest(
  "a block that was a key and is taken back goes to its end of the pool, as an old one",
  async (ledger) => {
    // Of both halves.
    const blocks = freshBlocks(40);
    const odd = blocks.find(({ id }) => id[15]! & 1)!;
    const even = blocks.find(({ id }) => !(id[15]! & 1))!;
    const transaction = freshId();
    await makeFirstSchema(ledger, async (first) => {
      await first.stock(PEER_LINK, 0);
      for (const block of [odd, even]) {
        await first.insert("seen_blocks", { block_id: block.id });
        await first.key({
          ...block,
          slaves: { "12": null },
          returnable: { transaction, blocks: [block.id] },
        });
      }
    });
    const store = await ledger.open();
    const link = store.link(PEER.text)!;
    const ids = [odd.id, even.id];
    const taken = await store.takeBack({ link, transaction, blocks: ids, reuse: true });
    assert.ok(taken.kind === "takenBack");
    assert.deepEqual(new Set(taken.free.map(hex)), new Set(ids.map(hex)));
    for (const row of await ledger.tables.selectFrom("blocks").selectAll().execute()) {
      assert.equal(row.half, row.block_id[15]! & 1, "its half");
      assert.equal(row.stored_at, 0, "its age");
    }
    assert.equal((await audit(ledger)).free, 2);
  },
  DURABLE,
);

ledgerTest("a key with the key_ID of a block in the pool is carried over beside it", async (ledger) => {
  const [block, other] = freshBlocks(2) as [Block, Block];
  await makeFirstSchema(ledger, async (first) => {
    await first.block(block);
    await first.stock(OWN_LINK, 1);
    await first.key({ id: block.id, bits: other.bits, slaves: { "12": null } });
  });
  const store = await ledger.open();
  const got = await store.collect({ caller: "12", master: "21", ids: [block.id] });
  assert.ok(got.kind === "keys" && hex(got.keys[0]!.bits) === hex(other.bits));
  assert.equal(await store.freeBlocks(OWN.text), 1);
}, DURABLE);

ledgerTest("rows that cannot be carried over stop the migration, and are still there", async (ledger) => {
  const [block] = freshBlocks(1);
  await makeFirstSchema(ledger, async (first) => {
    await first.insert("seen_blocks", { block_id: block!.id });
    await first.key({ ...block!, slaves: { "12": null } });
  });
  const orphan = freshId();
  await withDatabase(ledger, (first, db) =>
    db.connection().execute(async (connection) => {
      const enforce = (on: boolean) =>
        sql.raw(ledger.kind === "sqlite" ? `pragma foreign_keys = ${on}` : `set foreign_key_checks = ${on}`)
          .execute(connection);
      await enforce(false);
      await first.insert("key_slaves", { key_id: orphan, sae_id: "12" }, connection);
      await enforce(true);
    }));
  for (let i = 0; i < 2; i++) {
    await assert.rejects(ledger.open(), (error: unknown) => {
      assert.ok(error instanceof StoreUnusable);
      assert.match(error.message, /2 rows of key_slaves_0001 became 1 of delivery_slaves; nothing is lost/);
      return true;
    });
  }
  // Mended by hand, it goes on.
  await withDatabase(
    ledger,
    (_, db) =>
      sql`delete from ${sql.table(ledger.kind === "sqlite" ? "key_slaves" : "key_slaves_0001")}
      where key_id = ${Buffer.from(orphan)}`.execute(db),
  );
  await ledger.open();
  assert.equal((await audit(ledger)).keys, 1);
}, ["sqlite", "mariadb"]);

ledgerTest("tables of other programs in other schemas are not taken for the ledger's", async (ledger) => {
  const foreign = ["deliveries", "blocks", "keys", "processes", "kysely_migration", "kysely_migration_lock"];
  await withDatabase(ledger, async (_, db) => {
    await sql`create schema shop`.execute(db);
    for (const name of foreign) await sql`create table ${sql.table(`shop.${name}`)} (id integer)`.execute(db);
  });
  const [block] = freshBlocks(1);
  await makeFirstSchema(ledger, async (first) => {
    await first.block(block!);
    await first.stock(OWN_LINK, 1);
  });
  const store = await ledger.open();
  assert.equal((await store.deliver(delivery(store)))?.length, 1);
  await closeOnce(store);
  await ledger.open();
  assert.equal((await audit(ledger)).keys, 1);
  for (const name of foreign) await sql`select id from ${sql.table(`shop.${name}`)}`.execute(ledger.tables);
}, ["postgres"]);

ledgerTest("after a migration that broke off, counting says what to do", async (ledger) => {
  await makeFirstSchema(ledger, (first) => first.stock(OWN_LINK, 0));
  const failure = await migrateDisturbed(ledger, {
    before: (statement) => {
      if (statement > 1) throw new Error("broken off");
    },
  });
  assert.match(failure!.message, /broken off/);
  assert.equal((await inspectDatabase(ledger.database)).kind, "seen");
  await assert.rejects(inspectDatabase(ledger.database, { count: true }), (error: unknown) => {
    assert.ok(error instanceof StoreUnusable);
    assert.match(error.message, /^the tables are between two versions .*start the KME/);
    return true;
  });
  await closeOnce(await ledger.open());
  const seen = await inspectDatabase(ledger.database, { count: true });
  assert.ok(seen.kind === "seen" && seen.stock?.keys === 0);
}, ["mariadb"]);
