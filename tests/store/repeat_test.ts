/** Repeated reads of keys, from several processes at the same time, and after the store was opened again. */
import assert from "node:assert/strict";
import { closeOnce, delivery, fill, hex, ledgerTest } from "./store_fixture.ts";

const HOUR = 3_600_000;
const MS = 10_000;

const certificate = (byte: number) => ({ certificate: new Uint8Array(32).fill(byte), ms: MS });

ledgerTest(
  "of reads of a key at the same time, one is the first, and only those with its certificate get it",
  async (ledger) => {
    const stores = [await ledger.open(), ...ledger.shared ? [await ledger.open()] : []];
    await fill(stores[0]!, 20);
    const keys = (await stores[0]!.deliver(delivery(stores[0]!, 20)))!;
    const ids = keys.map((key) => key.id);
    // Also in another order, and while bits are being erased.
    const readers = Array.from({ length: 40 }, async (_, i) => {
      const store = stores[i % stores.length]!;
      const repeat = certificate(i % 4 < 2 ? 1 : 2);
      const asked = i % 3 === 0 ? ids : ids.toReversed();
      const read = await store.collect({ caller: "12", master: "11", ids: asked, repeat });
      if (i % 8 === 0) {
        await store.expire({
          limit: 100,
          keptBefore: store.now() - MS,
          refusedBefore: 0,
          absentBefore: 0,
          voidedBefore: 0,
        });
      }
      return { read, certificate: repeat.certificate[0] };
    });
    const reads = await Promise.all(readers);
    const got = reads.flatMap(({ read, certificate }) =>
      read.kind === "keys" ? [{ ...read, certificate }] : []
    );
    assert.equal(got.filter(({ repeated = [] }) => repeated.length === 0).length, 1, "first reads");
    assert.equal(new Set(got.map(({ certificate }) => certificate)).size, 1, "read with two certificates");
    assert.equal(got.length, 20);
    for (const { read } of reads) assert.ok(read.kind === "keys" || read.kind === "missing");
    const expected = new Map(keys.map((key) => [hex(key.id), hex(key.bits)]));
    for (const { keys: read } of got) {
      assert.equal(read.length, 20);
      for (const key of read) assert.ok(expected.get(hex(key.id)) === hex(key.bits), "other bits");
    }
    assert.equal(await stores[0]!.keysWaiting(), 0);
  },
);

ledgerTest(
  "a store that is opened later repeats reads for the rest of their time, then erases the bits",
  async (ledger) => {
    let now = Date.now();
    const first = await ledger.open({ now: () => now });
    await fill(first, 2);
    const item = { ...delivery(first), size: 320, expiresAt: now + HOUR };
    const [key] = (await first.deliver(item))!;
    const question = { caller: "12", master: "11", ids: [key!.id], repeat: certificate(1) };
    assert.equal((await first.collect(question)).kind, "keys");
    const repeated = await first.collect(question);
    assert.ok(repeated.kind === "keys" && repeated.repeated?.length === 1);
    assert.equal(repeated.readElsewhere, undefined);
    await closeOnce(first);
    now += MS - 1;
    const second = await ledger.open({ now: () => now });
    const again = await second.collect(question);
    assert.ok(again.kind === "keys" && hex(again.keys[0]!.bits) === hex(key!.bits), "not the same key");
    assert.deepEqual(again.readElsewhere?.map(hex), [hex(key!.id)]);
    assert.equal((await second.collect({ ...question, repeat: undefined })).kind, "missing");
    const expiry = { limit: 10, refusedBefore: 0, absentBefore: 0, voidedBefore: 0 };
    assert.equal((await second.expire({ ...expiry, keptBefore: now - MS })).erased, 0);
    now += 1;
    assert.equal((await second.collect(question)).kind, "missing");
    assert.equal((await second.expire({ ...expiry, keptBefore: now - MS })).erased, 1);
    const rows = await ledger.tables.selectFrom("blocks").select("bits").execute();
    assert.deepEqual(rows, [{ bits: null }]);
    assert.deepEqual(await ledger.tables.selectFrom("kept_keys").selectAll().execute(), []);
  },
  ["sqlite", "postgres", "mariadb"],
);
