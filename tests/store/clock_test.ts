/** Keys expire by elapsed time: steps of the system clock, restarts, and several processes. */
import assert from "node:assert/strict";
import { eventually } from "../harness/eventually.ts";
import { PROJECT_ROOT } from "../harness/kme_process.ts";
import { keyIdsOf } from "../harness/sae_client.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { closeOnce, delivery, fill, ledgerTest, OWN } from "./store_fixture.ts";
import { Store } from "../../src/store/store.ts";

const HOUR = 3_600_000;

Deno.test("no key expires early when the clock is set two hours forward", async () => {
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, saes: [11, 12], database: "sqlite", options: { key_lifetime_seconds: 3600 } }],
  });
  await network.writeKeyFile(1, 1, 10);
  const kme = await network.start(1, { program: { script: `${PROJECT_ROOT}tests/store/stepping_kme.ts` } });
  const [master, slave] = [network.client(11), network.client(12)];
  await eventually(async () => (await master.status(12)).json.stored_key_count === 10);
  const ids = keyIdsOf(await master.encKeys(12, { number: 3 }));
  const fetched = async (id: string) => (await slave.decKeys(11, id)).status;
  kme.signal("SIGUSR1");
  await kme.waitForLine(/clock was set forward by 7200 s/);
  assert.equal(await fetched(ids[0]!), 200);
  const [later] = keyIdsOf(await master.encKeys(12));
  assert.equal(await kme.stop(), 0);
  const again = await network.start(1);
  assert.equal(await fetched(ids[1]!), 200);
  assert.equal(await fetched(later!), 200);
  assert.equal(await again.stop(), 0);
});

/** What runs with a system clock that is set by so many milliseconds. */
async function withClock<T>(ahead: number, action: () => Promise<T>): Promise<T> {
  const real = Date.now;
  Date.now = () => real() + ahead;
  try {
    return await action();
  } finally {
    Date.now = real;
  }
}

Deno.test("sqlite: the time between two runs counts, by the system clock", async () => {
  await using dir = await makeTempDir("kme-clock-");
  const database = { kind: "sqlite", path: `${dir.path}/kme.db` } as const;
  const open = () => Store.open({ database, thisKme: OWN, neighbours: [] });
  const first = await open();
  await fill(first, 2);
  const [one, two] = (await first.deliver({ ...delivery(first, 2), expiresAt: first.now() + HOUR }))!;
  await first.close();
  await withClock(HOUR / 2, async () => {
    const store = await open();
    assert.equal((await store.collect({ caller: "12", master: "11", ids: [one!.id] })).kind, "keys");
    await store.close();
  });
  await withClock(HOUR + 1000, async () => {
    const store = await open();
    assert.equal((await store.collect({ caller: "12", master: "11", ids: [two!.id] })).kind, "missing");
    const expired = await store.expire({
      limit: 10,
      keptBefore: 0,
      refusedBefore: 0,
      absentBefore: 0,
      voidedBefore: 0,
    });
    assert.equal(expired.unread.length, 1);
    await store.close();
  });
});

Deno.test("sqlite: a clock that is set back between two runs counts no time", async () => {
  await using dir = await makeTempDir("kme-clock-");
  const database = { kind: "sqlite", path: `${dir.path}/kme.db` } as const;
  const open = () => Store.open({ database, thisKme: OWN, neighbours: [] });
  const { id, until } = await withClock(48 * HOUR, async () => {
    const store = await open();
    await fill(store, 1);
    const expiresAt = store.now() + HOUR;
    const [key] = (await store.deliver({ ...delivery(store), expiresAt }))!;
    await store.close();
    return { id: key!.id, until: expiresAt };
  });
  const store = await open();
  const left = until - store.now();
  assert.ok(left <= HOUR && left > HOUR - 60_000, `${left} ms`);
  assert.equal((await store.collect({ caller: "12", master: "11", ids: [id] })).kind, "keys");
  await store.close();
});

ledgerTest("processes whose hosts' clocks differ by days agree on the time", async (ledger) => {
  const first = await ledger.open();
  await fill(first, 2);
  await first.renewLease(HOUR, []);
  const [key] = (await first.deliver({ ...delivery(first), expiresAt: first.now() + HOUR }))!;
  await withClock(48 * HOUR, async () => {
    const second = await ledger.open();
    assert.ok(Math.abs(second.now() - first.now()) < 60_000);
    assert.equal(await second.livingProcesses(), 1);
    const expiry = { limit: 10, keptBefore: 0, refusedBefore: 0, absentBefore: 0, voidedBefore: 0 };
    assert.equal((await second.expire(expiry)).keys, 0);
    assert.equal((await second.collect({ caller: "12", master: "11", ids: [key!.id] })).kind, "keys");
    await closeOnce(second);
  });
}, ["postgres", "mariadb"]);

ledgerTest("a process follows another one whose clock is ahead", async (ledger) => {
  const [first, second] = [await ledger.open(), await ledger.open()];
  await first.renewLease(HOUR, []);
  await ledger.tables.updateTable("clock").set({ time: first.now() + 5000 }).execute();
  await second.renewLease(HOUR, []);
  const ahead = second.now() - first.now();
  assert.ok(ahead > 3000, `${ahead} ms`);
  await first.renewLease(HOUR, []);
  assert.ok(Math.abs(second.now() - first.now()) < 1000);
}, ["postgres", "mariadb"]);
