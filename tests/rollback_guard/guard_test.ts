import assert from "node:assert/strict";
import { startGuard } from "../../src/rollback_guard/rollback_guard.ts";
import { readMarker, writeMarker } from "../../src/rollback_guard/marker.ts";
import { StoreUnusable } from "../../src/domain/store_errors.ts";
import { Store } from "../../src/store/store.ts";
import { makeTempDir } from "../harness/temp_dir.ts";

/** A store of which only the generation counts; `value` is set back to act as a restored backup. */
function fakeStore(value = 0) {
  const store = {
    value,
    generation: () => Promise.resolve(store.value),
    advance: (beyond = 0) => Promise.resolve(store.value = Math.max(store.value, beyond) + 1),
  };
  return store;
}

const CONFIG = "kme.json5";
const NEVER = 3_600_000;

Deno.test("the first start makes the marker, every start and stop advances it", async () => {
  await using temp = await makeTempDir();
  const path = `${temp.path}/marker`;
  const store = fakeStore();
  const guard = await startGuard({ store, path, config: CONFIG, period: NEVER });
  assert.equal((await readMarker(path))?.generation, 1);
  await guard.close();
  assert.equal((await readMarker(path))?.generation, 2);
  assert.equal(store.value, 2);
  await (await startGuard({ store, path, config: CONFIG, period: NEVER })).close();
  assert.equal((await readMarker(path))?.generation, 4);
  assert.deepEqual((await Array.fromAsync(Deno.readDir(temp.path))).map(({ name }) => name), ["marker"]);
});

Deno.test("a marker that is behind after a crash does not stop the start", async () => {
  await using temp = await makeTempDir();
  const path = `${temp.path}/marker`;
  await writeMarker(path, 6);
  for (const generation of [6, 7, 100]) {
    const guard = await startGuard({ store: fakeStore(generation), path, config: CONFIG, period: NEVER });
    await guard.close();
    await writeMarker(path, 6);
  }
});

Deno.test("a database that is older than the marker is refused, with what to do, and nothing changes", async () => {
  await using temp = await makeTempDir();
  const path = `${temp.path}/marker`;
  await writeMarker(path, 8);
  const store = fakeStore(7);
  await assert.rejects(startGuard({ store, path, config: CONFIG }), (error: Error) => {
    assert.ok(error instanceof StoreUnusable);
    assert.match(error.message, /older than it was at .* generation is 7, .* says 8.*kme burn kme\.json5$/);
    return true;
  });
  assert.equal(store.value, 7);
  assert.equal((await readMarker(path))?.generation, 8);
});

Deno.test("a damaged marker is refused and named", async () => {
  await using temp = await makeTempDir();
  const path = `${temp.path}/marker`;
  for (const text of ["", "8", "eight 2026-01-01", "-1 2026-01-01T00:00:00Z"]) {
    await Deno.writeTextFile(path, text);
    await assert.rejects(startGuard({ store: fakeStore(), path, config: CONFIG }), /marker is damaged/);
  }
});

Deno.test("a marker that cannot be written does not stop the KME", async () => {
  await using temp = await makeTempDir();
  const path = `${temp.path}/missing/marker`;
  const store = fakeStore();
  await (await startGuard({ store, path, config: CONFIG, period: NEVER })).close();
  assert.equal(store.value, 2);
});

Deno.test("the marker follows while the KME runs, and an older database put in its place is noticed", async () => {
  await using temp = await makeTempDir();
  const path = `${temp.path}/marker`;
  const store = fakeStore();
  const grown = Promise.withResolvers<void>();
  const watched = {
    generation: store.generation,
    advance: async () => {
      const value = await store.advance();
      if (value === 5) {
        store.value = 2;
        grown.resolve();
      }
      return value;
    },
  };
  const guard = await startGuard({ store: watched, path, config: CONFIG, period: 1 });
  await grown.promise;
  assert.match(await guard.replaced, /replaced by an older one \(generation 2 after 5\)/);
  await guard.close();
  assert.equal((await readMarker(path))?.generation, 5);
});

for (const when of ["before it is asked", "between question and advance"]) {
  Deno.test(`a copy one generation behind is refused after the stop too, when it came ${when}`, async () => {
    await using temp = await makeTempDir();
    const path = `${temp.path}/marker`;
    const store = fakeStore(99);
    let between = false;
    const watched = {
      generation: () => Promise.resolve(between ? 100 : store.value),
      advance: store.advance,
    };
    const guard = await startGuard({ store: watched, path, config: CONFIG, period: NEVER });
    assert.equal((await readMarker(path))?.generation, 100);
    store.value = 99;
    between = when !== "before it is asked";
    await guard.close();
    assert.match(await guard.replaced, /replaced by an older one/);
    await guard.close();
    await assert.rejects(
      startGuard({ store, path, config: CONFIG, period: NEVER }),
      /older than it was/,
    );
  });
}

Deno.test("an older database is noticed by the marker that another process wrote", async () => {
  await using temp = await makeTempDir();
  const path = `${temp.path}/marker`;
  const store = fakeStore(10);
  const guard = await startGuard({ store, path, config: CONFIG, period: NEVER });
  await writeMarker(path, 20);
  await guard.close();
  assert.match(await guard.replaced, /generation 11 after 20/);
  assert.equal(store.value, 11);
  assert.equal((await readMarker(path))?.generation, 20);
});

const rootOnly = { ignore: Deno.build.os === "windows" || Deno.uid() !== 0 };

Deno.test(
  "a marker that root writes belongs to the owner of the one before, or of the database",
  rootOnly,
  async () => {
    await using temp = await makeTempDir();
    const path = `${temp.path}/marker`;
    const database = `${temp.path}/kme.db`;
    const owner = async () => {
      const { uid, gid } = await Deno.stat(path);
      return [uid, gid];
    };
    await Deno.writeTextFile(database, "");
    await Deno.chown(database, 4321, 4322);
    await writeMarker(path, 1, database);
    assert.deepEqual(await owner(), [4321, 4322]);
    await Deno.chown(path, 1234, 1235);
    await writeMarker(path, 2, database);
    assert.deepEqual(await owner(), [1234, 1235]);
  },
);

Deno.test("a store keeps its generation and never decreases it", async () => {
  await using temp = await makeTempDir();
  const open = () =>
    Store.open({
      database: { kind: "sqlite", path: `${temp.path}/kme.db` },
      thisKme: { text: "1", integer: true },
      neighbours: [],
    });
  const first = await open();
  assert.equal(await first.generation(), 0);
  assert.equal(await first.advance(), 1);
  assert.equal(await first.advance(40), 41);
  assert.equal(await first.advance(5), 42);
  await first.close();
  const second = await open();
  assert.equal(await second.generation(), 42);
  await second.close();
});
