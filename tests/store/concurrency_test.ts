/** Many callers at once, on one pool, in one process and in several on one database. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { sql } from "kysely";
import type { Key } from "../../src/domain/key.ts";
import { ROWS } from "../../src/store/statements.ts";
import type { Store } from "../../src/store/store.ts";
import { eventually } from "../harness/eventually.ts";
import {
  assertDistinctBlocks,
  audit,
  delivery,
  fill,
  freshBlocks,
  freshId,
  hex,
  type Ledger,
  ledgerTest,
  OWN,
  PEER,
  TEST_DIGEST,
} from "./store_fixture.ts";

const CALLERS = 64;
const BLOCKS = 1024;

ledgerTest(
  "other work has its turn between the statements of a long transaction in memory",
  async (ledger) => {
    const store = await ledger.open();
    await fill(store, 8000);
    let turns = 0;
    const timer = setInterval(() => turns++, 0);
    try {
      const taken = await store.deliver(delivery(store, 8000));
      assert.equal(taken?.length, 8000);
      // The faster the machine, the fewer; without pauses there are one or two.
      assert.ok(turns >= 5, `${turns} turns`);
    } finally {
      clearInterval(timer);
    }
  },
  ["memory"],
);

/** Callers that take keys until the pool is empty; refused where blocks are held by others just then, so asked again. */
async function emptyPool(
  stores: readonly Store[],
  take: (store: Store) => Promise<readonly Key[] | undefined>,
) {
  const keys: Key[] = [];
  await Promise.all(Array.from({ length: CALLERS }, async (_, caller) => {
    const store = stores[caller % stores.length]!;
    while (true) {
      const taken = await take(store);
      if (taken !== undefined) keys.push(...taken);
      else if (await store.freeBlocks(OWN.text) + await store.freeBlocks(PEER.text) === 0) return;
    }
  }));
  return keys;
}

/** Reserves and hands over; every third time it gives the blocks back instead. */
async function reserveAndFinish(store: Store): Promise<readonly Key[] | undefined> {
  const reservation = freshId();
  const link = store.link(PEER.text)!;
  const parts = await store.reserve({ reservation, claims: [{ link, blocks: 1 }] });
  if (parts === undefined) return undefined;
  const [block] = parts[0]!;
  if (Math.random() < 1 / 3) {
    assert.deepEqual(await store.finishReservation({ reservation, release: [block!.id] }), {
      ok: true,
      burnt: 0,
      released: 1,
    });
    return [];
  }
  const key = {
    id: block!.id,
    origin: OWN.text,
    master: "11",
    slaves: ["21"],
    expiresAt: Date.now() + 3_600_000,
  };
  const finished = await store.finishReservation({ reservation, spend: [block!.id], keys: [key] });
  assert.deepEqual(finished, { ok: true, burnt: 0, released: 0 });
  return [block!];
}

async function deliverAll(ledger: Ledger, stores: readonly Store[]): Promise<void> {
  const blocks = await fill(stores[0]!, BLOCKS);
  const keys = await emptyPool(stores, (store) => store.deliver(delivery(store)));
  assert.equal(keys.length, BLOCKS, "the pool was not used up");
  assertDistinctBlocks(keys, blocks);
  assert.deepEqual(await audit(ledger), {
    seen: BLOCKS,
    free: 0,
    reserved: 0,
    keys: BLOCKS,
    waiting: BLOCKS,
    reservations: 0,
  });
}

async function reserveAll(ledger: Ledger, stores: readonly Store[]): Promise<void> {
  const blocks = await fill(stores[0]!, BLOCKS, PEER.text);
  const keys = await emptyPool(stores, reserveAndFinish);
  assert.equal(keys.length, BLOCKS, "the pool was not used up");
  assertDistinctBlocks(keys, blocks);
  assert.deepEqual(await audit(ledger), {
    seen: BLOCKS,
    free: 0,
    reserved: 0,
    keys: BLOCKS,
    waiting: 0,
    reservations: 0,
  });
}

