/** The thread of the database: what it does not answer, how it ends, and what a program does without it. */
import assert from "node:assert/strict";
import { StoreUnavailable, StoreUnusable } from "../../src/domain/store_errors.ts";
import { OPERATIONS } from "../../src/store/engine/operations.ts";
import * as queries from "../../src/store/engine/queries.ts";
import { startStoreWorker } from "../../src/store/engine/worker_executor.ts";
import { Store, type StoreOptions } from "../../src/store/store.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { delivery, fill, OWN, PEER } from "./store_fixture.ts";
import { TestWorker } from "./test_worker.ts";

function open(worker: () => Worker, options: Partial<StoreOptions> = {}): Promise<Store> {
  return Store.open({ database: { kind: "memory" }, thisKme: OWN, neighbours: [PEER], worker, ...options });
}

Deno.test("a thread that does nothing fails its callers after seconds, and goes on when it can", async () => {
  using worker = new TestWorker();
  const store = await open(worker.start);
  try {
    await fill(store, 100);
    const { goOn } = await worker.hang();
    const begin = performance.now();
    const first = store.deliver(delivery(store, 10));
    const sent = assert.rejects(first, StoreUnavailable);
    // What piles up behind it is given up too, and then not done at all.
    await new Promise((resolve) => setTimeout(resolve));
    const unsent = Promise.all(
      Array.from({ length: 20 }, () => assert.rejects(store.deliver(delivery(store)), StoreUnavailable)),
    );
    assert.equal(await store.freeBlocks(OWN.text), 100);
    await sent;
    await unsent;
    const waited = performance.now() - begin;
    assert.ok(waited > 4000 && waited < 40_000, `${waited} ms`);
    goOn();
    assert.equal((await store.deliver(delivery(store)))?.length, 1);
    // The first was done, late, and the last one.
    assert.equal(await store.freeBlocks(OWN.text), 89);
  } finally {
    await store.close();
  }
});

Deno.test("closing twice has no further effect", async () => {
  using worker = new TestWorker();
  const store = await open(worker.start);
  await fill(store, 10);
  const last = store.deliver(delivery(store, 2));
  await Promise.all([store.close(), store.close()]);
  assert.equal((await last)?.length, 2);
});

Deno.test("the end of the program does not wait for a thread that hangs", async () => {
  using worker = new TestWorker();
  const store = await open(worker.start);
  const { goOn } = await worker.hang();
  const waiting = assert.rejects(store.deliver(delivery(store)), StoreUnavailable);
  const begin = performance.now();
  await store.close();
  assert.ok(performance.now() - begin < 40_000);
  await waiting;
  goOn();
});

Deno.test("when the thread dies, all calls fail at once and the reason is reported", async () => {
  using worker = new TestWorker();
  const store = await open(worker.start);
  await fill(store, 10);
  const { die } = await worker.hang();
  const waiting = Promise.all(
    Array.from({ length: 10 }, () => assert.rejects(store.deliver(delivery(store)), StoreUnavailable)),
  );
  die();
  assert.match(await store.failed, /^the thread of the database has ended: .*broken for a test/);
  await assert.rejects(store.deliver(delivery(store)), StoreUnavailable);
  await assert.rejects(store.generation(), StoreUnavailable);
  await waiting;
  await store.close();
});

Deno.test("without the thread's module the database runs in the program's own thread", async () => {
  const store = await open(() => new Worker(new URL("./absent.ts", import.meta.url), { type: "module" }));
  try {
    await fill(store, 2);
    assert.equal((await store.deliver(delivery(store, 2)))?.length, 2);
  } finally {
    await store.close();
  }
});

Deno.test("an unusable database in a thread is refused in one line, and its file is closed afterwards", async () => {
  await using dir = await makeTempDir("kme-ledger-");
  const database = { kind: "sqlite", path: `${dir.path}/kme.db` } as const;
  const first = await open(startStoreWorker, { database });
  await assert.rejects(open(startStoreWorker, { database }), (error: unknown) => {
    assert.ok(error instanceof StoreUnusable);
    assert.equal(error.message, `the database file ${database.path} is in use by another process`);
    return true;
  });
  await fill(first, 3);
  await first.close();
  await assert.rejects(first.deliver(delivery(first)), StoreUnavailable);
  const second = await open(startStoreWorker, { database });
  assert.equal(await second.freeBlocks(OWN.text), 3);
  await second.close();
});

Deno.test("the stock shows a delivered key as gone as soon as its SAE has the answer", async () => {
  const store = await open(startStoreWorker);
  try {
    await fill(store, 300);
    let delivered = 0;
    await Promise.all(Array.from({ length: 100 }, async () => {
      delivered += (await store.deliver(delivery(store, 2)))!.length;
      assert.ok(await store.freeBlocks(OWN.text) <= 300 - delivered);
    }));
    assert.equal(await store.freeBlocks(OWN.text), 100);
  } finally {
    await store.close();
  }
});

Deno.test("a failure in the thread is told with its code, once, and its callers know why", async () => {
  using worker = new TestWorker();
  const failures: { code?: string; message: string }[] = [];
  const store = await open(worker.start, { onFailure: (error) => failures.push(error as Error) });
  try {
    const { ids } = delivery(store);
    const broken = { ...delivery(store), ids: [...ids, ...ids] };
    await fill(store, 3);
    const error = await store.deliver(broken).then(() => assert.fail("no error"), (error: unknown) => error);
    assert.ok(error instanceof StoreUnavailable);
    assert.equal(failures.length, 1);
    const [failure] = failures;
    assert.deepEqual(
      failure && { code: failure.code, message: failure.message },
      { code: (error.cause as { code?: string }).code, message: (error.cause as Error).message },
    );
    assert.match(failure?.code ?? "", /^SQLITE_CONSTRAINT/);
    assert.equal((await store.deliver(delivery(store, 3)))?.length, 3);
  } finally {
    await store.close();
  }
});

Deno.test("a message that cannot be sent fails only for its own caller", async () => {
  const store = await open(startStoreWorker);
  try {
    await fill(store, 3);
    const [refused, served] = await Promise.allSettled([
      store.deliver({ ...delivery(store), expiresAt: Infinity }),
      store.deliver(delivery(store)),
    ]);
    assert.ok(refused.status === "rejected" && refused.reason instanceof TypeError);
    assert.equal(served.status === "fulfilled" && served.value?.length, 1);
  } finally {
    await store.close();
  }
});

Deno.test("every operation and every query of the thread has a distinct name", async () => {
  const operations = new Set<unknown>();
  const directory = new URL("../../src/store/operations/", import.meta.url);
  for await (const { name } of Deno.readDir(directory)) {
    for (const value of Object.values(await import(new URL(name, directory).href))) {
      if (typeof (value as { run?: unknown } | null)?.run === "function") operations.add(value);
    }
  }
  assert.deepEqual(new Set<unknown>(OPERATIONS), operations);
  const { QUERIES, ...each } = queries;
  assert.deepEqual(new Set<unknown>(QUERIES), new Set<unknown>(Object.values(each)));
  const names = [...OPERATIONS, ...QUERIES].map(({ name }) => name);
  assert.equal(new Set(names).size, names.length);
});
