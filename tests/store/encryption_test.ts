/** Bits that are encrypted in the database: with the right key only, each for its own row. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import { formatKeyId } from "../../src/domain/block.ts";
import { StoreUnusable } from "../../src/domain/store_errors.ts";
import { Aead } from "../../src/store/encryption/aead.ts";
import { clearBits, EncryptedBits } from "../../src/store/encryption/bits_cipher.ts";
import { readMasterKey } from "../../src/store/encryption/master_key.ts";
import { rekey } from "../../src/store/encryption/rekey.ts";
import type { DamagedKey } from "../../src/store/damaged_key.ts";
import { BlockState, type DataKeysTable } from "../../src/store/table_schema.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { withDatabase } from "./migration_breaks.ts";
import {
  assertDistinctBlocks,
  audit,
  closeOnce,
  delivery,
  fill,
  freshId,
  type Ledger,
  ledgerTest,
  makeTestKey,
  OWN,
  PEER,
} from "./store_fixture.ts";

const DURABLE = ["sqlite", "postgres", "mariadb"] as const;
const HOUR = 3_600_000;

function refusal(open: Promise<unknown>, line: RegExp): Promise<void> {
  return assert.rejects(open, (error: unknown) => {
    assert.ok(error instanceof StoreUnusable, String(error));
    assert.match(error.message, line);
    assert.ok(!error.message.includes("\n"), "more than one line");
    return true;
  });
}

Deno.test("the cipher is XChaCha20-Poly1305 as its specification has it", async () => {
  // draft-irtf-cfrg-xchacha-03, appendix A.3.1.
  const key = Uint8Array.fromHex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
  const data = Uint8Array.fromHex("50515253c0c1c2c3c4c5c6c7");
  const nonce = "404142434445464748494a4b4c4d4e4f5051525354555657";
  const sealed = Uint8Array.fromHex(
    nonce +
      "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39" +
      "ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9" +
      "21f9664c97637da9768812f615c68b13b52e" + "c0875924c1c7987947deafd8780acf49",
  );
  const aead = await Aead.of(key);
  assert.equal(
    new TextDecoder().decode(aead.open(sealed, data)),
    "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
  );
  const text = Uint8Array.from(randomBytes(32));
  const [one, two] = [aead.seal(text, data), aead.seal(text, data)];
  assert.notDeepEqual(one.subarray(0, 24), two.subarray(0, 24));
  assert.deepEqual(aead.open(one, data), text);
  for (const at of [0, 24, 55, one.length - 1]) {
    const altered = Uint8Array.from(one);
    altered[at]! ^= 1;
    assert.equal(aead.open(altered, data), undefined);
  }
  assert.equal(aead.open(one, Uint8Array.of(1)), undefined);
  assert.equal(aead.open(one.subarray(0, 39), data), undefined);
  assert.equal((await Aead.of(Uint8Array.from(randomBytes(32)))).open(one, data), undefined);
});

Deno.test("bits open only for their own kind of row, key_ID and link", async () => {
  const cipher = await EncryptedBits.with(new Map([[7, Uint8Array.from(randomBytes(32))]]));
  const [id, other] = [freshId(), freshId()];
  const bits = Uint8Array.from(randomBytes(32));
  const sealed = cipher.seal({ block: id, linkId: 1 }, bits);
  assert.deepEqual(cipher.open({ block: id, linkId: 1 }, sealed), bits);
  assert.equal(cipher.open({ block: other, linkId: 1 }, sealed), undefined);
  assert.equal(cipher.open({ block: id, linkId: 2 }, sealed), undefined);
  assert.equal(cipher.open({ key: id, linkId: 1 }, sealed), undefined);
  assert.equal(cipher.open("byteCounts", sealed), undefined);
  assert.equal(cipher.open({ block: id, linkId: 1 }, clearBits.seal("byteCounts", bits)), undefined);
});

ledgerTest(
  "a missing, wrong or new master key is refused with one line, and nothing is changed",
  async (ledger) => {
    await using dir = await makeTempDir("kme-keys-");
    const right = await makeTestKey(dir.path);
    const wrong = await makeTestKey(dir.path, "wrong-test-store.key");
    const store = await ledger.open({ encryption: right });
    await fill(store, 3);
    assert.equal(store.encrypts, true);
    await closeOnce(store);
    const content = () => contents(ledger);
    const before = await content();
    await refusal(
      ledger.open({ encryption: wrong }),
      /^the key of this_kme.store_encryption is not the master key/,
    );
    assert.deepEqual(await content(), before);
    await refusal(
      ledger.open({ encryption: undefined }),
      /are encrypted, but this_kme.store_encryption is not set/,
    );
    assert.deepEqual(await content(), before);
    const again = await ledger.open({ encryption: right });
    assert.equal((await again.deliver(delivery(again, 3)))!.length, 3);
  },
  DURABLE,
);

/** Tables that a start with a wrong key could have changed. Of an SQLite file, the next test looks at all of it. */
async function contents({ tables, shared }: Ledger) {
  if (!shared) return undefined;
  return [
    await tables.selectFrom("data_keys").selectAll().execute(),
    await tables.selectFrom("kme").selectAll().execute(),
    await tables.selectFrom("links").selectAll().execute(),
    await tables.selectFrom("blocks").selectAll().orderBy("seq").execute(),
    await tables.selectFrom("byte_counts").selectAll().execute(),
  ];
}

