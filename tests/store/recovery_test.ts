/** Reservations of processes that have ended, leases, and processes that continue after they were considered dead. */
import assert from "node:assert/strict";
import SqliteDatabase from "better-sqlite3";
import { audit, closeOnce, fill, freshId, hex, ledgerTest, PEER } from "./store_fixture.ts";

const SERVERS = ["postgres", "mariadb"] as const;
const LEASE = 10_000;

ledgerTest(
  "reservations of a process that died are adopted by one other process after its lease; then it finishes nothing more",
  async (ledger) => {
    let now = 1_000_000;
    const clock = { now: () => now };
    const [dead, first, second] = [
      await ledger.open(clock),
      await ledger.open(clock),
      await ledger.open(clock),
    ];
    const blocks = 6;
    await fill(dead, blocks, PEER.text);
    for (const store of [dead, first, second]) await store.renewLease(LEASE, []);
    const link = dead.link(PEER.text)!;
    const reservation = freshId();
    const [taken] = (await dead.reserve({ reservation, claims: [{ link, blocks: 4 }], plan: "a plan" }))!;
    const ids = taken!.map((block) => block.id);
    now += LEASE - 1;
    for (const store of [first, second]) await store.renewLease(LEASE, []);
    assert.deepEqual(await first.adopt(10), []);
    assert.deepEqual(await dead.adopt(10), []);
    now += 2;
    const adopted = await Promise.all([first.adopt(10), second.adopt(10)]);
    const adopter = adopted[0]!.length > 0 ? first : second;
    const [found, ...others] = adopted.flat();
    assert.equal(others.length, 0, "two adopted one reservation");
    assert.equal(found!.plan, "a plan");
    assert.deepEqual(new Set(found!.blocks.map((block) => hex(block.id))), new Set(ids.map(hex)));

    const key = { id: ids[0]!, origin: "1", master: "11", slaves: ["21"], expiresAt: now + 1000 };
    const before = await audit(ledger);
    const finishLate = () =>
      Promise.all([
        dead.finishReservation({ reservation, spend: [ids[0]!], keys: [key] }),
        dead.finishReservation({ reservation, release: ids }),
        dead.finishReservation({ reservation, burn: ids }),
        dead.finishReservation({ reservation, releaseRest: true }),
      ]);
    assert.deepEqual((await finishLate()).map((result) => result.ok && result.burnt + result.released), [
      false,
      0,
      0,
      0,
    ]);
    // Nor with a new lease.
    await dead.renewLease(LEASE, []);
    assert.equal((await finishLate())[0]!.ok, false);
    assert.deepEqual(await audit(ledger), before);
    assert.deepEqual(await dead.adopt(10), []);
    // The adopter finds it again until it is finished, and no other process does.
    assert.equal((await adopter.adopt(10)).length, 1);
    assert.deepEqual(await (adopter === first ? second : first).adopt(10), []);
    const finished = await adopter.finishReservation({
      reservation,
      burn: ids.slice(0, 1),
      release: ids.slice(1),
    });
    assert.deepEqual(finished, { ok: true, burnt: 1, released: 3 });
    assert.deepEqual((await finishLate()).map((result) => result.ok && result.burnt + result.released), [
      false,
      0,
      0,
      0,
    ]);
    assert.deepEqual(await audit(ledger), {
      seen: blocks,
      free: 5,
      reserved: 0,
      keys: 0,
      waiting: 0,
      reservations: 0,
    });
  },
  SERVERS,
);

ledgerTest("a process that ends in order is not waited for", async (ledger) => {
  const [ended, other] = [await ledger.open(), await ledger.open()];
  await fill(ended, 2, PEER.text);
  for (const store of [ended, other]) await store.renewLease(3_600_000, []);
  await ended.reserve({ reservation: freshId(), claims: [{ link: ended.link(PEER.text)!, blocks: 2 }] });
  assert.deepEqual(await other.adopt(10), []);
  await closeOnce(ended);
  assert.equal((await other.adopt(10)).length, 1);
}, SERVERS);

