/** Key files that stay in their directory are noticed when another database ingests them. */
import assert from "node:assert/strict";
import { idsOf, MemoryStore, roomTest, testKey } from "./ingest_harness.ts";

const otherDatabase = (): MemoryStore =>
  Object.assign(new MemoryStore(), { databaseId: new Uint8Array(16).fill(9) });

roomTest("files that another database ingested are ingested with a warning, or refused", async (room) => {
  const key = testKey(64);
  room.drop("a.cor", key);
  await room.start().started;
  await room.stop();
  assert.deepEqual(room.complaints, []);

  const memory = otherDatabase();
  const again = room.start({ store: memory });
  await again.started;
  assert.deepEqual(memory.stored, idsOf(key));
  assert.equal(again.states[0]!.servedAgain, 1);
  assert.match(room.complaints.join("\n"), /a\.cor .* was ingested into another database before/);
  await room.stop();

  const lasting = Object.assign(new MemoryStore(), { databaseId: new Uint8Array(16).fill(8) });
  room.drop("b.cor", testKey(64));
  const refusing = room.start({ store: lasting, servedFiles: "refuse" });
  await refusing.started;
  assert.equal((await room.refused.next()).file, "a.cor");
  assert.equal(lasting.stored.length, 2, "a file that was not served before");
  assert.match(refusing.states[0]!.refused[0]!.reason, /reingest_served_files/);
});

roomTest("files of another KME are no files that were served", async (room) => {
  const key = testKey(64);
  room.drop("a.cor", key);
  await room.start({ kme: "7" }).started;
  await room.stop();
  const store = otherDatabase();
  await room.start({ store, servedFiles: "refuse" }).started;
  assert.deepEqual(store.stored, idsOf(key));
  assert.deepEqual(room.complaints, []);
});

roomTest("a file of which a part was ingested, and that grew since, is remembered too", async (room) => {
  room.drop("a.cor", testKey(10 * 32));
  // The link is full after half of the file, which therefore stays although files are deleted.
  await room.start({ deleteAfterRead: true, maxKeyCount: 5 }).started;
  await room.stop();
  Deno.writeFileSync(room.path("a.cor"), testKey(64), { append: true });
  const store = otherDatabase();
  await room.start({ store, servedFiles: "refuse", deleteAfterRead: true }).started;
  assert.equal((await room.refused.next()).file, "a.cor");
  assert.deepEqual(store.stored, []);
});

roomTest("blocks of served files are recognized in files that were split or joined", async (room) => {
  const [small, large, fresh] = [testKey(10 * 32), testKey(2000 * 32), testKey(64 * 32)];
  room.drop("small.cor", small);
  room.drop("large.cor", large);
  await room.start({ maxKeyCount: 100_000 }).started;
  await room.stop();
  for (const name of ["small.cor", "large.cor"]) Deno.removeSync(room.path(name));
  room.drop("a.cor", small.subarray(9 * 32));
  room.drop("b.cor", large.subarray(1000 * 32));
  room.drop("c.cor", Uint8Array.from([...fresh.subarray(0, 32), ...large]));
  room.drop("d.cor", fresh.subarray(32));
  const store = otherDatabase();
  const again = room.start({ store, servedFiles: "refuse", maxKeyCount: 100_000 });
  await again.started;
  assert.deepEqual(again.states[0]!.refused.map(({ file }) => file).toSorted(), ["a.cor", "b.cor", "c.cor"]);
  assert.deepEqual(store.stored, idsOf(fresh.subarray(32)));
});

roomTest("a link or a pipe in place of the record is not used, and does not stop ingestion", async (room) => {
  if (Deno.build.os === "windows") return;
  const victim = `${room.outside}/victim`;
  Deno.writeTextFileSync(victim, "untouched");
  Deno.symlinkSync(victim, room.path(".kme_ingested_files"));
  room.drop("a.cor", testKey(64));
  await room.start().started;
  assert.equal(room.store.stored.length, 2);
  assert.equal(Deno.readTextFileSync(victim), "untouched");
  await room.stop();
  Deno.removeSync(room.path(".kme_ingested_files"));
  new Deno.Command("mkfifo", { args: [room.path(".kme_ingested_files")] }).outputSync();
  room.drop("b.cor", testKey(64));
  await room.start().started;
  assert.equal(room.store.stored.length, 4);
});
