/** A block is ingested once, whatever happens to its file. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { idsOf, roomTest, testKey } from "./ingest_harness.ts";

roomTest("a restart does not read what was read", async (room) => {
  room.drop("a.cor", testKey(64));
  room.drop("rest.cor", testKey(70));
  await room.start().started;
  await room.stop();
  const batches = room.store.batches.length;
  await room.start().started;
  assert.equal(room.store.batches.length, batches);
  assert.equal(room.ingested.all.length, 2);
});

roomTest("a touch stores nothing again", async (room) => {
  room.drop("a.cor", testKey(64));
  await room.start().started;
  await room.ingested.next();
  Deno.utimeSync(room.path("a.cor"), new Date(), new Date());
  await room.line("a.cor of link 2 was ingested before");
  assert.equal(room.store.batches.length, 1);
});

roomTest("a touch while nothing runs stores nothing again", async (room) => {
  room.drop("a.cor", testKey(64));
  await room.start().started;
  await room.stop();
  Deno.utimeSync(room.path("a.cor"), new Date(), new Date());
  await room.start().started;
  assert.equal(room.store.batches.length, 1);
});

roomTest(
  "another file with the name, size and times of an ingested one is read, not deleted unread",
  async (room) => {
    const [first, second] = [testKey(3200), testKey(3200)];
    const time = new Date(Date.now() - 60_000);
    const put = (bytes: Uint8Array) => {
      Deno.writeFileSync(room.path("a.cor"), bytes);
      Deno.utimeSync(room.path("a.cor"), time, time);
    };
    put(first);
    await room.start({ deleteAfterRead: true }).started;
    await room.stop();
    // In the same place on the disk too, where the file system reuses it.
    put(second);
    await room.start({ deleteAfterRead: true }).started;
    assert.deepEqual(room.store.stored, idsOf(first, second));
  },
);

roomTest(
  "a file that is overwritten in place after it was ingested is read before it is deleted",
  async (room) => {
    const [first, second] = [testKey(320), testKey(320)];
    const time = new Date(Date.now() - 60_000);
    const put = (bytes: Uint8Array) => {
      Deno.writeFileSync(room.path("a.cor"), bytes);
      Deno.utimeSync(room.path("a.cor"), time, time);
    };
    put(first);
    // It waits to be deleted, since nothing tells that its writer is done.
    await room.start({ deleteAfterRead: true, quietMs: 300, rescanMs: 20 }).started;
    await room.ingested.next();
    put(second);
    await room.ingested.next();
    assert.deepEqual(room.store.stored, idsOf(first, second));
  },
);

roomTest("further events for a file that has not changed do nothing", async (room) => {
  room.drop("a.cor", testKey(64));
  await room.start().started;
  for (let i = 0; i < 3; i++) Deno.openSync(room.path("a.cor"), { write: true }).close();
  Deno.chmodSync(room.path("a.cor"), 0o600);
  room.drop("b.cor", testKey(64));
  await room.ingested.next(({ file }) => file === "b.cor");
  assert.deepEqual(room.store.batches.map(({ file }) => file.name), ["a.cor", "b.cor"]);
});

roomTest("the same keys under another name are known", async (room) => {
  const key = testKey(64);
  room.drop("a.cor", key);
  await room.start().started;
  await room.ingested.next();
  Deno.renameSync(room.path("a.cor"), room.path("b.cor"));
  assert.deepEqual(await room.ingested.next(), { link: "2", file: "b.cor", stored: 0, known: 2 });
});

roomTest("another file under the same name is read from its start", async (room) => {
  const [first, second] = [testKey(64), testKey(128)];
  room.drop("a.cor", first);
  await room.start().started;
  await room.ingested.next();
  room.drop("a.cor", second);
  assert.deepEqual(await room.ingested.next(), { link: "2", file: "a.cor", stored: 4, known: 0 });
  assert.deepEqual(room.store.stored, idsOf(first, second));
});

roomTest("a file that grows while it is read is read again when it is at rest", async (room) => {
  const key = testKey(128);
  room.drop("a.cor", key.subarray(0, 48));
  room.store.beforeProgress = () => {
    room.store.beforeProgress = () => {};
    Deno.writeFileSync(room.path("a.cor"), key.subarray(48), { append: true });
  };
  await room.start().started;
  await room.ingested.next();
  assert.deepEqual(room.store.stored, idsOf(key));
  assert.deepEqual(room.store.batches.map(({ file }) => file.size), [128]);
});

roomTest("what is read while the file is rewritten is not stored", async (room) => {
  const [before, after] = [testKey(64), testKey(64)];
  room.drop("a.cor", before);
  room.store.beforeProgress = () => {
    room.store.beforeProgress = () => {};
    Deno.writeFileSync(room.path("a.cor"), after);
  };
  await room.start().started;
  await room.ingested.next();
  assert.deepEqual(room.store.stored, idsOf(after));
});

roomTest("a file that is truncated or vanishes while it is read is no error", async (room) => {
  room.drop("a.cor", testKey(64));
  room.drop("b.cor", testKey(64));
  room.store.beforeProgress = (name) => {
    if (name === "a.cor") Deno.removeSync(room.path(name));
    else Deno.truncateSync(room.path(name), 32);
    if (name === "b.cor") room.store.beforeProgress = () => {};
  };
  await room.start().started;
  await room.ingested.next(({ file }) => file === "b.cor");
  assert.equal(room.store.stored.length, 1);
  assert.deepEqual(room.complaints, []);
});

roomTest("a process that may not ingest leaves everything to the other one", async (room) => {
  let may = false;
  room.drop("a.cor", testKey(64));
  const ingestion = room.start({ mayIngest: () => Promise.resolve(may), rescanMs: 20 });
  await ingestion.started;
  assert.equal(room.store.batches.length, 0);
  may = true;
  await room.ingested.next();
  assert.equal(room.store.stored.length, 2);
});

function largeFile(blocks = 100_000): Uint8Array {
  return Buffer.concat(Array.from({ length: Math.ceil(blocks / 256) }, () => testKey(32 * 256))).subarray(
    0,
    32 * blocks,
  );
}

roomTest("transactions grow while no request comes, and are short again when one does", async (room) => {
  const { store } = room;
  store.beforeAdd = () => {
    if (store.batches.length === 6) store.requests++;
  };
  const bytes = largeFile();
  room.drop("a.cor", bytes);
  room.start({ maxKeyCount: 1_000_000, quickMs: 30_000 });
  await room.ingested.next();
  const sizes = store.batches.map(({ blocks }) => blocks.length);
  assert.deepEqual(store.stored, idsOf(bytes));
  assert.equal(sizes[0], 2048);
  assert.equal(Math.max(...sizes), 16_384);
  // Even what had been read for a long one.
  assert.ok(sizes[7]! <= 2048, `${sizes[7]} blocks`);
});

roomTest("transactions become short where they delay requests", async (room) => {
  const { store } = room;
  store.beforeAdd = async () => {
    store.requests++;
    await new Promise((resolve) => setTimeout(resolve, 50));
  };
  const bytes = largeFile(5000);
  room.drop("a.cor", bytes);
  room.start({ maxKeyCount: 1_000_000 });
  await room.ingested.next();
  assert.deepEqual(store.stored, idsOf(bytes));
  assert.deepEqual(store.batches.slice(0, 4).map(({ blocks }) => blocks.length), [2048, 1024, 512, 256]);
});

roomTest("fewer small files share a transaction where it delays requests", async (room) => {
  const { store } = room;
  let together = 0;
  let most = 0;
  store.beforeAdd = async ({ file }) => {
    store.requests++;
    if (file.name !== "large.cor") most = Math.max(most, ++together);
    await new Promise((resolve) => setTimeout(resolve, 50));
    if (file.name !== "large.cor") together--;
  };
  // Four slow transactions, after which the next one has 256 blocks.
  room.drop("large.cor", largeFile(2048 + 1024 + 512 + 256));
  for (let i = 0; i < 20; i++) room.drop(`small${i}.cor`, testKey(32 * 64));
  await room.start({ maxKeyCount: 1_000_000 }).started;
  assert.equal(store.stored.length, 3840 + 20 * 64);
  assert.equal(most, 4);
});

roomTest("transactions do not grow where they are slow, or hold up the program", async (room) => {
  const { store } = room;
  store.blocking = true;
  room.drop("a.cor", largeFile());
  room.start({ maxKeyCount: 1_000_000 });
  await room.ingested.next();
  store.blocking = false;
  // A disk that takes longer the more it gets.
  store.beforeAdd = (batch) =>
    new Promise((resolve) => setTimeout(resolve, batch.blocks.length > 4096 ? 600 : 0));
  room.drop("b.cor", largeFile());
  await room.ingested.next();
  const sizes = store.batches.map(({ blocks, file }) => [file.name, blocks.length] as const);
  assert.ok(sizes.every(([name, size]) => name === "b.cor" || size <= 2048), "in this thread");
  const slow = sizes.flatMap(([, size], i) => size > 4096 ? [i] : []);
  assert.ok(slow.length > 0, "it was tried");
  for (const i of slow) assert.ok((sizes[i + 1]?.[1] ?? 0) <= 2048, "after a slow one");
});

roomTest("a transaction that fails is tried again as a small one", async (room) => {
  const { store } = room;
  store.beforeAdd = (batch) => {
    if (batch.blocks.length > 4096) throw new Error("for tests: the disk is full");
  };
  const bytes = largeFile();
  room.drop("a.cor", bytes);
  room.start({ maxKeyCount: 1_000_000 });
  await room.ingested.next();
  assert.deepEqual(store.stored, idsOf(bytes));
});