Deno.test("sqlite: a wrong master key leaves the file as it is", async () => {
  await using dir = await makeTempDir("kme-keys-");
  const { Store } = await import("../../src/store/store.ts");
  const open = async (name: string) =>
    Store.open({
      database: { kind: "sqlite", path: `${dir.path}/kme.db` },
      encryption: await makeTestKey(dir.path, name),
      thisKme: OWN,
      neighbours: [PEER],
    });
  const store = await open("right-test-store.key");
  await fill(store, 10);
  await store.close();
  const before = await Deno.readFile(`${dir.path}/kme.db`);
  await refusal(open("wrong-test-store.key"), /is not the master key/);
  assert.ok(Buffer.from(before).equals(await Deno.readFile(`${dir.path}/kme.db`)), "the file has changed");
});

ledgerTest("bits that were moved or altered are not used, and the others are", async (ledger) => {
  await using dir = await makeTempDir("kme-keys-");
  const damaged: DamagedKey[] = [];
  const store = await ledger.open({
    encryption: await makeTestKey(dir.path),
    onDamaged: (key) => damaged.push(key),
  });
  const blocks = await fill(store, 8);
  const { tables } = ledger;
  const rows = await tables.selectFrom("blocks").select(["seq", "block_id", "bits"]).orderBy("seq").execute();
  const put = (row: number, bits: (typeof rows)[number]["bits"]) =>
    tables.updateTable("blocks").set({ bits }).where("seq", "=", rows[row]!.seq).execute();
  // Two change places, one has a bit altered, one is in the clear with its right bits, one has another data key's number.
  await put(0, rows[1]!.bits);
  await put(1, rows[0]!.bits);
  const altered = Buffer.from(rows[2]!.bits as unknown as Uint8Array);
  altered[40]! ^= 1;
  await put(2, clearBits.seal("byteCounts", altered));
  await put(3, clearBits.seal("byteCounts", blocks[3]!.bits));
  const renumbered = Buffer.from(rows[4]!.bits as unknown as Uint8Array);
  renumbered[3]! ^= 8;
  await put(4, clearBits.seal("byteCounts", renumbered));

  assert.equal(await store.freeBlocks(OWN.text), 8);
  const keys = (await store.deliver(delivery(store, 3)))!;
  const good = new Set(blocks.slice(5).map(({ bits }) => Buffer.from(bits).toString("hex")));
  assert.deepEqual(new Set(keys.map(({ bits }) => Buffer.from(bits).toString("hex"))), good);
  // Own halves go first, so not all of them have been met yet.
  assert.equal(await store.deliver(delivery(store, 6)), undefined);
  assert.equal(await store.deliver(delivery(store, 1)), undefined);
  assert.equal(await store.freeBlocks(OWN.text), 0);
  assert.deepEqual(
    damaged.map(({ what, keyId, link }) => `${what} ${keyId} ${link}`).sort(),
    blocks.slice(0, 5).map(({ id }) => `block ${formatKeyId(id)} ${OWN.text}`).sort(),
  );
  assert.equal(
    (await tables.selectFrom("blocks").select("seq").where("state", "=", BlockState.damaged).execute())
      .length,
    5,
  );
  await audit(ledger);

  // A key that waits: the slave is refused, and other keys are still delivered.
  damaged.length = 0;
  const [first, second, third] = keys;
  const bitsOf = async (id: Uint8Array) =>
    (await tables.selectFrom("blocks").select("bits").where("key_id", "=", Buffer.from(id))
      .executeTakeFirstOrThrow())
      .bits;
  const moved = await bitsOf(second!.id);
  await tables.updateTable("blocks").set({ bits: moved }).where("key_id", "=", Buffer.from(first!.id))
    .execute();
  const read = (...ids: Uint8Array[]) => store.collect({ caller: "12", master: "11", ids });
  assert.deepEqual(await read(first!.id, third!.id), { kind: "damaged" });
  assert.deepEqual(damaged.map(({ what, keyId }) => [what, keyId]), [["key", formatKeyId(first!.id)]]);
  assert.equal((await read(second!.id, third!.id)).kind, "keys");
});

