/** Large and small requests at once, from a pool that is larger than any of them. */
import assert from "node:assert/strict";
import type { Key } from "../../src/domain/key.ts";
import type { Store } from "../../src/store/store.ts";
import {
  assertDistinctBlocks,
  audit,
  delivery,
  fill,
  hex,
  type Ledger,
  ledgerTest,
  OWN,
} from "./store_fixture.ts";

/** As many callers as the bench has connections, and keys in their requests. */
const CALLERS = 32;
const NUMBERS = [1, 10, 128, 1];
const BLOCKS = 10_000;

async function emptyPool(ledger: Ledger, stores: readonly Store[]): Promise<void> {
  const blocks = await fill(stores[0]!, BLOCKS);
  const keys: Key[] = [];
  await atOnce(async (caller) => {
    const store = stores[caller % stores.length]!;
    let number = NUMBERS[caller % NUMBERS.length]!;
    while (true) {
      const taken = await store.deliver(delivery(store, number));
      if (taken !== undefined) {
        assert.equal(taken.length, number);
        keys.push(...taken);
      } else if (await store.freeBlocks(OWN.text) === 0) return;
      else number = 1;
    }
  });
  assert.equal(keys.length, BLOCKS, "the pool was not used up");
  assertDistinctBlocks(keys, blocks);
  const used = { seen: BLOCKS, free: 0, reserved: 0, reservations: 0 };
  assert.deepEqual(await audit(ledger), { ...used, keys: BLOCKS, waiting: BLOCKS });

  // Each part is asked for twice at once.
  const bits = new Map(keys.map((key) => [hex(key.id), hex(key.bits)]));
  await atOnce(async (caller) => {
    const store = stores[caller % stores.length]!;
    while (keys.length > 0) {
      const ids = keys.splice(0, NUMBERS[caller % NUMBERS.length]! === 1 ? 16 : 128).map(({ id }) => id);
      const collection = { caller: "12", master: "11", ids };
      const readings = await Promise.all([
        store.collect(collection),
        stores[(caller + 1) % stores.length]!.collect(collection),
      ]);
      assert.deepEqual(readings.map(({ kind }) => kind).sort(), ["keys", "missing"]);
      for (const reading of readings) {
        if (reading.kind !== "keys") continue;
        assert.equal(reading.keys.length, ids.length);
        for (const key of reading.keys) assert.ok(bits.get(hex(key.id)) === hex(key.bits));
      }
    }
  });
  const { waiting, ...rest } = await audit(ledger);
  assert.equal(waiting, 0);
  assert.deepEqual({ ...rest, keys: 0 }, { ...used, keys: 0 });
}

async function atOnce(work: (caller: number) => Promise<void>): Promise<void> {
  await Promise.all(Array.from({ length: CALLERS }, (_, caller) => work(caller)));
}

const name = `${CALLERS} callers ask for 1, 10 and 128 keys until there is none`;
ledgerTest(name, async (ledger) => emptyPool(ledger, [await ledger.open()]));
ledgerTest(
  `${name}, on three replicas`,
  async (ledger) => emptyPool(ledger, [await ledger.open(), await ledger.open(), await ledger.open()]),
  ["postgres", "mariadb"],
);
