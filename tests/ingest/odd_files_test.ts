/** Files that are not as they should be: one warning each, and ingestion goes on. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { idsOf, type Room, roomTest, testKey } from "./ingest_harness.ts";

const HOUR = 3_600_000;

/** A good file still goes through, and a second scan has come by then. */
async function goesOn(room: Room): Promise<void> {
  for (const name of ["zz1.cor", "zz2.cor"]) {
    room.drop(name, testKey(32));
    await room.ingested.next(({ file }) => file === name);
  }
}

/** Runs with a function of `Deno` failing for one path: the tests may run as root, whom no mode keeps out. */
async function denying(what: "lstat" | "remove", path: string, body: () => Promise<void>): Promise<void> {
  const original = Deno[what];
  const denied = (target: string | URL, ...rest: never[]) =>
    target === path
      ? Promise.reject(new Deno.errors.PermissionDenied("denied for a test"))
      : (original as (target: string | URL, ...rest: never[]) => Promise<unknown>)(target, ...rest);
  Object.assign(Deno, { [what]: denied });
  try {
    await body();
  } finally {
    Object.assign(Deno, { [what]: original });
  }
}

roomTest("an empty file", async (room) => {
  room.drop("a.cor", new Uint8Array());
  await room.start({ rescanMs: 10, deleteAfterRead: true }).started;
  await goesOn(room);
  assert.deepEqual(room.complaints, [`a.cor in ${room.directory} of link 2 is empty`]);
  assert.ok(Deno.statSync(room.path("a.cor")).isFile);
  const key = testKey(64);
  room.drop("a.cor", key);
  assert.equal((await room.ingested.next()).stored, 2);
});

roomTest("rests of 1 and 31 bytes are left out, and said again only when the file changes", async (room) => {
  const [one, most] = [testKey(65), testKey(31)];
  room.drop("a.cor", one);
  room.drop("b.cor", most);
  await room.start({ rescanMs: 10, deleteAfterRead: true }).started;
  await goesOn(room);
  assert.deepEqual(room.store.stored.slice(0, 2), idsOf(one));
  assert.deepEqual(room.complaints.toSorted(), [
    `a.cor in ${room.directory} of link 2 ends with 1 of the 32 bytes of a block, which are ignored`,
    `b.cor in ${room.directory} of link 2 ends with 31 of the 32 bytes of a block, which are ignored`,
  ]);
  assert.ok(Deno.statSync(room.path("a.cor")).isFile);
  room.drop("b.cor", testKey(30));
  await room.line("ends with 30 of");
});

roomTest("a directory and a FIFO with a key file's name", async (room) => {
  Deno.mkdirSync(room.path("d.cor"));
  if (Deno.build.os !== "windows") {
    assert.ok(new Deno.Command("mkfifo", { args: [room.path("f.cor")] }).outputSync().success);
  }
  await room.start({ rescanMs: 10 }).started;
  Deno.writeFileSync(room.path("d.cor/x.cor"), testKey(64));
  await goesOn(room);
  const names = Deno.build.os === "windows" ? ["d.cor"] : ["d.cor", "f.cor"];
  assert.deepEqual(
    room.complaints.toSorted(),
    names.map((name) => `${name} in ${room.directory} of link 2 is not a regular file; it is not ingested`),
  );
});

roomTest("an unreadable file, until it can be read", async (room) => {
  room.drop("a.cor", testKey(64));
  await denying("lstat", room.path("a.cor"), async () => {
    await room.start({ rescanMs: 10 }).started;
    await goesOn(room);
    assert.deepEqual(room.complaints, [
      `a.cor in ${room.directory} of link 2 cannot be read: denied for a test; it is not ingested`,
    ]);
  });
  assert.equal((await room.ingested.next()).file, "a.cor");
});

roomTest("a name that is not UTF-8", async (room) => {
  if (Deno.build.os !== "linux") return;
  await room.start({ rescanMs: 10 }).started;
  const script = 'printf 12345678901234567890123456789012 > "$(printf "\\377.cor")"';
  assert.ok(new Deno.Command("sh", { args: ["-c", script], cwd: room.directory }).outputSync().success);
  await room.line("not UTF-8");
  await goesOn(room);
  assert.equal(room.complaints.length, 1);
});

roomTest("a file is deleted after the commit, not before", async (room) => {
  const [entered, held] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  room.store.beforeAdd = () => {
    entered.resolve();
    return held.promise;
  };
  room.drop("a.cor", testKey(64));
  room.start({ deleteAfterRead: true });
  await entered.promise;
  assert.ok(Deno.statSync(room.path("a.cor")).isFile);
  held.resolve();
  await room.ingested.next();
  assert.throws(() => Deno.statSync(room.path("a.cor")), Deno.errors.NotFound);
  assert.deepEqual(room.complaints, []);
});

roomTest("a file that was ingested before a crash is deleted after it", async (room) => {
  room.drop("a.cor", testKey(64));
  await room.start().started;
  await room.stop();
  await room.start({ deleteAfterRead: true }).started;
  assert.throws(() => Deno.statSync(room.path("a.cor")), Deno.errors.NotFound);
  assert.equal(room.store.batches.length, 1);
});