ledgerTest("a peer does not get a damaged block either", async (ledger) => {
  await using dir = await makeTempDir("kme-keys-");
  const damaged: DamagedKey[] = [];
  const store = await ledger.open({
    encryption: await makeTestKey(dir.path),
    onDamaged: (key) => damaged.push(key),
  });
  const [one, two] = await fill(store, 2, PEER.text);
  const { bits } = await ledger.tables.selectFrom("blocks").select("bits")
    .where("block_id", "=", Buffer.from(two!.id)).executeTakeFirstOrThrow();
  await ledger.tables.updateTable("blocks").set({ bits }).where("block_id", "=", Buffer.from(one!.id))
    .execute();
  const activate = (id: Uint8Array) =>
    store.activate({
      link: store.link(PEER.text)!,
      origin: PEER.text,
      keys: [{ id, size: 256, blocks: [id] }],
      master: "21",
      slaves: ["11"],
      expiresAt: Date.now() + HOUR,
      transaction: freshId(),
    });
  assert.deepEqual(await activate(one!.id), { kind: "refused", blocks: [one!.id], absent: [] });
  assert.equal((await activate(two!.id)).kind, "activated");
  assert.equal(await store.freeBlocks(PEER.text), 0);
  assert.equal(damaged.length, 1);
  await audit(ledger);
});

ledgerTest(
  "rekeying turns encryption on, changes the data key and the master key, and keeps every key",
  async (ledger) => {
    await using dir = await makeTempDir("kme-keys-");
    const [first, second] = [
      await makeTestKey(dir.path),
      await makeTestKey(dir.path, "second-test-store.key"),
    ];
    const keyOf = (encryption: typeof first) => readMasterKey(encryption);
    const store = await ledger.open({ encryption: undefined });
    const blocks = await fill(store, 2500);
    const entropy = await store.totalEntropy();
    const [composed] = (await store.deliver({ ...delivery(store), size: 512 }))!;
    // Its bits are kept, so that the answer can be repeated.
    const repeat = { certificate: new Uint8Array(32).fill(1), ms: 3_600_000 };
    const question = { caller: "12", master: "11", repeat };
    assert.equal((await store.collect({ ...question, ids: [composed!.id] })).kind, "keys");
    await closeOnce(store);
    await refusal(ledger.open({ encryption: first }), /not encrypted, .*kme store rekey/);

    const options = { database: ledger.database, thisKme: OWN };
    const on = await rekey({ ...options, masterKey: await keyOf(first) });
    assert.deepEqual(on, { before: "clear", encrypted: 2499, damaged: 0 });
    await refusal(ledger.open({ encryption: undefined }), /are encrypted, but/);
    // A change of both keys that is interrupted, continued with the same command, and with the new key alone.
    const change = { ...options, masterKey: await keyOf(first), newMasterKey: await keyOf(second) };
    const stop = () => {
      throw new Error("interrupted");
    };
    await assert.rejects(rekey({ ...change, onProgress: stop }), /interrupted/);
    await assert.rejects(rekey({ ...change, onProgress: stop }), /interrupted/);
    await refusal(ledger.open({ encryption: first }), /is not the master key/);
    const between = await ledger.open({ encryption: second });
    const [early] = (await between.deliver({ ...delivery(between), size: 512 }))!;
    await closeOnce(between);
    const rest = await rekey({ ...options, masterKey: await keyOf(second) });
    assert.equal(rest.before, "unfinished");
    assert.ok(rest.encrypted < 1000, String(rest.encrypted));
    await refusal(rekey({ ...options, masterKey: await keyOf(first) }), /is not the master key/);

    const again = await ledger.open({ encryption: second });
    assert.equal(await again.totalEntropy(), entropy);
    const numbers = await ledger.tables.selectFrom("data_keys").select(["number", "resealed_through"])
      .execute();
    assert.deepEqual(numbers, [{ number: 2, resealed_through: null }]);
    const collected = await again.collect({ ...question, ids: [composed!.id, early!.id] });
    assert.ok(collected.kind === "keys");
    assert.deepEqual(collected.repeated!.map((id) => Uint8Array.from(id)), [composed!.id]);
    assert.deepEqual(collected.keys.map(({ bits }) => bits), [composed!.bits, early!.bits]);
    const keys = (await again.deliver(delivery(again, 2496)))!;
    const known = new Set(blocks.map(({ bits }) => Buffer.from(bits).toString("hex")));
    assert.ok(keys.every(({ bits }) => known.has(Buffer.from(bits).toString("hex"))));
    await audit(ledger);
  },
  DURABLE,
);

