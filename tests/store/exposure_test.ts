/** What may have been on the wire, or is not where it should be yet: pads, absent blocks, other neighbours' transactions. */
import assert from "node:assert/strict";
import type { KeyIdBytes } from "../../src/domain/block.ts";
import type { Store } from "../../src/store/store.ts";
import { delivery, fill, freshBlocks, freshId, ledgerTest, PEER } from "./store_fixture.ts";

const HOUR = 3_600_000;

function activation(store: Store, blocks: readonly KeyIdBytes[], transaction?: KeyIdBytes) {
  return {
    link: store.link(PEER.text)!,
    origin: PEER.text,
    keys: blocks.map((id) => ({ id, size: 256, blocks: [id] })),
    master: "21",
    slaves: ["11"],
    expiresAt: Date.now() + HOUR,
    transaction,
  };
}

ledgerTest("a block that is reserved as a pad never becomes the peer's key", async (ledger) => {
  const store = await ledger.open();
  await fill(store, 4, PEER.text);
  const link = store.link(PEER.text)!;
  const reservation = freshId();
  const [pads] = (await store.reserve({ reservation, claims: [{ link, blocks: 4, pad: true }] }))!;
  const ids = pads!.map((pad) => pad.id);
  for (const id of ids) {
    const answer = await store.activate(activation(store, [id], freshId()));
    assert.deepEqual({ ...answer, blocks: undefined }, { kind: "refused", blocks: undefined, absent: [] });
  }
  await store.finishReservation({ reservation, unresolved: ids });
  for (const id of ids) {
    assert.equal((await store.activate(activation(store, [id], freshId()))).kind, "refused");
  }
  await store.adopt(10);
  await store.finishReservation({ reservation, burn: ids });
  assert.equal(await store.freeBlocks(PEER.text), 0);
});

ledgerTest("blocks that were never stored here are told from those that are gone", async (ledger) => {
  const store = await ledger.open();
  const [here, gone] = await fill(store, 2, PEER.text);
  assert.equal((await store.activate(activation(store, [gone!.id], freshId()))).kind, "activated");
  const [never] = freshBlocks(1);
  const answer = await store.activate(activation(store, [here!.id, gone!.id, never!.id], freshId()));
  assert.deepEqual(answer, { kind: "refused", blocks: [gone!.id, never!.id], absent: [never!.id] });
  assert.equal(await store.freeBlocks(PEER.text), 1);
});

ledgerTest("blocks that the peer has not stored yet are kept apart, then free again", async (ledger) => {
  const store = await ledger.open();
  await fill(store, 5, PEER.text);
  const link = store.link(PEER.text)!;
  const reservation = freshId();
  const [blocks] = (await store.reserve({ reservation, claims: [{ link, blocks: 5 }] }))!;
  const ids = blocks!.map((block) => block.id);
  await store.finishReservation({
    reservation,
    absent: ids.slice(0, 2),
    refused: ids.slice(2, 3),
    release: ids.slice(3),
  });
  assert.equal(await store.freeBlocks(PEER.text), 2);
  const expiry = { limit: 10, keptBefore: 0, refusedBefore: 0, absentBefore: 0, voidedBefore: 0 };
  assert.equal((await store.expire(expiry)).freed, 0);
  // The peer may ask for them meanwhile: it has them now.
  assert.equal((await store.activate(activation(store, [ids[0]!], freshId()))).kind, "activated");
  assert.equal((await store.expire({ ...expiry, absentBefore: Date.now() + 60_001 })).freed, 1);
  assert.equal(await store.freeBlocks(PEER.text), 3);
  assert.deepEqual(await store.adopt(10), []);
});

ledgerTest("a neighbour takes back only what it sent itself", async (ledger) => {
  const store = await ledger.open({ neighbours: [PEER, { text: "3", integer: true }] });
  const [block] = await fill(store, 1, PEER.text);
  const transaction = freshId();
  assert.equal((await store.activate(activation(store, [block!.id], transaction))).kind, "activated");
  const other = await store.takeBack({
    link: store.link("3")!,
    transaction,
    blocks: [block!.id],
    reuse: true,
  });
  assert.equal(other.kind, "unknown");
  // Nor does it keep the sender from repeating its message.
  assert.equal((await store.activate(activation(store, [block!.id], transaction))).kind, "repeated");
  const read = await store.collect({ caller: "11", master: "21", ids: [block!.id] });
  assert.equal(read.kind, "keys");
});

ledgerTest(
  "callers that ask for recently stored blocks leave enough for others of the same commit",
  async (ledger) => {
    const store = await ledger.open();
    await fill(store, 40);
    const old = Date.now() - HOUR;
    const results = await Promise.all([
      store.deliver({ ...delivery(store, 10), storedSince: old }),
      store.deliver({ ...delivery(store, 10), storedSince: old - 1 }),
      store.deliver(delivery(store, 10)),
      store.deliver({ ...delivery(store, 10), storedSince: old - 2 }),
    ]);
    assert.deepEqual(results.map((keys) => keys?.length), [10, 10, 10, 10]);
  },
);

ledgerTest(
  "what is in stock is not refused because a larger request holds it for a moment",
  async (ledger) => {
    const stores = ledger.shared ? [await ledger.open(), await ledger.open()] : [await ledger.open()];
    await fill(stores[0]!, 100);
    const results = await Promise.all(
      Array.from({ length: 60 }, (_, i) => {
        const store = stores[i % stores.length]!;
        return store.deliver(delivery(store, i % 2 === 0 ? 128 : 1));
      }),
    );
    results.forEach((keys, i) => assert.equal(keys?.length, i % 2 === 0 ? undefined : 1));
  },
);