/** Callers for whom nothing is kept leave what is kept for others, whatever the others take at the same time. */
async function leaveKept(ledger: Ledger, stores: readonly Store[]): Promise<void> {
  const kept = 100;
  const links = [OWN.text, PEER.text];
  for (const link of links) await fill(stores[0]!, 300, link);
  /** Blocks that were taken of the two links. */
  const take = async (store: Store, blocks: number, keep?: number) => {
    const claims = [{ link: store.link(PEER.text)!, blocks, keep }];
    const [own, peer] = await Promise.all([
      store.deliver({ ...delivery(store, blocks), keep }),
      store.reserve({ reservation: freshId(), claims }),
    ]);
    return [own?.length ?? 0, peer?.[0]?.length ?? 0];
  };
  const byOthers = [0, 0];
  await Promise.all(Array.from({ length: 2 * CALLERS }, async (_, caller) => {
    const store = stores[caller % stores.length]!;
    if (caller < CALLERS) await take(store, 1 + caller % 9, kept);
    else (await take(store, 1)).forEach((blocks, i) => byOthers[i]! += blocks);
  }));
  for (const [i, link] of links.entries()) {
    const left = await stores[0]!.freeBlocks(link);
    assert.ok(left >= kept - byOthers[i]!, `${left} left of link ${link}, ${byOthers[i]} taken by others`);
  }
  await audit(ledger);
}

/** Each key is asked for by all callers at once: one gets it. */
async function collectAll(stores: readonly Store[]): Promise<void> {
  await fill(stores[0]!, 32);
  const keys = (await stores[0]!.deliver(delivery(stores[0]!, 32)))!;
  const got: string[] = [];
  await Promise.all(Array.from({ length: CALLERS }, async (_, caller) => {
    const store = stores[caller % stores.length]!;
    for (const { id } of keys.slice(caller % 32).concat(keys.slice(0, caller % 32))) {
      const read = await store.collect({ caller: "12", master: "11", ids: [id] });
      if (read.kind === "keys") got.push(hex(read.keys[0]!.bits));
      else assert.equal(read.kind, "missing");
    }
  }));
  assert.deepEqual(got.sort(), keys.map((key) => hex(key.bits)).sort());
}

/** Our master and the peer's take from one pool at once: each block goes to one of them. */
async function bothEnds(ledger: Ledger, stores: readonly Store[]): Promise<void> {
  const blocks = await fill(stores[0]!, 400, PEER.text);
  const activated = new Set<string>();
  const handedOver = new Set<string>();
  let next = 0;
  await Promise.all(Array.from({ length: CALLERS }, async (_, caller) => {
    const store = stores[caller % stores.length]!;
    const link = store.link(PEER.text)!;
    if (caller % 2 === 0) {
      while (next < blocks.length) {
        const { id } = blocks[next++]!;
        const result = await store.activate({
          link,
          origin: PEER.text,
          keys: [{ id, size: 256, blocks: [id] }],
          master: "21",
          slaves: ["12"],
          expiresAt: Date.now() + 3_600_000,
          repeatableSince: Date.now(),
        });
        if (result.kind === "activated") activated.add(hex(id));
      }
    } else {
      for (let i = 0; i < 20; i++) {
        const reservation = freshId();
        const parts = await store.reserve({ reservation, claims: [{ link, blocks: 1 }] });
        if (parts === undefined) continue;
        const { id } = parts[0]![0]!;
        const key = { id, origin: OWN.text, master: "11", slaves: ["21"], expiresAt: Date.now() + 3_600_000 };
        const finished = await store.finishReservation({ reservation, spend: [id], keys: [key] });
        if (finished.ok) handedOver.add(hex(id));
        else await store.finishReservation({ reservation, burn: [id] });
      }
    }
  }));
  for (const id of activated) assert.ok(!handedOver.has(id), "a block went to both ends");
  const counts = await audit(ledger);
  assert.equal(counts.keys, activated.size + handedOver.size);
  assert.equal(counts.free + counts.keys, 400);
  assert.equal(counts.reservations, 0);
  assert.ok(activated.size > 0 && handedOver.size > 0);
}