ledgerTest(
  "how far a rekeying has come cannot be altered, nor can a data key be removed",
  async (ledger) => {
    await using dir = await makeTempDir("kme-keys-");
    const encryption = await makeTestKey(dir.path);
    const options = { database: ledger.database, thisKme: OWN, masterKey: await readMasterKey(encryption) };
    const onProgress = () => {
      throw new Error("interrupted");
    };
    const rows = () =>
      withDatabase(ledger, (db) => db.selectFrom("data_keys").selectAll().orderBy("number").execute());
    const put = (all: readonly DataKeysTable[]) =>
      withDatabase(ledger, async (db) => {
        await db.deleteFrom("data_keys").execute();
        for (const row of all) await db.insertInto("data_keys").values(row).execute();
      });
    const refused = async (altered: readonly DataKeysTable[], line: RegExp) => {
      await put(altered);
      await refusal(rekey(options), line);
      await refusal(ledger.open({ encryption }), line);
      assert.deepEqual(await rows(), altered);
    };
    const store = await ledger.open({ encryption: undefined });
    const blocks = await fill(store, 1500);
    await closeOnce(store);

    await assert.rejects(rekey({ ...options, onProgress }), /interrupted/);
    const turningOn = await rows();
    const [first] = turningOn as [DataKeysTable];
    assert.ok(first.resealed_through! > 0);
    for (const resealed_through of [0, first.resealed_through! - 1, first.resealed_through! + 500, null]) {
      await refused(
        [{ ...first, resealed_through }],
        /is not the master key .*, or its table data_keys was altered/,
      );
    }
    await put(turningOn);
    assert.deepEqual(await rekey(options), { before: "unfinished", encrypted: 500, damaged: 0 });

    // An old row that is put back is authentic. It changes nothing.
    await put(turningOn);
    assert.deepEqual(await rekey(options), { before: "unfinished", encrypted: 0, damaged: 0 });

    await assert.rejects(rekey({ ...options, onProgress }), /interrupted/);
    const changing = await rows();
    const [old, fresh] = changing as [DataKeysTable, DataKeysTable];
    const altered = /^the table data_keys of the database was altered/;
    for (const resealed_through of [0, fresh.resealed_through! + 500, null]) {
      await refused([old, { ...fresh, resealed_through }], altered);
    }
    await refused([{ ...old, resealed_through: 0 }, fresh], altered);
    await refused([fresh], altered);
    await put(changing);
    assert.deepEqual(await rekey(options), { before: "unfinished", encrypted: 500, damaged: 0 });

    const again = await ledger.open({ encryption });
    const keys = (await again.deliver(delivery(again, 1500)))!;
    assertDistinctBlocks(keys, blocks);
    await audit(ledger);
  },
  DURABLE,
);

