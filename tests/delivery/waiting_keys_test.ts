/** How many keys of a master may still wait, while the database counts those that do. */
import assert from "node:assert/strict";
import { WaitingKeys } from "../../src/delivery/waiting_keys.ts";
import { delivery, fill, type Ledger, ledgerTest } from "../store/store_fixture.ts";

const MASTER = "11";
const SLAVE = "12";
const MAX = 10;

async function makeSite(ledger: Ledger) {
  const store = await ledger.open();
  await fill(store, 40);
  let now = 0;
  /** Awaited between a count and its result. */
  let held = () => Promise.resolve();
  const waiting = new WaitingKeys({
    async keysWaiting(master) {
      const number = await store.keysWaiting(master);
      await held();
      return number;
    },
  }, () => now);
  const deliver = async (number: number) => (await store.deliver(delivery(store, number)))!;
  return {
    store,
    waiting,
    deliver,
    admit: (number: number) => waiting.admit(MASTER, number, MAX),
    deliverAdmitted: async (number: number) => {
      const end = await waiting.admit(MASTER, number, MAX);
      assert.ok(end !== undefined, `${number} keys are not admitted`);
      const keys = await deliver(number);
      end("delivered");
      return keys;
    },
    collect: async (ids: readonly Uint8Array[]) => {
      const read = await store.collect({ caller: SLAVE, master: MASTER, ids });
      assert.ok(read.kind === "keys");
      return read.finished;
    },
    pass: (ms: number) => now += ms,
    /** Holds the result of the next count back, which has been made when this resolves. */
    holdCount: () => {
      const [made, released] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
      held = () => {
        held = () => Promise.resolve();
        made.resolve();
        return released.promise;
      };
      return { made: made.promise, release: released.resolve };
    },
  };
}

ledgerTest("keys that are delivered while the database counts are not forgotten", async (ledger) => {
  const site = await makeSite(ledger);
  const first = await site.admit(6);
  assert.ok(first !== undefined);
  site.pass(5000);
  const count = site.holdCount();
  const second = site.admit(5);
  await count.made;
  await site.deliver(6);
  first("delivered");
  count.release();
  assert.equal(await second, undefined);
  // It is counted again before a request is refused.
  site.pass(250);
  assert.equal(await site.admit(5), undefined);
  await site.deliverAdmitted(4);
  assert.equal(await site.admit(1), undefined);
  assert.equal(await site.store.keysWaiting(MASTER), MAX);
}, ["sqlite"]);

ledgerTest("keys that a slave has fetched make room once", async (ledger) => {
  const site = await makeSite(ledger);
  const ids = (await site.deliverAdmitted(MAX)).map(({ id }) => id);
  const fetched = site.waiting.fetching(MASTER);
  const finished = await site.collect(ids.slice(0, 3));
  assert.equal(finished, 3);
  // The count leaves them out already.
  site.pass(5000);
  const end = await site.admit(3);
  assert.ok(end !== undefined);
  fetched(finished);
  assert.equal(await site.admit(1), undefined);
  end("undelivered");
  const next = site.waiting.fetching(MASTER);
  next(await site.collect(ids.slice(3, 5)));
  assert.equal(await site.admit(6), undefined);
  await site.deliverAdmitted(5);
  assert.equal(await site.store.keysWaiting(MASTER), MAX);
}, ["sqlite"]);

ledgerTest(
  "keys of which it is not known whether they wait take room until they are counted",
  async (ledger) => {
    const site = await makeSite(ledger);
    const [lost, refused] = [await site.admit(4), await site.admit(4)];
    assert.ok(lost !== undefined && refused !== undefined);
    lost("unknown");
    refused("undelivered");
    assert.equal(await site.admit(7), undefined);
    assert.ok(await site.admit(6) !== undefined);
    site.pass(250);
    assert.ok(await site.admit(4) !== undefined);
    assert.equal(await site.admit(1), undefined);
  },
  ["sqlite"],
);