/** A transaction's keys arrive and are taken back at the same time: one happens before the other, or not at all. */
async function takeBackAtOnce(ledger: Ledger, stores: readonly Store[]): Promise<void> {
  const blocks = await fill(stores[0]!, 200, PEER.text);
  await Promise.all(blocks.map(async ({ id }, i) => {
    const [sender, taker] = [stores[i % stores.length]!, stores[(i + 1) % stores.length]!];
    const transaction = freshId();
    const activation = {
      link: sender.link(PEER.text)!,
      origin: PEER.text,
      keys: [{ id, size: 256, blocks: [id] }],
      master: "21",
      slaves: ["12"],
      expiresAt: Date.now() + 3_600_000,
      transaction,
    };
    const back = { link: taker.link(PEER.text)!, transaction, blocks: [id], reuse: true };
    const [activated, taken] = await Promise.all([sender.activate(activation), taker.takeBack(back)]);
    assert.ok(
      activated.kind === "activated" && taken.kind === "takenBack" ||
        activated.kind === "voided" && taken.kind === "unknown",
      `${activated.kind} and ${taken.kind}`,
    );
  }));
  assert.deepEqual(await audit(ledger), {
    seen: 200,
    free: 200,
    reserved: 0,
    keys: 0,
    waiting: 0,
    reservations: 0,
  });
}

/** Two processes ingest one file at the same time: each block is stored once. */
async function ingestAtOnce(ledger: Ledger, stores: readonly Store[]): Promise<void> {
  const blocks = freshBlocks(300);
  const add = (store: Store) =>
    store.addBlocks({
      link: OWN.text,
      blocks,
      maxFree: 1000,
      file: { name: "a.cor", size: 9600, digest: TEST_DIGEST, offset: 0 },
    });
  const results = await Promise.allSettled(stores.map(add));
  // One may fail on the other's blocks; ingestion then tries again.
  for (const [i, result] of results.entries()) if (result.status === "rejected") await add(stores[i]!);
  assert.deepEqual(await audit(ledger), {
    seen: 300,
    free: 300,
    reserved: 0,
    keys: 0,
    waiting: 0,
    reservations: 0,
  });
}

const SCENES: Record<string, (ledger: Ledger, stores: readonly Store[]) => Promise<void>> = {
  "keys are delivered": deliverAll,
  "blocks are reserved and finished": reserveAll,
  "keys are read": (_, stores) => collectAll(stores),
  "both ends take": bothEnds,
  "some leave what is kept": leaveKept,
  "transactions come and are taken back": takeBackAtOnce,
  "one file is ingested": ingestAtOnce,
};

for (const [name, run] of Object.entries(SCENES)) {
  ledgerTest(`${CALLERS} callers: ${name}`, async (ledger) => run(ledger, [await ledger.open()]));
  ledgerTest(
    `${CALLERS} callers on three replicas: ${name}`,
    async (ledger) => run(ledger, [await ledger.open(), await ledger.open(), await ledger.open()]),
    ["postgres", "mariadb"],
  );
}

ledgerTest("connections to the server are bounded", async (ledger) => {
  const store = await ledger.open();
  await fill(store, 200);
  await Promise.all(
    Array.from(
      { length: 200 },
      (_, i) => i % 2 === 0 ? store.deliver(delivery(store)) : store.fileProgress(OWN.text, [`${i}`]),
    ),
  );
  const query = ledger.kind === "postgres"
    ? sql<{ n: number }>`select count(*) as n from pg_stat_activity where datname = current_database()`
    : sql<{ n: number }>`select count(*) as n from information_schema.processlist where db = database()`;
  const { rows } = await query.execute(ledger.tables);
  // The store's, and the test's own.
  assert.ok(Number(rows[0]!.n) <= 8 + 1, `${rows[0]!.n} connections`);
}, ["postgres", "mariadb"]);