ledgerTest(
  "rows of data keys from before a rekeying are refused, and no bits are encrypted twice or given up",
  async (ledger) => {
    await using dir = await makeTempDir("kme-keys-");
    const encryption = await makeTestKey(dir.path);
    const options = { database: ledger.database, thisKme: OWN, masterKey: await readMasterKey(encryption) };
    const rows = () => withDatabase(ledger, (db) => db.selectFrom("data_keys").selectAll().execute());
    const put = (all: readonly DataKeysTable[]) =>
      withDatabase(ledger, async (db) => {
        await db.deleteFrom("data_keys").execute();
        for (const row of all) await db.insertInto("data_keys").values(row).execute();
      });
    const bits = () =>
      withDatabase(ledger, (db) => db.selectFrom("blocks").select(["seq", "bits"]).orderBy("seq").execute());
    const store = await ledger.open({ encryption: undefined });
    const blocks = await fill(store, 1500);
    await closeOnce(store);
    const interrupt = () => {
      throw new Error("interrupted");
    };
    await assert.rejects(rekey({ ...options, onProgress: interrupt }), /interrupted/);
    const turningOn = await rows();
    await rekey(options);
    const first = await rows();
    await rekey(options);
    const current = await rows();
    const before = await bits();
    const line = /from a backup made after the last `kme store rekey`$/;
    for (const former of [turningOn, first]) {
      await put(former);
      await refusal(ledger.open({ encryption }), line);
      await refusal(rekey(options), line);
      assert.deepEqual([await rows(), await bits()], [former, before]);
    }
    await put(current);
    const again = await ledger.open({ encryption, onDamaged: () => assert.fail("bits are damaged") });
    assertDistinctBlocks((await again.deliver(delivery(again, 1500)))!, blocks);
  },
  DURABLE,
);

ledgerTest(
  "turning encryption on leaves a block that cannot be in the clear as it is",
  async (ledger) => {
    await using dir = await makeTempDir("kme-keys-");
    const masterKey = await readMasterKey(await makeTestKey(dir.path));
    const store = await ledger.open({ encryption: undefined });
    const [block] = await fill(store, 3);
    await closeOnce(store);
    const odd = clearBits.seal("byteCounts", new Uint8Array(76).fill(7));
    await withDatabase(
      ledger,
      (db) =>
        db.updateTable("blocks").set({ bits: odd }).where("block_id", "=", Buffer.from(block!.id)).execute(),
    );
    const rekeyed = await rekey({ database: ledger.database, thisKme: OWN, masterKey });
    assert.deepEqual(rekeyed, { before: "clear", encrypted: 2, damaged: 1 });
  },
  DURABLE,
);

ledgerTest(
  "bits that are stored to be burnt are never in the clear, also in a database without a data key",
  async (ledger) => {
    const killed = await ledger.open({ encryption: "discard" });
    const blocks = await fill(killed, 3);
    await closeOnce(killed);
    await withDatabase(ledger, async (db) => {
      const rows = await db.selectFrom("blocks").select("bits").execute();
      assert.equal(rows.length, blocks.length);
      for (const { bits } of rows) {
        for (const block of blocks) {
          assert.ok(!Buffer.from(bits as unknown as Uint8Array).includes(Buffer.from(block.bits)));
        }
      }
    });
    const store = await ledger.open({ encryption: "discard" });
    assert.deepEqual(await store.burn(), { blocks: 3, keys: 0 });
    await store.discardDataKeys();
    await closeOnce(store);
    const again = await ledger.open({ encryption: undefined });
    await fill(again, 2);
    assert.equal((await again.deliver(delivery(again, 2)))!.length, 2);
  },
  DURABLE,
);

ledgerTest(
  "bits that are burnt need no master key, and the next start makes a new data key",
  async (ledger) => {
    await using dir = await makeTempDir("kme-keys-");
    const encryption = await makeTestKey(dir.path);
    const store = await ledger.open({ encryption });
    await fill(store, 5);
    await closeOnce(store);
    const broken = await ledger.open({ encryption: "discard" });
    await fill(broken, 1);
    // It is not burnt after all.
    await closeOnce(broken);
    await closeOnce(await ledger.open({ encryption }));
    const without = await ledger.open({ encryption: "discard" });
    await fill(without, 2);
    assert.deepEqual(await without.burn(), { blocks: 8, keys: 0 });
    await without.discardDataKeys();
    await closeOnce(without);
    const again = await ledger.open({ encryption: await makeTestKey(dir.path, "next-test-store.key") });
    await fill(again, 2);
    assert.equal((await again.deliver(delivery(again, 2)))!.length, 2);
  },
  DURABLE,
);