roomTest("a file that changed after it was read is not deleted unread", async (room) => {
  const key = testKey(128);
  room.drop("a.cor", key.subarray(0, 64));
  room.store.beforeAdd = () => {
    room.store.beforeAdd = () => {};
    Deno.writeFileSync(room.path("a.cor"), key.subarray(64), { append: true });
  };
  await room.start({ deleteAfterRead: true }).started;
  await room.ingested.next(({ known }) => known === 2);
  assert.deepEqual(room.store.stored, idsOf(key));
  assert.throws(() => Deno.statSync(room.path("a.cor")), Deno.errors.NotFound);
});

roomTest("a file whose link is full is not deleted", async (room) => {
  room.drop("a.cor", testKey(64));
  await room.start({ deleteAfterRead: true, maxKeyCount: 1 }).started;
  assert.equal(Deno.statSync(room.path("a.cor")).size, 64);
});

roomTest("a file that cannot be deleted is not read again", async (room) => {
  room.drop("a.cor", testKey(64));
  await denying("remove", room.path("a.cor"), async () => {
    await room.start({ rescanMs: 10, deleteAfterRead: true }).started;
    await goesOn(room);
  });
  assert.deepEqual(room.complaints, [
    `a.cor in ${room.directory} of link 2 cannot be deleted: denied for a test`,
  ]);
  assert.equal(room.store.batches.filter(({ file }) => file.name === "a.cor").length, 1);
});

roomTest("a file that its writer still holds open is not deleted", async (room) => {
  if (Deno.build.os !== "linux") return;
  await room.start({ deleteAfterRead: true, quietMs: HOUR }).started;
  const key = testKey(128);
  const file = Deno.openSync(room.path("a.cor"), { createNew: true, write: true });
  file.writeSync(key.subarray(0, 64));
  await room.ingested.next();
  assert.equal(Deno.statSync(room.path("a.cor")).size, 64);
  file.writeSync(key.subarray(64));
  await room.ingested.next();
  assert.equal(Deno.statSync(room.path("a.cor")).size, 128);
  file.close();
  await room.line("a.cor of link 2 deleted");
  assert.deepEqual(room.store.stored, idsOf(key));
});

roomTest("a file that was open for writing before the start is deleted once it is closed", async (room) => {
  if (Deno.build.os !== "linux") return;
  const key = testKey(128);
  const file = Deno.openSync(room.path("a.cor"), { createNew: true, write: true });
  file.writeSync(key.subarray(0, 64));
  const past = new Date(Date.now() - 2 * HOUR);
  file.utimeSync(past, past);
  await room.start({ deleteAfterRead: true, quietMs: HOUR }).started;
  await room.ingested.next();
  assert.equal(Deno.statSync(room.path("a.cor")).size, 64);
  file.writeSync(key.subarray(64));
  await room.ingested.next();
  assert.equal(Deno.statSync(room.path("a.cor")).size, 128);
  file.close();
  await room.line("a.cor of link 2 deleted");
  assert.deepEqual(room.store.stored, idsOf(key));
});

for (const watcher of ["that tells nothing", "that cannot be opened"] as const) {
  roomTest(
    `with a watcher ${watcher} a file is deleted only after it stood unchanged for long`,
    async (room) => {
      const watch = () => {
        if (watcher === "that cannot be opened") throw new Error("inotify limit reached");
        return { close() {}, async *[Symbol.asyncIterator]() {} };
      };
      const unsure = { deleteAfterRead: true, rescanMs: 10, watch };
      await room.start({ ...unsure, quietMs: HOUR }).started;
      // A host whose clock is slow has written half of it.
      const key = testKey(128);
      room.drop("a.cor", key.subarray(0, 64));
      await room.ingested.next();
      assert.equal(Deno.statSync(room.path("a.cor")).size, 64);
      Deno.writeFileSync(room.path("a.cor"), key.subarray(64), { append: true });
      await room.ingested.next();
      assert.equal(Deno.statSync(room.path("a.cor")).size, 128);
      await room.stop();
      await room.start({ ...unsure, quietMs: 50 }).started;
      await room.line("a.cor of link 2 deleted");
      assert.deepEqual(room.store.stored, idsOf(key));
    },
  );
}

roomTest("a file that is renamed in, or closed after it was written, is deleted at once", async (room) => {
  if (Deno.build.os !== "linux") return;
  await room.start({ deleteAfterRead: true, quietMs: HOUR }).started;
  room.drop("a.cor", testKey(64));
  await room.ingested.next();
  assert.throws(() => Deno.statSync(room.path("a.cor")), Deno.errors.NotFound);
  Deno.writeFileSync(room.path("b.cor"), testKey(64));
  await room.line("b.cor of link 2 deleted");
  // What was said of a file is not true of the next one with its name.
  Deno.writeFileSync(join(room.outside, "x"), testKey(64));
  Deno.linkSync(join(room.outside, "x"), room.path("a.cor"));
  await room.ingested.next(({ file }) => file === "a.cor");
  assert.equal(Deno.statSync(room.path("a.cor")).size, 64);
});
