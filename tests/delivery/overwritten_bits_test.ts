/** Bits that a request has used, or that it could not use, are overwritten in memory. */
import assert from "node:assert/strict";
import type { OtherKme } from "../../src/config/config.ts";
import type { Peer } from "../../src/delivery/peer.ts";
import { BlockDelivery } from "../../src/delivery/block_delivery.ts";
import type { Directory } from "../../src/delivery/directory.ts";
import { Reception } from "../../src/delivery/reception.ts";
import type { Recovery } from "../../src/delivery/recovery.ts";
import { ReservationFinisher } from "../../src/delivery/reservation_finisher.ts";
import { Routes } from "../../src/delivery/routes.ts";
import { TransactionDelivery } from "../../src/delivery/transaction_delivery.ts";
import { noopObserver } from "../../src/delivery/key_observer.ts";
import type { Block } from "../../src/domain/block.ts";
import type { Key } from "../../src/domain/key.ts";
import { newKeyId } from "../../src/domain/key.ts";
import type { TransactionAnswer } from "../../src/domain/transaction.ts";
import { Store } from "../../src/store/store.ts";
import { fill, OWN, PEER } from "../store/store_fixture.ts";

type Bits = Block | Key;

/** A store in memory with blocks of both links, and what it has given out. */
async function openStore() {
  const store = await Store.open({ database: { kind: "memory" }, thisKme: OWN, neighbours: [PEER] });
  await fill(store, 20);
  const shared = await fill(store, 20, PEER.text);
  const given: Bits[] = [];
  const reserve = store.reserve.bind(store);
  store.reserve = async (item) => {
    const blocks = await reserve(item);
    given.push(...blocks?.flat() ?? []);
    return blocks;
  };
  const activate = store.activate.bind(store);
  store.activate = async (item) => {
    const activated = await activate(item);
    if (activated.kind === "activated") given.push(...activated.keys);
    return activated;
  };
  return { store, shared, given, [Symbol.asyncDispose]: () => store.close() };
}

const isOverwritten = ({ bits }: Bits) => bits.every((byte) => byte === 0);

/** A neighbour that answers transactions and activations like this, and what bits it was sent. */
function peerThat(answer: TransactionAnswer) {
  const padded: Uint8Array[] = [];
  const peer = {
    kme: PEER.text,
    ability: () => Promise.resolve({ kind: "transactions", comparesStock: false, sharesDeviceKeys: false }),
    send: ({ keys }) => {
      for (const key of keys) if (key.padded !== undefined) padded.push(key.padded.slice());
      return Promise.resolve(answer);
    },
    activate: ({ keyIds }) =>
      Promise.resolve({
        activated: keyIds.slice(1),
        refused: keyIds.slice(0, 1),
        untouched: [],
        unknown: [],
      }),
  } as Partial<Peer> as Peer;
  return { peer, padded };
}

const resolved = { resolve: () => Promise.resolve(true) } as Partial<Recovery> as Recovery;

for (const size of [256, 320]) {
  for (
    const answer of [{ kind: "activated" }, { kind: "unreached", reason: "no answer" }, {
      kind: "refused",
      blocks: [],
      absent: [],
    }] as TransactionAnswer[]
  ) {
    for (const source of [OWN.text, PEER.text]) {
      Deno.test(`blocks and pads of ${size}-bit keys of KME ${source}, when the neighbour has ${answer.kind} them`, async () => {
        await using opened = await openStore();
        const { store, given } = opened;
        const { peer, padded } = peerThat(answer);
        const reservations = new ReservationFinisher(store);
        const delivery = new TransactionDelivery({
          store,
          peers: new Map([[PEER.text, peer]]),
          reservations,
          recovery: resolved,
          stocks: new Map(),
        });
        const isOwn = source === OWN.text;
        const keys = await delivery.deliver({
          plan: {
            source,
            localSlaves: ["12"],
            hops: [{
              kme: PEER.text,
              composes: !isOwn,
              recipients: [{ kme: PEER.text, saes: ["21"] }],
            }],
          },
          number: 2,
          size,
          origin: OWN.text,
          master: "11",
          expiresAt: store.now() + 60_000,
          keep: () => 0,
        }).catch(() => []);
        assert.equal(keys.length, answer.kind === "activated" ? 2 : 0);
        assert.ok(given.length > 0);
        const returned = new Set(keys.map(({ bits }) => bits));
        assert.equal(given.every((block) => returned.has(block.bits) || isOverwritten(block)), true);
        assert.equal(keys.some(isOverwritten), false);
        assert.equal(padded.length > 0, isOwn);
        reservations.close();
        if (keys.length === 0) return;
        // The slave gets what the master got.
        const read = await store.collect({ caller: "12", master: "11", ids: keys.map(({ id }) => id) });
        assert.ok(read.kind === "keys");
        assert.deepEqual(read.keys.map(({ bits }) => bits), keys.map(({ bits }) => Uint8Array.from(bits)));
      });
    }
  }
}

Deno.test("blocks that a neighbour with whole blocks only refuses", async () => {
  await using opened = await openStore();
  const { store, given } = opened;
  const reservations = new ReservationFinisher(store);
  const delivery = new BlockDelivery(store, reservations, noopObserver);
  const keys = await delivery.deliver({
    link: store.link(PEER.text)!,
    peer: peerThat({ kind: "activated" }).peer,
    number: 1,
    origin: OWN.text,
    master: { text: "11", integer: true },
    slave: { text: "21", integer: true },
    expiresAt: store.now() + 60_000,
    keep: () => 0,
  }).catch(() => []);
  reservations.close();
  const returned = new Set(keys.map(({ bits }) => bits));
  assert.ok(given.length > 0);
  assert.equal(given.every((block) => returned.has(block.bits) || isOverwritten(block)), true);
});

Deno.test("keys that a neighbour sends", async () => {
  await using opened = await openStore();
  const { store, shared, given } = opened;
  const reception = new Reception({
    thisKme: OWN.text,
    directory: {
      mayActFor: () => true,
      sae: (id: string) => ({ id: { text: id, integer: true }, kmeId: id === "21" ? PEER.text : OWN.text }),
    } as unknown as Directory,
    routes: new Routes([{ id: PEER } as OtherKme]),
    store,
    peers: new Map(),
    reservations: new ReservationFinisher(store),
    recovery: resolved,
    observer: noopObserver,
    expiry: () => store.now() + 60_000,
    admit: () => Promise.resolve({ end: () => {} }),
    onActivated: () => {},
  });
  const id = newKeyId();
  const answer = await reception.receive(undefined as never, PEER.text, {
    id: newKeyId(),
    origin: "21",
    keys: [{ id, size: 512, blocks: [shared[0]!.id, shared[1]!.id] }],
    recipients: [{ kme: OWN.text, saes: ["12"] }],
  });
  assert.equal(answer.kind, "activated");
  assert.equal(given.length, 1);
  assert.ok(isOverwritten(given[0]!));
  const read = await store.collect({ caller: "12", master: "21", ids: [id] });
  assert.ok(read.kind === "keys" && !isOverwritten(read.keys[0]!));
});
