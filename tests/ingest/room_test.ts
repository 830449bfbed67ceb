/** Full links, big files, failing stores. */
import assert from "node:assert/strict";
import { idsOf, roomTest, testKey } from "./ingest_harness.ts";

roomTest("a full link keeps its files and resumes where it stopped", async (room) => {
  const [a, b] = [testKey(8 * 32), testKey(3 * 32)];
  room.drop("a.cor", a);
  room.drop("b.cor", b);
  const ingestion = room.start({ maxKeyCount: 5 });
  await ingestion.started;
  assert.equal(room.store.stored.length, 5);
  await room.line("full");
  room.store.deliver("2", 4);
  ingestion.roomMade("2");
  assert.deepEqual(await room.ingested.next(), { link: "2", file: "a.cor", stored: 8, known: 0 });
  await room.line("has room again");
  await room.line("full");
  assert.deepEqual(room.store.batches.map(({ file }) => [file.name, file.offset]), [
    ["a.cor", 0],
    ["a.cor", 160],
    ["b.cor", 0],
  ]);
  room.store.deliver("2", 5);
  ingestion.roomMade("2");
  await room.ingested.next();
  assert.deepEqual(room.store.stored, idsOf(a, b));
  assert.equal(room.lines.all.filter(({ text }) => text.includes("full")).length, 2);
});

roomTest("what was read of a file is overwritten, also the part that was stored before", async (room) => {
  room.drop("a.cor", testKey(4 * 32));
  room.start({ maxKeyCount: 2 });
  await room.line("is full");
  await room.stop();
  room.drop("b.cor", testKey(32));
  await room.start().started;
  assert.deepEqual(room.store.batches.map(({ blocks }) => blocks.length), [2, 2, 1]);
  for (const { blocks } of room.store.batches) {
    assert.ok(new Uint8Array(blocks[0]!.bits.buffer).every((byte) => byte === 0));
  }
});

roomTest("a full link resumes by itself", async (room) => {
  room.drop("a.cor", testKey(64));
  await room.start({ maxKeyCount: 1, rescanMs: 20 }).started;
  room.store.deliver("2", 1);
  await room.ingested.next();
  assert.equal(room.store.stored.length, 2);
});

roomTest("a full link resumes where it stopped after a restart", async (room) => {
  const key = testKey(5 * 32);
  room.drop("a.cor", key);
  await room.start({ maxKeyCount: 3 }).started;
  await room.stop();
  await room.start({ maxKeyCount: 10 }).started;
  assert.deepEqual(room.store.batches.map(({ file }) => file.offset), [0, 96]);
  assert.deepEqual(room.store.stored, idsOf(key));
});

roomTest("a file whose link is full is not read", async (room) => {
  room.drop("a.cor", testKey(64));
  await room.start({ maxKeyCount: 2 }).started;
  room.drop("b.cor", testKey(64));
  await room.line("full");
  assert.equal(room.store.batches.length, 1);
});

roomTest("a link that the store finds full earlier than told waits", async (room) => {
  room.drop("a.cor", testKey(64));
  const ingestion = room.start({ maxKeyCount: 2 });
  room.store.beforeAdd = () => room.store.deliver("2", -1);
  await ingestion.started;
  assert.equal(room.store.stored.length, 1);
  room.store.beforeAdd = () => {};
  room.store.deliver("2", 1);
  ingestion.roomMade("2");
  await room.ingested.next();
});

roomTest("a big file is read in batches, and others get their turn between them", async (room) => {
  const bytes = 16 * 1024 * 1024;
  const file = Deno.openSync(room.path("big.cor"), { createNew: true, write: true });
  for (let at = 0; at < bytes; at += 65_536) file.writeSync(testKey(65_536));
  file.close();
  let [blocks, largest, batches, turns] = [0, 0, 0, 0];
  const timer = setInterval(() => turns++, 0);
  // Does not even remember: the test is not about the store's memory.
  room.store.addBlocks = (batch) => {
    assert.equal(batch.file.offset, blocks * 32);
    blocks += batch.blocks.length;
    largest = Math.max(largest, batch.blocks.length);
    batches++;
    return Promise.resolve({ stored: batch.blocks.length, known: 0, taken: batch.blocks.length });
  };
  await room.start({ maxKeyCount: 1_000_000 }).started;
  clearInterval(timer);
  assert.equal(blocks, bytes / 32);
  assert.ok(largest <= 16_384, `${largest} blocks in a batch`);
  assert.ok(turns >= batches / 2, `${turns} turns in ${batches} batches`);
});

roomTest("a store that fails loses nothing, and is complained about once", async (room) => {
  const [a, b] = [testKey(64), testKey(64)];
  room.drop("a.cor", a);
  room.drop("b.cor", b);
  let attempts = 0;
  const tried = Promise.withResolvers<void>();
  room.store.beforeAdd = () => {
    if (++attempts === 4) tried.resolve();
    if (attempts <= 4) throw new Error("the database is away");
  };
  await room.start({ deleteAfterRead: true }).started;
  await tried.promise;
  await room.ingested.next(({ file }) => file === "b.cor");
  await room.line("answers again");
  assert.deepEqual(room.store.stored, idsOf(a, b));
  assert.equal(room.complaints.length, 1);
  assert.match(room.complaints[0]!, /the database is away/);
  assert.equal(room.lines.all.filter(({ text }) => text.includes("answers again")).length, 1);
});

roomTest("closing lets the transaction under way finish, and no other follows", async (room) => {
  room.drop("a.cor", testKey(64));
  const [entered, held] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  room.store.beforeAdd = () => {
    entered.resolve();
    return held.promise;
  };
  const ingestion = room.start();
  await entered.promise;
  room.drop("b.cor", testKey(64));
  let closed = false;
  const closing = ingestion.close().then(() => closed = true);
  await Deno.stat(room.directory);
  assert.equal(closed, false);
  held.resolve();
  await closing;
  await ingestion.started;
  assert.deepEqual(room.store.batches.map(({ file }) => file.name), ["a.cor"]);
});