ledgerTest("work is one process's at a time, and another's after its lease", async (ledger) => {
  let now = 1_000_000;
  const clock = { now: () => now };
  const stores = [await ledger.open(clock), await ledger.open(clock), await ledger.open(clock)];
  const sign = () => Promise.all(stores.map((store) => store.renewLease(LEASE, ["ingestion"])));
  const holders = (await sign()).map((work) => work.includes("ingestion"));
  assert.equal(holders.filter(Boolean).length, 1);
  now += LEASE / 2;
  assert.deepEqual((await sign()).map((work) => work.includes("ingestion")), holders);
  const holder = stores[holders.indexOf(true)]!;
  const others = stores.filter((store) => store !== holder);
  now += LEASE + 1;
  const next = await Promise.all(others.map((store) => store.renewLease(LEASE, ["ingestion"])));
  assert.equal(next.filter((work) => work.includes("ingestion")).length, 1);
  assert.deepEqual(await holder.renewLease(LEASE, ["ingestion"]), []);
}, SERVERS);

ledgerTest("a process finds its own reservation that no request will finish", async (ledger) => {
  let now = 1_000_000;
  const store = await ledger.open({ now: () => now });
  await fill(store, 3, PEER.text);
  await store.renewLease(3_600_000, []);
  const reservation = freshId();
  const [taken] =
    (await store.reserve({ reservation, claims: [{ link: store.link(PEER.text)!, blocks: 2 }] }))!;
  now += 60_000;
  assert.deepEqual(await store.adopt(10), []);
  now += 300_000;
  assert.equal((await store.adopt(10)).length, 1);
  const ids = taken!.map((block) => block.id);
  assert.deepEqual(await store.finishReservation({ reservation, spend: ids }), { ok: false });
  assert.deepEqual(await store.finishReservation({ reservation, release: ids }), {
    ok: true,
    burnt: 0,
    released: 2,
  });
  assert.equal((await audit(ledger)).free, 3);
});

ledgerTest("after a restart what the process before reserved is found at once", async (ledger) => {
  const before = await ledger.open();
  await fill(before, 3, PEER.text);
  await before.renewLease(3_600_000, []);
  const reservation = freshId();
  await before.reserve({ reservation, claims: [{ link: before.link(PEER.text)!, blocks: 2 }] });
  // As a crash leaves it: the process does not say that it ends.
  const processes = await ledger.tables.selectFrom("processes").selectAll().execute();
  await closeOnce(before);
  const file = new SqliteDatabase((ledger.database as { path: string }).path);
  for (const row of processes) {
    file.prepare("insert into processes (process_id, lease_until) values (?, ?)").run(
      row.process_id,
      row.lease_until,
    );
  }
  file.close();
  const after = await ledger.open();
  await after.renewLease(3_600_000, []);
  const [found] = await after.adopt(10);
  assert.equal(hex(found!.id), hex(reservation));
  assert.equal(found!.blocks.length, 2);
}, ["sqlite"]);

ledgerTest("many reservations left behind are found in parts, oldest first", async (ledger) => {
  let now = 1_000_000;
  const store = await ledger.open({ now: () => now });
  await fill(store, 25, PEER.text);
  const link = store.link(PEER.text)!;
  const order: string[] = [];
  for (let i = 0; i < 25; i++) {
    const reservation = freshId();
    const [taken] = (await store.reserve({ reservation, claims: [{ link, blocks: 1 }] }))!;
    await store.finishReservation({ reservation, unresolved: [taken![0]!.id] });
    order.push(hex(reservation));
    now++;
  }
  const found: string[] = [];
  while (true) {
    const part = await store.adopt(10);
    if (part.length === 0) break;
    assert.ok(part.length <= 10);
    for (const each of part) {
      found.push(hex(each.id));
      await store.finishReservation({ reservation: each.id, release: each.blocks.map((block) => block.id) });
    }
  }
  assert.deepEqual(found, order);
  assert.deepEqual(await audit(ledger), {
    seen: 25,
    free: 25,
    reserved: 0,
    keys: 0,
    waiting: 0,
    reservations: 0,
  });
});
