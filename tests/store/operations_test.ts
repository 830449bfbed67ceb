/** Every operation of the store, and what it refuses, on every database. */
import assert from "node:assert/strict";
import type { Link } from "../../src/domain/link.ts";
import type { Block } from "../../src/domain/block.ts";
import { composeBits } from "../../src/domain/key.ts";
import {
  assertDistinctBlocks,
  audit,
  closeOnce,
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

const HOUR = 3_600_000;

ledgerTest(
  "blocks are stored once, up to the link's cap, with the file's progress",
  async (ledger) => {
    const store = await ledger.open();
    const blocks = freshBlocks(10);
    const file = (offset: number) => ({ name: "a.cor", size: 320, digest: TEST_DIGEST, offset });
    const add = (part: typeof blocks, offset: number, maxFree = 100, link = PEER.text) =>
      store.addBlocks({ link, blocks: part, maxFree, file: file(offset) });
    assert.deepEqual(await add(blocks, 0, 4), { stored: 4, known: 0, taken: 4 });
    assert.deepEqual((await store.fileProgress(PEER.text, ["a.cor"])).get("a.cor"), {
      name: "a.cor",
      size: 320,
      digest: TEST_DIGEST,
      offset: 128,
    });
    assert.equal((await store.fileProgress(OWN.text, ["a.cor"])).get("a.cor"), undefined);
    assert.deepEqual(await add(blocks.slice(4), 128, 4), { stored: 0, known: 0, taken: 0 });
    assert.deepEqual(await add(blocks, 0), { stored: 6, known: 4, taken: 10 });
    assert.deepEqual(await add([blocks[0]!, blocks[0]!], 0), { stored: 0, known: 2, taken: 2 });
    const twice = freshBlocks(1);
    assert.deepEqual(await add([...twice, ...twice], 0), { stored: 1, known: 1, taken: 2 });
    // Not on another link either.
    assert.deepEqual(await add(blocks, 0, 100, OWN.text), { stored: 0, known: 10, taken: 10 });
    assert.equal(await store.freeBlocks(PEER.text), 11);
    assert.equal(await store.freeBlocks(OWN.text), 0);
    assert.equal((await audit(ledger)).seen, 11);
    await assert.rejects(store.addBlocks({ link: "3", blocks, maxFree: 1, file: file(0) }), /no link/);
  },
);

ledgerTest("the cap of a link holds for files that are added at once", async (ledger) => {
  const store = await ledger.open();
  const add = (name: string) =>
    store.addBlocks({
      link: OWN.text,
      blocks: freshBlocks(10),
      maxFree: 25,
      file: { name, size: 320, digest: TEST_DIGEST, offset: 0 },
    });
  const added = ledger.shared
    ? [await add("a"), await add("b"), await add("c"), await add("d")]
    : await Promise.all(["a", "b", "c", "d"].map(add));
  assert.deepEqual(added.map(({ stored }) => stored), [10, 10, 5, 0]);
  assert.equal((await audit(ledger)).free, 25);
});

ledgerTest("many small files are added together, each with its own result and progress", async (ledger) => {
  const store = await ledger.open();
  const blocks = freshBlocks(600);
  const add = (name: string, part: typeof blocks, offset: number, link = PEER.text) =>
    store.addBlocks({
      link,
      blocks: part,
      maxFree: 10_000,
      file: { name, size: 96, digest: TEST_DIGEST, offset },
    });
  const part = (i: number) => blocks.slice(2 * i, 2 * i + 2);
  const files = Array.from({ length: 300 }, (_, i) => `${i}.cor`);
  const together = await Promise.all([
    ...files.map((name, i) => add(name, part(i), 0, i % 2 === 0 ? PEER.text : OWN.text)),
    add("again.cor", part(8), 0), // the same blocks as another file of the link
  ]);
  // Transactions run beside each other: either file can be the first.
  const [again] = together.splice(300), [same] = together.splice(8, 1);
  assert.deepEqual([again!, same!].toSorted((a, b) => a.stored - b.stored), [
    { stored: 0, known: 2, taken: 2 },
    { stored: 2, known: 0, taken: 2 },
  ]);
  assert.deepEqual(together.filter(({ stored, known }) => stored === 0 || known > 0), []);
  await add("0.cor", freshBlocks(1), 64); // its next part: the parts of a file come one after the other
  const offset = async (name: string, link = PEER.text) =>
    (await store.fileProgress(link, [name])).get(name)?.offset;
  assert.equal(await offset("0.cor"), 96);
  assert.equal(await offset("again.cor"), 64);
  assert.equal(await offset("1.cor"), undefined);
  assert.equal(await offset("1.cor", OWN.text), 64);
  assert.equal(await offset("299.cor", OWN.text), 64);
  assert.equal(await store.freeBlocks(PEER.text), 301);
  assert.equal(await store.freeBlocks(OWN.text), 300);
  assert.equal((await audit(ledger)).free, 601);
});

ledgerTest(
  "a large file's blocks are stored in its order, each with its own bits, half and file",
  async (ledger) => {
    const store = await ledger.open({ now: () => 1_800_000_000_000 });
    const known = await fill(store, 20, PEER.text);
    const files = [10, 11].map((first) => ({
      blocks: freshBlocks(700),
      // With the largest tag and a small one.
      digest: new Uint8Array(32).fill(first === 10 ? 255 : 0),
      tag: first === 10 ? 2 ** 48 - 1 : 0,
    }));
    const [first, second] = files;
    const add = ({ blocks, digest }: Pick<(typeof files)[0], "blocks" | "digest">, name: string) =>
      store.addBlocks({
        link: OWN.text,
        blocks,
        maxFree: 10_000,
        file: { name, size: blocks.length * 32, digest, offset: 0 },
      });
    const mixed = [...first!.blocks.slice(0, 300), ...known, ...first!.blocks.slice(300)];
    // One after the other where transactions run beside each other.
    const adding = add({ ...first!, blocks: mixed }, "first.cor");
    if (ledger.shared) await adding;
    assert.deepEqual(await Promise.all([adding, add(second!, "second.cor")]), [
      { stored: 700, known: 20, taken: 720 },
      { stored: 700, known: 0, taken: 700 },
    ]);
    const rows = await ledger.tables.selectFrom("blocks").selectAll()
      .where("link_id", "=", store.link(OWN.text)!.id).orderBy("seq").execute();
    const blocks = files.flatMap((file) => file.blocks);
    assert.deepEqual(rows.map((row) => hex(row.block_id)), blocks.map(({ id }) => hex(id)));
    assert.deepEqual(rows.map(({ half }) => half), blocks.map(({ id }) => id[15]! & 1));
    assert.deepEqual(
      rows.map((row) => Number(row.file_tag)),
      files.flatMap(({ tag, blocks }) => blocks.map(() => tag)),
    );
    assert.deepEqual([...new Set(rows.map((row) => Number(row.stored_at)))], [1_800_000_000_000]);
    if (ledger.encryption === undefined) {
      const bits = rows.map((row) => hex(row.bits as unknown as Uint8Array));
      assert.deepEqual(bits, blocks.map((block) => hex(block.bits)));
    }
    // Encrypted ones are only readable in the row of their own block.
    const delivered = await store.deliver({ ...delivery(store, 1400), expiresAt: 1_800_000_001_000 });
    assertDistinctBlocks(delivered!, blocks);
    assert.equal((await audit(ledger)).seen, 1420);
  },
);

ledgerTest("names of key files keep case, spaces and every character", async (ledger) => {
  const store = await ledger.open();
  const names = [
    "a.cor",
    "A.cor",
    "a.cor ",
    "ä.cor",
    "a\u0308.cor",
    "鍵🔑.cor",
    'it\'s \\ "quoted" %_.cor',
    "ß.cor",
    "SS.cor",
  ];
  for (const [i, name] of names.entries()) {
    await store.addBlocks({
      link: OWN.text,
      blocks: freshBlocks(1),
      maxFree: 100,
      file: { name, size: i, digest: TEST_DIGEST, offset: 32 * i },
    });
  }
  for (const [i, name] of names.entries()) {
    assert.deepEqual((await store.fileProgress(OWN.text, [name])).get(name), {
      name,
      size: i,
      digest: TEST_DIGEST,
      offset: 32 * i + 32,
    });
  }
  const large = 2 ** 52;
  await store.addBlocks({
    link: OWN.text,
    blocks: freshBlocks(1),
    maxFree: 100,
    file: { name: "large", size: large, digest: TEST_DIGEST, offset: large },
  });
  assert.deepEqual((await store.fileProgress(OWN.text, ["large"])).get("large"), {
    name: "large",
    size: large,
    digest: TEST_DIGEST,
    offset: large + 32,
  });
});

ledgerTest("entropy counts every byte ever stored", async (ledger) => {
  const store = await ledger.open();
  assert.equal(await store.totalEntropy(), 0);
  const same = { id: freshId(), bits: new Uint8Array(32) };
  const file = { name: "a", size: 32, digest: TEST_DIGEST, offset: 0 };
  await store.addBlocks({ link: OWN.text, blocks: [same], maxFree: 10, file });
  assert.equal(await store.totalEntropy(), 0);
  const other = { id: freshId(), bits: new Uint8Array(32).fill(255) };
  await store.addBlocks({ link: PEER.text, blocks: [other], maxFree: 10, file });
  assert.equal(await store.totalEntropy(), 1);
  await store.deliver(delivery(store));
  assert.equal(await store.totalEntropy(), 1);
});

ledgerTest("a delivery takes all its blocks or none, and its keys are read once", async (ledger) => {
  const store = await ledger.open();
  const blocks = await fill(store, 5);
  assert.equal(await store.deliver(delivery(store, 6)), undefined);
  assert.equal((await audit(ledger)).free, 5);
  const keys = (await store.deliver(delivery(store, 2)))!;
  assert.equal(keys.length, 2);
  for (const key of keys) {
    assert.ok(blocks.some((block) => hex(block.bits) === hex(key.bits)));
  }
  const [odd] = (await store.deliver({ ...delivery(store), size: 512 - 24, slaves: ["12", "13"] }))!;
  assert.equal(odd!.bits.length, 61);
  assert.deepEqual(await audit(ledger), {
    seen: 5,
    free: 1,
    reserved: 0,
    keys: 3,
    waiting: 3,
    reservations: 0,
  });

  const read = (caller: string, ids = keys.map((key) => key.id), master = "11") =>
    store.collect({ caller, master, ids });
  assert.equal((await read("13")).kind, "foreign");
  assert.equal((await read("11")).kind, "foreign");
  assert.equal((await read("12", [freshId()])).kind, "missing");
  assert.equal((await read("12", [keys[0]!.id], "12")).kind, "missing");
  assert.equal((await read("12", [keys[0]!.id, freshId()])).kind, "missing");
  assert.equal((await read("13", [odd!.id, keys[0]!.id])).kind, "foreign");
  const got = await read("12");
  assert.ok(got.kind === "keys");
  assert.deepEqual(
    got.keys.map((key) => [hex(key.id), hex(key.bits)]),
    keys.map((key) => [hex(key.id), hex(key.bits)]),
  );
  assert.equal((await read("12")).kind, "missing");
  assert.equal((await read("12", [odd!.id])).kind, "keys");
  assert.equal((await audit(ledger)).waiting, 1);
  assert.equal((await read("12", [odd!.id])).kind, "missing");
  const last = await read("13", [odd!.id]);
  assert.ok(last.kind === "keys" && hex(last.keys[0]!.bits) === hex(odd!.bits));
  assert.equal((await audit(ledger)).waiting, 0);
});

ledgerTest("a key of more than its time is gone, read or not", async (ledger) => {
  let now = Date.now();
  const store = await ledger.open({ now: () => now });
  await fill(store, 3);
  const keys = (await store.deliver({ ...delivery(store, 2), expiresAt: now + HOUR }))!;
  assert.equal((await store.collect({ caller: "12", master: "11", ids: [keys[0]!.id] })).kind, "keys");
  assert.deepEqual(
    await store.expire({ limit: 10, keptBefore: 0, refusedBefore: 0, absentBefore: 0, voidedBefore: 0 }),
    {
      unread: [],
      keys: 0,
      erased: 0,
      burnt: 0,
      freed: 0,
    },
  );
  now += HOUR;
  assert.equal((await store.collect({ caller: "12", master: "11", ids: [keys[1]!.id] })).kind, "missing");
  const rounds = [
    await store.expire({ limit: 1, keptBefore: 0, refusedBefore: 0, absentBefore: 0, voidedBefore: 0 }),
    await store.expire({ limit: 10, keptBefore: 0, refusedBefore: 0, absentBefore: 0, voidedBefore: 0 }),
  ];
  assert.deepEqual(rounds.map(({ keys }) => keys), [1, 1]);
  assert.equal(rounds[0]!.unread.length + rounds[1]!.unread.length, 1);
  assert.deepEqual(await audit(ledger), {
    seen: 3,
    free: 1,
    reserved: 0,
    keys: 0,
    waiting: 0,
    reservations: 0,
  });
});

ledgerTest(
  "deliveries of several keys expire part by part, and no other delivery with them",
  async (ledger) => {
    let now = Date.now();
    const store = await ledger.open({ now: () => now });
    await fill(store, 40);
    for (const number of [5, 3, 4, 1]) {
      assert.ok(await store.deliver({ ...delivery(store, number), expiresAt: now + HOUR }));
    }
    const composed = (await store.deliver({ ...delivery(store, 2), size: 512, expiresAt: now + HOUR }))!;
    const later = (await store.deliver({ ...delivery(store, 3), expiresAt: now + 2 * HOUR }))!;
    const [first] = composed.map((key) => key.id);
    assert.equal((await store.collect({ caller: "12", master: "11", ids: [first!] })).kind, "keys");
    now += HOUR;
    const rounds = [];
    for (let i = 0; i < 6; i++) {
      rounds.push(
        await store.expire({ limit: 4, keptBefore: 0, refusedBefore: 0, absentBefore: 0, voidedBefore: 0 }),
      );
    }
    assert.deepEqual(rounds.map(({ keys }) => keys), [4, 4, 4, 3, 0, 0]);
    assert.equal(rounds.reduce((sum, { unread }) => sum + unread.length, 0), 14);
    assert.equal((await audit(ledger)).keys, 3);
    const left = await ledger.tables.selectFrom("deliveries").select("delivery_id").execute();
    assert.equal(left.length, 1);
    const read = await store.collect({ caller: "12", master: "11", ids: later.map((key) => key.id) });
    assert.equal(read.kind, "keys");
  },
);

ledgerTest("only recently stored blocks are taken if that is asked for", async (ledger) => {
  let now = 1_000_000;
  const store = await ledger.open({ now: () => now });
  await fill(store, 2);
  now += 1000;
  const recent = await fill(store, 2);
  assert.equal(await store.deliver({ ...delivery(store, 3), storedSince: now }), undefined);
  const keys = (await store.deliver({ ...delivery(store, 2), storedSince: now }))!;
  assert.deepEqual(
    new Set(keys.map((key) => hex(key.bits))),
    new Set(recent.map((block) => hex(block.bits))),
  );
});

async function reserved(ledger: Ledger, blocks: number) {
  const store = await ledger.open();
  await fill(store, blocks, PEER.text);
  const link = store.link(PEER.text)!;
  const reservation = freshId();
  const [taken] = (await store.reserve({ reservation, claims: [{ link, blocks }] }))!;
  return { store, link, reservation, ids: taken!.map((block) => block.id) };
}

ledgerTest("a reservation is met by every link or by none", async (ledger) => {
  const store = await ledger.open();
  await fill(store, 3, PEER.text);
  await fill(store, 1);
  const claims = (own: number, peer: number) => [
    { link: store.link(OWN.text)!, blocks: own },
    { link: store.link(PEER.text)!, blocks: peer },
  ];
  assert.equal(await store.reserve({ reservation: freshId(), claims: claims(2, 1) }), undefined);
  assert.equal((await audit(ledger)).reserved, 0);
  const parts = (await store.reserve({ reservation: freshId(), claims: claims(1, 2) }))!;
  assert.deepEqual(parts.map((part) => part.length), [1, 2]);
  assert.equal(await store.freeBlocks(OWN.text), 0);
  assert.equal(await store.freeBlocks(PEER.text), 1);
  assert.equal((await audit(ledger)).reserved, 3);
});

ledgerTest("blocks that are kept for others are left, by each link or by none", async (ledger) => {
  const store = await ledger.open();
  await fill(store, 10, PEER.text);
  await fill(store, 10);
  const [own, peer] = [store.link(OWN.text)!, store.link(PEER.text)!];
  const reserve = async (...claims: { link: Link; blocks: number; keep?: number }[]) =>
    (await store.reserve({ reservation: freshId(), claims }))?.map((part) => part.length);
  const deliver = async (number: number, keep?: number) =>
    (await store.deliver({ ...delivery(store, number), keep }))?.length;
  assert.equal(await reserve({ link: own, blocks: 1 }, { link: peer, blocks: 4, keep: 7 }), undefined);
  assert.equal(await reserve({ link: own, blocks: 4, keep: 7 }, { link: peer, blocks: 1 }), undefined);
  assert.deepEqual(await reserve({ link: own, blocks: 1 }, { link: peer, blocks: 3, keep: 7 }), [1, 3]);
  assert.equal(await reserve({ link: peer, blocks: 1, keep: 7 }), undefined);
  assert.equal(await deliver(2, 8), undefined);
  assert.equal(await deliver(2, 7), 2);
  // Those for whom they are kept.
  assert.equal(await deliver(1), 1);
  assert.deepEqual(await reserve({ link: peer, blocks: 7, keep: 0 }), [7]);
  assert.deepEqual([await store.freeBlocks(OWN.text), await store.freeBlocks(PEER.text)], [6, 0]);
  await audit(ledger);
});

ledgerTest(
  "finishing a reservation spends, burns and releases blocks, and keeps refused and unresolved ones",
  async (ledger) => {
    const { store, reservation, ids } = await reserved(ledger, 6);
    const [spend, burn, release, refused, unresolved, rest] = ids.map((id) => [id]);
    const key = { id: spend![0]!, origin: "1", master: "11", slaves: ["21"], expiresAt: Date.now() + HOUR };
    const finished = await store.finishReservation({
      reservation,
      spend,
      burn,
      release: [...release!, ...rest!],
      refused,
      unresolved,
      keys: [key],
    });
    assert.deepEqual(finished, { ok: true, burnt: 1, released: 2 });
    assert.deepEqual(await audit(ledger), {
      seen: 6,
      free: 2,
      reserved: 2,
      keys: 1,
      waiting: 0,
      reservations: 2,
    });
    assert.equal((await store.collect({ caller: "12", master: "11", ids: spend! })).kind, "foreign");
    // Nothing of it is spent, burnt or released again.
    assert.deepEqual(await store.finishReservation({ reservation, spend }), { ok: false });
    assert.deepEqual(await store.finishReservation({ reservation, burn, release, unresolved }), {
      ok: true,
      burnt: 0,
      released: 0,
    });
    const adopted = await store.adopt(10);
    assert.deepEqual(adopted.map((each) => each.blocks.map((block) => hex(block.id))), [
      unresolved!.map(hex),
    ]);
    assert.deepEqual(await store.finishReservation({ reservation, spend: unresolved }), { ok: false });
    assert.deepEqual(await store.finishReservation({ reservation, release: unresolved }), {
      ok: true,
      burnt: 0,
      released: 1,
    });
    assert.deepEqual(
      await store.expire({
        limit: 10,
        keptBefore: 0,
        refusedBefore: Date.now() + 1,
        absentBefore: 0,
        voidedBefore: 0,
      }),
      {
        unread: [],
        keys: 0,
        erased: 0,
        burnt: 1,
        freed: 0,
      },
    );
    assert.deepEqual(await audit(ledger), {
      seen: 6,
      free: 3,
      reserved: 0,
      keys: 1,
      waiting: 0,
      reservations: 0,
    });
  },
);

ledgerTest("finishing a reservation changes nothing if it may not hand over", async (ledger) => {
  const { store, reservation, ids } = await reserved(ledger, 2);
  const key = { id: ids[0]!, origin: "1", master: "11", slaves: ["21"], expiresAt: Date.now() + HOUR };
  const [first, second] = ids as [Uint8Array, Uint8Array];
  assert.deepEqual(
    await store.finishReservation({ reservation, spend: [first, freshId()], burn: [second], keys: [key] }),
    { ok: false },
  );
  assert.deepEqual(await store.finishReservation({ reservation, spend: [first, first], keys: [key] }), {
    ok: false,
  });
  assert.deepEqual(await store.finishReservation({ reservation: freshId(), spend: [first], keys: [key] }), {
    ok: false,
  });
  assert.deepEqual(await audit(ledger), {
    seen: 2,
    free: 0,
    reserved: 2,
    keys: 0,
    waiting: 0,
    reservations: 1,
  });
  assert.deepEqual(await store.finishReservation({ reservation, spend: ids, keys: [key] }), {
    ok: true,
    burnt: 0,
    released: 0,
  });
});

ledgerTest("a pad that has the key_ID of a key does not become it", async (ledger) => {
  const store = await ledger.open();
  await fill(store, 2, PEER.text);
  const link = store.link(PEER.text)!;
  const reservation = freshId();
  const parts = (await store.reserve({
    reservation,
    claims: [{ link, blocks: 1 }, { link, blocks: 1, pad: true }],
  }))!;
  const [[block], [pad]] = parts as [[Block], [Block]];
  const key = { id: pad.id, bits: block.bits, origin: "1", master: "11", slaves: ["12"] };
  const finished = await store.finishReservation({
    reservation,
    spend: [block.id, pad.id],
    keys: [{ ...key, expiresAt: Date.now() + HOUR }],
  });
  assert.deepEqual(finished, { ok: true, burnt: 0, released: 0 });
  const read = await store.collect({ caller: "12", master: "11", ids: [pad.id] });
  assert.ok(read.kind === "keys" && hex(read.keys[0]!.bits) === hex(block.bits));
  assert.equal((await audit(ledger)).keys, 1);
});

ledgerTest("a reservation that is finished twice at once counts each block once", async (ledger) => {
  const { store, reservation, ids } = await reserved(ledger, 4);
  const results = await Promise.all(
    Array.from({ length: 8 }, () => store.finishReservation({ reservation, release: ids })),
  );
  assert.equal(results.reduce((sum, result) => sum + (result.ok ? result.released : 0), 0), 4);
  assert.deepEqual(await audit(ledger), {
    seen: 4,
    free: 4,
    reserved: 0,
    keys: 0,
    waiting: 0,
    reservations: 0,
  });
});

ledgerTest("a reservation is ended without knowing whether it was stored", async (ledger) => {
  const { store, reservation, ids } = await reserved(ledger, 4);
  const finished = await store.finishReservation({
    reservation,
    burn: [ids[0]!],
    refused: [ids[1]!],
    releaseRest: true,
  });
  assert.deepEqual(finished, { ok: true, burnt: 1, released: 2 });
  assert.deepEqual(await store.finishReservation({ reservation: freshId(), releaseRest: true }), {
    ok: true,
    burnt: 0,
    released: 0,
  });
  assert.deepEqual(await audit(ledger), {
    seen: 4,
    free: 2,
    reserved: 1,
    keys: 0,
    waiting: 0,
    reservations: 1,
  });
});

ledgerTest(
  "a peer activates free blocks, refused ones, and those of its half that were reached for at once",
  async (ledger) => {
    const store = await ledger.open();
    const link = store.link(PEER.text)!;
    const blocks = await fill(store, 40, PEER.text);
    const own = blocks.filter((block) => (block.id[15]! & 1) === link.ownHalf).map((block) => block.id);
    const peers = blocks.filter((block) => (block.id[15]! & 1) !== link.ownHalf).map((block) => block.id);
    const reservation = freshId();
    await store.reserve({ reservation, claims: [{ link, blocks: own.length + 1 }] });
    const activation = (ids: Uint8Array[], slave = "12") => ({
      link,
      origin: PEER.text,
      keys: ids.map((id) => ({ id, size: 256, blocks: [id] })),
      master: "21",
      slaves: [slave],
      expiresAt: Date.now() + HOUR,
      repeatableSince: Date.now() - 1000,
    });
    const taken = await ledger.tables.selectFrom("blocks").select("block_id").where("state", "=", 1).where(
      "half",
      "=",
      1 - link.ownHalf,
    ).execute();
    assert.equal(taken.length, 1);
    const contested = Uint8Array.from(taken[0]!.block_id);
    const free = peers.filter((id) => hex(id) !== hex(contested));

    const refused = await store.activate(activation([own[0]!, free[0]!, freshId()]));
    assert.equal(refused.kind, "refused");
    assert.equal(refused.kind === "refused" && refused.blocks.length, 2);
    assert.equal((await audit(ledger)).keys, 0);
    assert.equal((await store.activate(activation([contested, free[0]!]))).kind, "activated");
    assert.deepEqual(await store.finishReservation({ reservation, spend: [...own, contested] }), {
      ok: false,
    });
    assert.equal((await store.activate(activation([contested, free[0]!]))).kind, "repeated");
    assert.equal((await store.activate(activation([free[0]!], "13"))).kind, "refused");
    assert.equal(
      (await store.activate({ ...activation([free[0]!]), repeatableSince: Date.now() + 1000 })).kind,
      "refused",
    );
    assert.equal(
      (await store.activate({ ...activation([free[1]!]), link: store.link(OWN.text)! })).kind,
      "refused",
    );
    assert.equal((await store.activate(activation([free[1]!, free[1]!]))).kind, "refused");
    await store.finishReservation({ reservation, refused: own });
    assert.equal((await store.activate(activation([own[0]!]))).kind, "activated");
    const read = await store.collect({ caller: "12", master: "21", ids: [own[0]!] });
    assert.ok(
      read.kind === "keys" &&
        hex(read.keys[0]!.bits) === hex(blocks.find((block) => hex(block.id) === hex(own[0]!))!.bits),
    );
    const counts = await audit(ledger);
    assert.equal(counts.free + counts.reserved + counts.keys, 40);
  },
);

ledgerTest("blocks that the peer does not have are set aside, and free again later", async (ledger) => {
  const store = await ledger.open();
  const link = store.link(PEER.text)!;
  const blocks = await fill(store, 3, PEER.text);
  const setAside = (link: Link, ...ids: Uint8Array[]) =>
    store.setAside({ link, blocks: ids, retryAfter: 3_600_000 });
  assert.equal(await setAside(store.link(OWN.text)!, blocks[0]!.id), 0);
  assert.equal(await setAside(link, blocks[0]!.id, blocks[1]!.id, freshId()), 2);
  assert.equal(await setAside(link, blocks[0]!.id), 0);
  assert.equal(await store.freeBlocks(PEER.text), 1);
  const expiry = { limit: 10, keptBefore: 0, refusedBefore: Date.now() + 1, voidedBefore: 0 };
  assert.equal((await store.expire({ ...expiry, absentBefore: Date.now() + 3_500_000 })).freed, 0);
  assert.equal((await store.expire({ ...expiry, absentBefore: Date.now() + 3_700_000 })).freed, 2);
  assert.equal(await store.freeBlocks(PEER.text), 3);
  assert.deepEqual(await audit(ledger), {
    seen: 3,
    free: 3,
    reserved: 0,
    keys: 0,
    waiting: 0,
    reservations: 0,
  });
});

ledgerTest("a transaction is taken back once, unless a slave has read", async (ledger) => {
  const store = await ledger.open();
  const link = store.link(PEER.text)!;
  const blocks = await fill(store, 6, PEER.text);
  const transaction = freshId();
  const ids = blocks.map((block) => block.id);
  const key = freshId();
  const send = (transaction: Uint8Array, id: Uint8Array, parts: Uint8Array[], padded?: Uint8Array) =>
    store.activate({
      link,
      origin: PEER.text,
      keys: [{ id, size: parts.length * 256, blocks: parts, padded }],
      master: "21",
      slaves: ["12"],
      expiresAt: Date.now() + HOUR,
      transaction,
    });
  assert.equal((await send(transaction, key, ids.slice(0, 2))).kind, "activated");
  assert.equal((await send(transaction, key, ids.slice(0, 2))).kind, "repeated");
  const taken = await store.takeBack({ link, transaction, blocks: ids.slice(0, 2), reuse: true });
  assert.ok(taken.kind === "takenBack");
  assert.deepEqual(new Set(taken.free.map(hex)), new Set(ids.slice(0, 2).map(hex)));
  assert.equal((await send(transaction, key, ids.slice(0, 2))).kind, "voided");
  assert.equal((await store.collect({ caller: "12", master: "21", ids: [key] })).kind, "missing");
  assert.deepEqual(await audit(ledger), {
    seen: 6,
    free: 6,
    reserved: 0,
    keys: 0,
    waiting: 0,
    reservations: 0,
  });

  // What was never here never comes.
  const unknown = freshId();
  assert.deepEqual(await store.takeBack({ link, transaction: unknown, blocks: [ids[5]!], reuse: false }), {
    kind: "unknown",
  });
  assert.deepEqual(await store.takeBack({ link, transaction: unknown, blocks: [], reuse: false }), {
    kind: "unknown",
  });
  assert.equal((await send(unknown, freshId(), [ids[3]!])).kind, "voided");
  assert.equal((await audit(ledger)).free, 5);

  // A key under a pad: the pad does not come back.
  const padded = freshId();
  const pad = blocks[2]!;
  assert.equal((await send(padded, freshId(), [pad.id], new Uint8Array(32))).kind, "activated");
  const gone = await store.takeBack({ link, transaction: padded, blocks: [pad.id], reuse: true });
  assert.deepEqual(gone, { kind: "takenBack", free: [] });

  const readOne = freshId();
  const readKey = freshId();
  await send(readOne, readKey, [ids[3]!, ids[4]!]);
  const read = await store.collect({ caller: "12", master: "21", ids: [readKey] });
  assert.ok(read.kind === "keys");
  assert.equal(hex(read.keys[0]!.bits), hex(composeBits([blocks[3]!, blocks[4]!], 512)));
  assert.deepEqual(await store.takeBack({ link, transaction: readOne, blocks: [], reuse: true }), {
    kind: "read",
  });
  assert.deepEqual(await store.takeBack({ link, transaction: readOne, blocks: [], reuse: true }), {
    kind: "read",
  });
  const held = await ledger.tables.selectFrom("voided_transactions").selectAll().where("had_keys", "=", 2)
    .execute();
  assert.equal(held.length, 0);
});

ledgerTest("ids of SAEs are exact texts", async (ledger) => {
  const store = await ledger.open();
  const ids = [
    "9007199254740993",
    "9007199254740992",
    "-9223372036854775808",
    "sae",
    "SAE",
    "sae ",
    " sae",
    "saé",
    "sae\u0301",
    "sa\u0065\u0301",
    "ß",
    "ss",
  ];
  const unique = [...new Set(ids)];
  await fill(store, unique.length);
  const keys = new Map<string, Uint8Array>();
  for (const id of unique) {
    const [key] = (await store.deliver({ ...delivery(store), master: id, slaves: [id] }))!;
    keys.set(id, key!.id);
  }
  for (const owner of unique) {
    for (const caller of unique) {
      if (caller === owner) continue;
      const read = await store.collect({ caller, master: owner, ids: [keys.get(owner)!] });
      assert.equal(read.kind, "foreign", `${JSON.stringify(caller)} read a key of ${JSON.stringify(owner)}`);
    }
    const master = await store.collect({ caller: owner, master: `${owner} `, ids: [keys.get(owner)!] });
    assert.equal(master.kind, "missing");
  }
  for (const owner of unique) {
    assert.equal(
      (await store.collect({ caller: owner, master: owner, ids: [keys.get(owner)!] })).kind,
      "keys",
    );
  }
  // All of them as slaves of one key.
  await fill(store, 1);
  const [key] = (await store.deliver({ ...delivery(store), slaves: unique }))!;
  for (const caller of unique) {
    assert.equal((await store.collect({ caller, master: "11", ids: [key!.id] })).kind, "keys");
  }
  assert.equal((await audit(ledger)).waiting, 0);
});

ledgerTest("links of KMEs whose ids differ little are different", async (ledger) => {
  const others = ["kme", "KME", "kme ", "9007199254740993", "9007199254740992"].map((text) => ({
    text,
    integer: false,
  }));
  const store = await ledger.open({ neighbours: others });
  for (const [i, { text }] of others.entries()) await fill(store, i + 1, text);
  for (const [i, { text }] of others.entries()) assert.equal(await store.freeBlocks(text), i + 1);
  if (ledger.kind === "memory") return;
  await closeOnce(store);
  const again = await ledger.open({ neighbours: [...others].reverse() });
  for (const [i, { text }] of others.entries()) assert.equal(await again.freeBlocks(text), i + 1);
});

ledgerTest("blocks are taken from a place on, of both halves, and then before it", async (ledger) => {
  const store = await ledger.open();
  const link = store.link(PEER.text)!;
  const blocks = (await fill(store, 6, PEER.text)).map((block) => hex(block.id));
  const range = (await store.freeRange(link))!;
  assert.equal(range.last - range.first, 5);
  const order = async (seq: number, backwards: boolean) => {
    const reservation = freshId();
    const [taken] =
      (await store.reserve({ reservation, claims: [{ link, blocks: 6, from: { seq, backwards } }] }))!;
    await store.finishReservation({ reservation, releaseRest: true });
    return taken!.map((block) => blocks.indexOf(hex(block.id)));
  };
  assert.deepEqual(await order(range.first + 2, false), [2, 3, 4, 5, 1, 0]);
  assert.deepEqual(await order(range.first + 2, true), [1, 0, 2, 3, 4, 5]);
  await store.burn(link.kme);
  assert.equal(await store.freeRange(link), undefined);
});

ledgerTest("the newest CRL of each CA is kept, in whatever order they come", async (ledger) => {
  const store = await ledger.open();
  const crl = (ca: string, thisUpdate: number, number: string | undefined, byte: number) =>
    store.keepCrl({ ca, thisUpdate, number, der: new Uint8Array(20_000).fill(byte) });
  const kept = async () => (await store.keptCrls()).map((der) => [der.length, der[0]]);
  assert.deepEqual(await kept(), []);
  // Larger than a number of JavaScript.
  const large = "123456789012345678901234567890";
  await Promise.all([crl("a", 5000, large, 1), crl("b", 1000, undefined, 2)]);
  assert.deepEqual(await kept(), [[20_000, 1], [20_000, 2]]);
  await Promise.all([crl("a", 4000, large, 3), crl("a", 6000, "7", 4), crl("b", 999, "9", 5)]);
  assert.deepEqual(await kept(), [[20_000, 1], [20_000, 2]]);
  await crl("a", 6000, `${large}0`, 6);
  await crl("b", 1000, "1", 7);
  assert.deepEqual(await kept(), [[20_000, 6], [20_000, 7]]);
  const tooLarge = { ca: "c", thisUpdate: 1, der: new Uint8Array(8_000_001) };
  await assert.rejects(store.keepCrl(tooLarge), /more than 8000000/);
  if (ledger.kind === "memory") return;
  await closeOnce(store);
  const again = await ledger.open();
  assert.deepEqual((await again.keptCrls()).map(([byte]) => byte), [6, 7]);
});
