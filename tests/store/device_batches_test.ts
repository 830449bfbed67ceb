/** Keys of QKD devices in the store: unconfirmed until the other end has them, settled once, on every database. */
import assert from "node:assert/strict";
import type { DeviceKeyBits } from "../../src/domain/device_keys.ts";
import { BlockPresence } from "../../src/domain/stock_questions.ts";
import type { Store } from "../../src/store/store.ts";
import { closeOnce, freshBlocks, freshId, hex, ledgerTest, PEER } from "./store_fixture.ts";

const LINK = PEER.text;

/** Keys of two blocks each. */
function freshKeys(count: number): DeviceKeyBits[] {
  return Array.from({ length: count }, () => ({ id: crypto.randomUUID(), blocks: freshBlocks(2) }));
}

const idsOf = (keys: readonly DeviceKeyBits[]) => keys.flatMap(({ blocks }) => blocks.map(({ id }) => id));

async function freeIds(store: Store): Promise<string[]> {
  const link = store.link(LINK)!;
  const page = await store.blockPage({ linkId: link.id, states: [0], after: 0, limit: 100 });
  return page.ids.map(hex).sort();
}

ledgerTest(
  "blocks of a device are in stock when they are confirmed, and removed when they never will be",
  async (ledger) => {
    const store = await ledger.open();
    const keys = freshKeys(3);
    const batch = await store.openDeviceBatch(LINK, 6);
    assert.deepEqual((await store.openedDeviceBatches(LINK)).map(({ asked, keys }) => [asked, keys]), [[
      6,
      undefined,
    ]]);
    const stored = await store.storeDeviceBatch(LINK, batch, keys);
    assert.deepEqual(stored!.map(({ id }) => id), keys.map(({ id }) => id));
    const [opened] = await store.openedDeviceBatches(LINK);
    assert.deepEqual(opened!.keys!.flatMap(({ blocks }) => blocks.map(hex)), idsOf(keys).map(hex));
    assert.equal(await store.freeBlocks(LINK), 0);
    // They are no difference between the two ends.
    assert.deepEqual(await store.unmatchedByFile(store.link(LINK)!), []);
    // A peer that tells nothing of its stock does not make them free.
    await store.matchBlocks({ link: store.link(LINK)!, matchAll: true });
    assert.equal(await store.freeBlocks(LINK), 0);

    const [first, second, third] = keys.map((key) => idsOf([key])) as [
      Uint8Array[],
      Uint8Array[],
      Uint8Array[],
    ];
    const some = { batch, held: first, gone: second, done: false };
    assert.deepEqual(await store.settleDeviceBatch(LINK, some), { confirmed: 2, removed: 2 });
    assert.deepEqual(await store.settleDeviceBatch(LINK, some), { confirmed: 0, removed: 0 });
    assert.equal((await store.openedDeviceBatches(LINK)).length, 1);
    const rest = { batch, held: third, gone: [], done: true };
    assert.deepEqual(await store.settleDeviceBatch(LINK, rest), { confirmed: 2, removed: 0 });
    assert.deepEqual(await store.settleDeviceBatch(LINK, rest), { confirmed: 0, removed: 0 });
    assert.deepEqual(await store.openedDeviceBatches(LINK), []);
    assert.equal(await store.freeBlocks(LINK), 4);
    assert.deepEqual(await freeIds(store), [...first, ...third].map(hex).sort());
  },
);

ledgerTest("a block of a device is stored once, whichever end requested it", async (ledger) => {
  const store = await ledger.open();
  const keys = freshKeys(2);
  const batch = await store.openDeviceBatch(LINK, 4);
  await store.storeDeviceBatch(LINK, batch, keys);
  const again = await store.openDeviceBatch(LINK, 4);
  assert.deepEqual(await store.storeDeviceBatch(LINK, again, keys), []);
  assert.equal((await store.openedDeviceBatches(LINK)).length, 1);
  const { presence, stored } = await store.receiveDeviceKeys(LINK, { blocks: keys[0]!.blocks, lost: [] });
  assert.deepEqual([[...presence], stored], [[BlockPresence.held, BlockPresence.held], 0]);
  const fresh = freshBlocks(2);
  const received = await store.receiveDeviceKeys(LINK, { blocks: fresh, lost: [] });
  assert.deepEqual([[...received.presence], received.stored], [[BlockPresence.held, BlockPresence.held], 2]);
  assert.equal(await store.freeBlocks(LINK), 2);
});

ledgerTest("a block that was given up never comes into stock", async (ledger) => {
  const store = await ledger.open();
  const [lost, other] = freshBlocks(2);
  const { presence } = await store.receiveDeviceKeys(LINK, { blocks: [other!], lost: [lost!.id, freshId()] });
  assert.deepEqual([...presence], [BlockPresence.held, BlockPresence.gone, BlockPresence.gone]);
  const late = await store.receiveDeviceKeys(LINK, { blocks: [lost!], lost: [] });
  assert.deepEqual([[...late.presence], late.stored], [[BlockPresence.gone], 0]);
  assert.equal(await store.freeBlocks(LINK), 1);
});

ledgerTest("a batch that another process has given up is not stored", async (ledger) => {
  const store = await ledger.open();
  const batch = await store.openDeviceBatch(LINK, 2);
  assert.equal(await store.giveUpDeviceBatch(batch), true);
  // Of several processes, one counts it.
  assert.equal(await store.giveUpDeviceBatch(batch), false);
  assert.equal(await store.storeDeviceBatch(LINK, batch, freshKeys(1)), undefined);
  assert.equal(await store.freeBlocks(LINK), 0);
});

ledgerTest("a batch is not given up any more when its keys are stored", async (ledger) => {
  const store = await ledger.open();
  const batch = await store.openDeviceBatch(LINK, 2);
  const keys = freshKeys(1);
  await store.storeDeviceBatch(LINK, batch, keys);
  assert.equal(await store.giveUpDeviceBatch(batch), false);
  const [opened] = await store.openedDeviceBatches(LINK);
  assert.deepEqual(opened!.keys!.flatMap(({ blocks }) => blocks.map(hex)), idsOf(keys).map(hex));
  await store.settleDeviceBatch(LINK, { batch, held: idsOf(keys), gone: [], done: true });
  assert.equal(await store.freeBlocks(LINK), 2);
});

ledgerTest("a batch is continued by another process when its own has ended, not before", async (ledger) => {
  const [first, second] = [await ledger.open(), await ledger.open()];
  for (const store of [first, second]) await store.renewLease(3_600_000, []);
  const batch = await first.openDeviceBatch(LINK, 2);
  assert.equal((await first.openedDeviceBatches(LINK)).length, 1);
  assert.deepEqual(await second.openedDeviceBatches(LINK), []);
  await closeOnce(first);
  assert.deepEqual((await second.openedDeviceBatches(LINK)).map(({ batch }) => hex(batch)), [hex(batch)]);
}, ["postgres", "mariadb"]);

ledgerTest("burning a link removes unconfirmed blocks and their batches too", async (ledger) => {
  const store = await ledger.open();
  const batch = await store.openDeviceBatch(LINK, 2);
  await store.storeDeviceBatch(LINK, batch, freshKeys(1));
  await store.burn(LINK);
  assert.deepEqual(await store.openedDeviceBatches(LINK), []);
  assert.deepEqual(await freeIds(store), []);
});
