/** Every way in which a key file can arrive. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { compareNames, isKeyFileName } from "../../src/ingest/key_file.ts";
import { idsOf, roomTest, testKey } from "./ingest_harness.ts";

Deno.test("a key file's name ends in .cor exactly", () => {
  for (const name of ["a.cor", "a.b.cor", ".hidden.cor"]) assert.equal(isKeyFileName(name), true, name);
  for (const name of [".cor", "cor", "a.COR", "a.cor.tmp", "acor", ".a.cor.Xy12"]) {
    assert.equal(isKeyFileName(name), false, name);
  }
});

Deno.test("names are ordered by their bytes, not by UTF-16", () => {
  const names = ["\u{10000}.cor", "\uE000.cor", "é.cor", "a.cor", "B.cor", "10.cor", "9.cor"];
  assert.deepEqual(
    names.sort(compareNames),
    ["10.cor", "9.cor", "B.cor", "a.cor", "é.cor", "\uE000.cor", "\u{10000}.cor"],
  );
});

roomTest("files found at the start are stored in the order of their names", async (room) => {
  const keys = new Map(
    ["c.cor", "\u{10000}.cor", "a.cor", "\uE000.cor", "B.cor"].map((n) => [n, testKey(96)]),
  );
  for (const [name, key] of keys) room.drop(name, key);
  await room.start().started;
  assert.deepEqual(
    room.store.stored,
    idsOf(...["B.cor", "a.cor", "c.cor", "\uE000.cor", "\u{10000}.cor"].map((name) => keys.get(name)!)),
  );
  assert.deepEqual(room.complaints, []);
});

roomTest(
  "so many files that looking at them takes longer than their rest are stored in order",
  async (room) => {
    const names = Array.from({ length: 700 }, (_, i) => `${String(i).padStart(3, "0")}.cor`);
    const keys = names.map(() => testKey(32));
    // Most file systems do not list files in the order in which they were made.
    for (const [i, name] of [...names.entries()].reverse()) room.drop(name, keys[i]!);
    await room.start({ restMs: 5 }).started;
    assert.deepEqual(room.store.stored, idsOf(...keys));
  },
);

roomTest("a file that does not come to rest does not hold up the others found at the start", async (room) => {
  const key = testKey(64);
  room.drop("b.cor", key);
  Deno.writeFileSync(room.path("a.cor"), testKey(32));
  let writing = true;
  const write = async () => {
    while (writing) {
      Deno.writeFileSync(room.path("a.cor"), testKey(32), { append: true });
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  };
  const writer = write();
  await room.start({ restMs: 1000 }).started;
  writing = false;
  await writer;
  assert.deepEqual(room.store.stored, idsOf(key));
});

roomTest("files written just before the start belong to it", async (room) => {
  const key = testKey(64);
  Deno.writeFileSync(room.path("fresh.cor"), key);
  await room.start().started;
  assert.deepEqual(room.store.stored, idsOf(key));
});

roomTest("a file that is written while running", async (room) => {
  await room.start().started;
  const key = testKey(320);
  Deno.writeFileSync(room.path("a.cor"), key);
  assert.deepEqual(await room.ingested.next(), { link: "2", file: "a.cor", stored: 10, known: 0 });
  assert.deepEqual(room.store.stored, idsOf(key));
});

roomTest("a file that is written slowly, with pauses longer than the rest", async (room) => {
  await room.start().started;
  const key = testKey(192);
  const file = Deno.openSync(room.path("a.cor"), { createNew: true, write: true });
  file.writeSync(key.subarray(0, 80));
  await room.line("ends with 16 of");
  file.writeSync(key.subarray(80, 160));
  await room.ingested.next(({ stored }) => stored === 3);
  file.writeSync(key.subarray(160));
  file.close();
  await room.ingested.next(({ stored }) => stored === 1);
  assert.deepEqual(room.store.stored, idsOf(key));
});

roomTest("a file that is written by several openings and closings", async (room) => {
  await room.start().started;
  const key = testKey(320);
  for (let at = 0; at < key.length; at += 50) {
    Deno.writeFileSync(room.path("a.cor"), key.subarray(at, at + 50), { append: true });
  }
  for (let stored = 0; stored < 10;) stored += (await room.ingested.next()).stored;
  assert.deepEqual(room.store.stored, idsOf(key));
});

roomTest("a file is not read before it is at rest", async (room) => {
  await room.start({ restMs: 30_000 }).started;
  Deno.writeFileSync(room.path("a.cor"), testKey(64));
  const rested = testKey(64);
  room.drop("b.cor", rested);
  assert.equal((await room.ingested.next()).file, "b.cor");
  assert.deepEqual(room.store.stored, idsOf(rested));
});

roomTest("an old mtime is no rest: the clock of its writer may be slow", async (room) => {
  await room.start({ restMs: 30_000 }).started;
  const file = Deno.openSync(room.path("a.cor"), { createNew: true, write: true });
  file.writeSync(testKey(64));
  const past = new Date(Date.now() - 60_000);
  file.utimeSync(past, past);
  const rested = testKey(64);
  room.drop("b.cor", rested);
  assert.equal((await room.ingested.next()).file, "b.cor");
  file.close();
  assert.deepEqual(room.store.stored, idsOf(rested));
});

roomTest("a file with an mtime in the future is read once it stands still", async (room) => {
  const key = testKey(64);
  room.drop("a.cor", key);
  const future = new Date(Date.now() + 86_400_000);
  Deno.utimeSync(room.path("a.cor"), future, future);
  await room.start().started;
  assert.deepEqual(room.store.stored, idsOf(key));
});

roomTest("a file that is renamed in", async (room) => {
  await room.start().started;
  const key = testKey(64);
  Deno.writeFileSync(join(room.outside, "x"), key);
  Deno.renameSync(join(room.outside, "x"), room.path("a.cor"));
  await room.ingested.next();
  assert.deepEqual(room.store.stored, idsOf(key));
});

roomTest("a file that gets its extension by a rename in the directory", async (room) => {
  await room.start().started;
  const key = testKey(64);
  Deno.writeFileSync(room.path("a.tmp"), key);
  Deno.renameSync(room.path("a.tmp"), room.path("a.cor"));
  assert.equal((await room.ingested.next()).file, "a.cor");
  assert.deepEqual(room.store.stored, idsOf(key));
});

roomTest("a file that is hard-linked in", async (room) => {
  await room.start().started;
  const key = testKey(64);
  Deno.writeFileSync(join(room.outside, "x"), key);
  Deno.linkSync(join(room.outside, "x"), room.path("a.cor"));
  await room.ingested.next();
  assert.deepEqual(room.store.stored, idsOf(key));
});

roomTest("a file that is copied in", async (room) => {
  await room.start().started;
  const key = testKey(64);
  Deno.writeFileSync(join(room.outside, "x"), key);
  Deno.copyFileSync(join(room.outside, "x"), room.path("a.cor"));
  await room.ingested.next();
  assert.deepEqual(room.store.stored, idsOf(key));
});

roomTest("a symbolic link is refused, whatever it leads to, and whenever it comes", async (room) => {
  const secret = join(room.outside, "private.key");
  Deno.writeFileSync(secret, testKey(64));
  Deno.symlinkSync(secret, room.path("a.cor"));
  const ingestion = room.start({ rescanMs: 20, deleteAfterRead: true });
  await ingestion.started;
  assert.deepEqual(await room.refused.next(), { link: "2", file: "a.cor", reason: "is a symbolic link" });
  // In place of a file that was seen before.
  room.drop("b.cor", testKey(64));
  room.store.beforeProgress = () => {
    room.store.beforeProgress = () => {};
    Deno.removeSync(room.path("b.cor"));
    Deno.symlinkSync(secret, room.path("b.cor"));
  };
  assert.equal((await room.refused.next()).file, "b.cor");
  assert.deepEqual(room.store.stored, []);
  assert.deepEqual(ingestion.states[0]!.refused.map(({ file }) => file), ["a.cor", "b.cor"]);
  assert.ok(Deno.statSync(secret).isFile);
});

roomTest("a scan finds what no event told", async (room) => {
  const silent = { close() {}, async *[Symbol.asyncIterator]() {} };
  await room.start({ rescanMs: 20, watch: () => silent }).started;
  const key = testKey(64);
  Deno.writeFileSync(room.path("a.cor"), key);
  await room.ingested.next();
  assert.deepEqual(room.store.stored, idsOf(key));
});

roomTest("without a watcher the scan does, and it is said once", async (room) => {
  const watch = () => {
    throw new Error("inotify limit reached");
  };
  await room.start({ rescanMs: 20, watch }).started;
  for (const name of ["a.cor", "b.cor"]) {
    Deno.writeFileSync(room.path(name), testKey(64));
    await room.ingested.next(({ file }) => file === name);
  }
  assert.equal(room.complaints.length, 1);
  assert.match(room.complaints[0]!, /Cannot watch .*inotify limit reached/);
});

roomTest("other names and subdirectories are left alone", async (room) => {
  for (const name of ["a.COR", "a.cor.bak", ".cor"]) Deno.writeFileSync(room.path(name), testKey(64));
  Deno.mkdirSync(room.path("sub"));
  Deno.writeFileSync(room.path("sub/a.cor"), testKey(64));
  room.drop("z.cor", testKey(32));
  await room.start().started;
  Deno.writeFileSync(room.path("sub/b.cor"), testKey(64));
  Deno.writeFileSync(room.path("b.COR"), testKey(64));
  room.drop("zz.cor", testKey(32));
  await room.ingested.next(({ file }) => file === "zz.cor");
  assert.equal(room.store.stored.length, 2);
  assert.deepEqual(room.complaints, []);
});

roomTest("links are independent of each other", async (room) => {
  const held = Promise.withResolvers<void>();
  room.store.beforeAdd = ({ link }) => link === "2" ? held.promise : undefined;
  const directories = [{ link: "2", directory: room.directory }, { link: "1", directory: room.outside }];
  room.drop("a.cor", testKey(64));
  Deno.writeFileSync(join(room.outside, "a.cor"), testKey(64));
  const ingestion = room.start({ directories });
  assert.equal((await room.ingested.next()).link, "1");
  held.resolve();
  await ingestion.started;
  assert.equal((await room.ingested.next()).link, "2");
});

roomTest(
  "a directory within another one's, with files of the same names: each waits for its own file",
  async (room) => {
    const inner = room.path("inner");
    Deno.mkdirSync(inner);
    const directories = [{ link: "2", directory: room.directory }, { link: "1", directory: inner }];
    await room.start({ directories, restMs: 200 }).started;
    const key = testKey(64);
    const slow = await Deno.open(join(inner, "a.cor"), { create: true, write: true });
    await slow.write(key.subarray(0, 32));
    const outer = testKey(64);
    room.drop("a.cor", outer);
    assert.equal((await room.ingested.next()).link, "2");
    assert.deepEqual(room.store.stored, idsOf(outer), "a file that is still written");
    await slow.write(key.subarray(32));
    slow.close();
    assert.equal((await room.ingested.next()).link, "1");
    assert.deepEqual(room.store.stored, idsOf(outer, key));
  },
);

roomTest("5,000 files that are moved in at once are all ingested, without a scan", async (room) => {
  const count = 5000;
  await room.start({ maxKeyCount: count }).started;
  const keys = Array.from({ length: count }, () => testKey(32));
  for (const [i, key] of keys.entries()) room.drop(`${i}.cor`, key);
  for (let i = 0; i < count; i++) await room.ingested.next();
  assert.deepEqual(room.store.stored.toSorted(), idsOf(...keys).toSorted());
});

roomTest("the directory is removed, made again, and watched again", async (room) => {
  await room.start({ rescanMs: 20 }).started;
  Deno.removeSync(room.directory);
  assert.equal((await room.line("Cannot read the directory")).level, "error");
  Deno.mkdirSync(room.directory);
  await room.line("is back");
  const key = testKey(64);
  Deno.writeFileSync(room.path("a.cor"), key);
  await room.ingested.next();
  assert.deepEqual(room.store.stored, idsOf(key));
  assert.equal(room.complaints.length, 1);
});

roomTest("a directory that is replaced between two scans is watched again", async (room) => {
  await room.start().started;
  Deno.removeSync(room.directory);
  Deno.mkdirSync(room.directory);
  const key = testKey(64);
  Deno.writeFileSync(room.path("a.cor"), key);
  await room.ingested.next();
  const later = testKey(64);
  Deno.writeFileSync(room.path("b.cor"), later);
  await room.ingested.next();
  assert.deepEqual(room.store.stored, idsOf(key, later));
});

roomTest("a directory that is missing at the start does not hold it up", async (room) => {
  Deno.removeSync(room.directory);
  await room.start({ rescanMs: 20 }).started;
  Deno.mkdirSync(room.directory);
  Deno.writeFileSync(room.path("a.cor"), testKey(64));
  await room.ingested.next();
});