ledgerTest(
  "keys that another process is handing over hold up neither expiry nor taking back",
  async (ledger) => {
    let now = Date.now();
    const store = await ledger.open({ now: () => now });
    const link = store.link(PEER.text)!;
    const expiry = { limit: 100, keptBefore: 0, refusedBefore: 0, absentBefore: 0, voidedBefore: 0 };
    await fill(store, 250);
    const returned = await fill(store, 60, PEER.text);
    // Servers read short tables in another way than long ones.
    for (const live of [0, 10, 50]) {
      if (live > 0) await Promise.all(Array.from({ length: live }, () => store.deliver(delivery(store))));
      const transaction = freshId();
      const ids = returned.splice(0, 20).map((block) => block.id);
      const activation = (id: Uint8Array) => ({
        link,
        origin: PEER.text,
        keys: [{ id, size: 256, blocks: [id] }],
        master: "21",
        slaves: ["11"],
        expiresAt: now + 3_600_000,
        transaction,
      });
      for (const id of ids) assert.equal((await store.activate(activation(id))).kind, "activated");
      await Promise.all(
        Array.from({ length: 30 }, () => store.deliver({ ...delivery(store), expiresAt: now + 1 })),
      );
      now += 1;
      const free = await ledger.tables.selectFrom("blocks").select("seq").where("state", "=", 0)
        .where("link_id", "=", store.link(OWN.text)!.id).limit(1).executeTakeFirstOrThrow();
      const handOver = await ledger.tables.startTransaction().execute();
      try {
        await handOver.insertInto("deliveries").values({
          delivery_id: free.seq,
          origin_kme: "1",
          master_sae: "11",
          created_at: now,
          expires_at: now + 3_600_000,
        }).execute();
        await handOver.updateTable("blocks").set({
          state: 3,
          key_id: Buffer.from(freshId()),
          delivery_id: free.seq,
        })
          .where("seq", "=", free.seq).execute();
        assert.equal((await store.expire(expiry)).keys, 30, `${live} live deliveries`);
        const taken = await store.takeBack({ link, transaction, blocks: ids, reuse: true });
        assert.ok(taken.kind === "takenBack" && taken.free.length === 20, `${live} live deliveries`);
      } finally {
        await handOver.rollback().execute();
      }
    }
    await audit(ledger);
  },
  ["postgres", "mariadb"],
);

ledgerTest("whoever locks several blocks locks them by their key_IDs, lowest first", async (ledger) => {
  const store = await ledger.open();
  const link = store.link(PEER.text)!;
  // Stored the other way round; more than one statement takes.
  const blocks = freshBlocks(ROWS + 12).sort((a, b) => hex(a.id) < hex(b.id) ? 1 : -1);
  const file = { name: "a.cor", size: blocks.length * 32, digest: TEST_DIGEST, offset: 0 };
  await store.addBlocks({ link: PEER.text, blocks, maxFree: 1000, file });
  const ids = blocks.map((block) => block.id);
  const transaction = freshId();
  const activation = {
    link,
    origin: PEER.text,
    keys: ids.map((id) => ({ id, size: 256, blocks: [id] })),
    master: "21",
    slaves: ["11"],
    expiresAt: Date.now() + 3_600_000,
    transaction,
  };
  const repeat = { certificate: new Uint8Array(32), ms: 1 };
  const expiry = { limit: 1000, refusedBefore: 0, absentBefore: 0, voidedBefore: 0 };
  const steps: [expected: string, step: () => Promise<{ kind: string }>][] = [
    ["activated", () => store.activate(activation)],
    ["takenBack", () => store.takeBack({ link, transaction, blocks: ids, reuse: true })],
    ["activated", () => store.activate({ ...activation, transaction: freshId() })],
    ["keys", () => store.collect({ caller: "11", master: "21", ids, repeat })],
    ["erased", async () => {
      const { erased } = await store.expire({ ...expiry, keptBefore: store.now() });
      return { kind: erased === ids.length ? "erased" : `${erased} erased` };
    }],
  ];
  for (const [expected, step] of steps) {
    const other = await ledger.tables.startTransaction().execute();
    const hold = (id: Uint8Array) =>
      other.selectFrom("blocks").select("seq").where("block_id", "=", Buffer.from(id)).forUpdate().noWait()
        .executeTakeFirstOrThrow();
    try {
      await hold(ids.at(-1)!);
      const done = step();
      await eventually(async () => {
        const { rows } = await sql`select 1 from pg_stat_activity
          where wait_event_type = 'Lock' and datname = current_database()`.execute(ledger.tables);
        return rows.length > 0;
      }, { what: "a wait for the lock" });
      for (const id of ids) await hold(id);
      await other.rollback().execute();
      assert.equal((await done).kind, expected);
    } finally {
      if (!other.isRolledBack) await other.rollback().execute();
    }
  }
}, ["postgres"]);
