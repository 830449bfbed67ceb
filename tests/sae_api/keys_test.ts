/** Who gets which key: the same at both ends, once, and nobody else's. */
import assert from "node:assert/strict";
import { blockKeyId, formatKeyId } from "../../src/domain/block.ts";
import { eventually } from "../harness/eventually.ts";
import { assertSameKeys, keyIdsOf, keysOf } from "../harness/sae_client.ts";
import { assertProblem, oneKme, startNetwork, stockOf, twoKmes, unknownKeyId } from "./api_fixture.ts";

/** Version 4 of RFC 9562, as strict validators have it. */
const UUID_4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

const NOT_FOUND = "one or more keys specified are not found on KME";

Deno.test("master and slave get the same keys, which are blocks of the link under random key_IDs", async () => {
  await using network = await startNetwork(twoKmes);
  const stored = new Set(await network.writeKeyFile(1, 2, 40));
  await eventually(async () =>
    await stockOf(network.client(1), 3) === 40 && await stockOf(network.client(3), 1) === 40
  );
  const seen = new Set<string>();
  for (const [master, slave] of [[1, 3], [3, 1], [2, 3], [3, 2]] as const) {
    for (const method of ["GET", "POST"] as const) {
      for (const number of [undefined, 1, 3]) {
        const enc = await network.client(master).encKeys(slave, { number }, { method });
        assert.deepEqual(Object.keys(enc.json), ["keys"]);
        assert.equal(keysOf(enc).length, number ?? 1);
        for (const key of keysOf(enc)) {
          assert.deepEqual(Object.keys(key), ["key_ID", "key"]);
          assert.match(key.key, /^[A-Za-z0-9+/]{43}=$/);
          const bits = Uint8Array.fromBase64(key.key, { lastChunkHandling: "strict" });
          assert.equal(bits.length, 32);
          assert.match(key.key_ID, UUID_4);
          const block = formatKeyId(blockKeyId(bits));
          assert.ok(stored.delete(block), "a key that is no block of the link, or a block twice");
          assert.notEqual(key.key_ID, block);
          assert.ok(!seen.has(key.key_ID), "a key twice");
          seen.add(key.key_ID);
        }
        const dec = await network.client(slave).decKeys(
          master,
          keyIdsOf(enc),
          method === "POST" ? { method } : {},
        );
        assertSameKeys(dec, enc);
        assert.deepEqual(keyIdsOf(dec), keyIdsOf(enc));
      }
    }
  }
  assert.equal(seen.size, 40);
  assert.equal(await stockOf(network.client(1), 3), 0);
});

Deno.test("key_IDs are random UUIDs, version 4, for every size and number, between KMEs and within one", async () => {
  await using network = await startNetwork(twoKmes, [1, 2, 300], [1, 1, 300]);
  const seen = new Set<string>();
  for (const slave of [2, 3]) {
    for (const [number, size] of [[1, 256], [100, 256], [10, 128], [10, 512]] as const) {
      const enc = await network.client(1).encKeys(slave, { number, size });
      for (const id of keyIdsOf(enc)) {
        assert.match(id, UUID_4);
        assert.ok(!seen.has(id), "a key_ID twice");
        seen.add(id);
      }
      assertSameKeys(await network.client(slave).decKeys(1, keyIdsOf(enc)), enc);
    }
  }
  // 122 random bits: no other bit is the same in all of them.
  const ids = [...seen].map((id) => BigInt(`0x${id.replaceAll("-", "")}`));
  const constant = ids.reduce((bits, id) => bits & ~(id ^ ids[0]!), (1n << 128n) - 1n);
  assert.equal(constant, (0xfn << 76n) | (0x3n << 62n));
});

Deno.test("SAEs of one KME share keys of its own pool, with the slave only", async () => {
  await using network = await startNetwork(oneKme, [1, 1, 6]);
  const enc = await network.client(1).encKeys(2, { number: 2 });
  assertProblem(await network.client(4).decKeys(1, keyIdsOf(enc)), 401);
  assertProblem(await network.client(1).decKeys(1, keyIdsOf(enc)), 401);
  assertProblem(await network.client(1).decKeys(2, keyIdsOf(enc)), 401);
  assertSameKeys(await network.client(2).decKeys(1, keyIdsOf(enc)), enc);
  assert.equal(await stockOf(network.client(1), 2), 4);
});

Deno.test("a key is read once, and other keys requested with one that was read stay", async () => {
  await using network = await startNetwork(twoKmes, [1, 2, 10]);
  const [master, slave] = [network.client(1), network.client(3)];
  const [a, b, c] = keyIdsOf(await master.encKeys(3, { number: 3 }));
  assert.deepEqual(keyIdsOf(await slave.decKeys(1, a!)), [a]);
  assertProblem(await slave.decKeys(1, a!), 400, NOT_FOUND);
  assertProblem(await slave.decKeys(1, [b!, a!]), 400, NOT_FOUND);
  assertProblem(await slave.decKeys(1, [b!, unknownKeyId(), c!]), 400, NOT_FOUND);
  assertProblem(await slave.decKeys(1, unknownKeyId()), 400, NOT_FOUND);
  assert.deepEqual(keyIdsOf(await slave.decKeys(1, [c!, b!])), [c, b]);
  assertProblem(await slave.decKeys(1, [c!, b!]), 400, NOT_FOUND);
});

Deno.test("the same key_ID twice in one request is answered twice from one read, in any case", async () => {
  await using network = await startNetwork(twoKmes, [1, 2, 10]);
  const [master, slave] = [network.client(1), network.client(3)];
  const enc = await master.encKeys(3, { number: 3 });
  const [a, b, c] = keyIdsOf(enc);
  const dec = await slave.decKeys(1, [a!, b!, a!.toUpperCase(), a!]);
  assert.deepEqual(keyIdsOf(dec).map((id) => id.toLowerCase()), [a, b, a, a]);
  const bits = new Map(keysOf(enc).map((key) => [key.key_ID, key.key]));
  assert.ok(keysOf(dec).every((key) => key.key === bits.get(key.key_ID.toLowerCase())), "other bits");
  assertProblem(await slave.decKeys(1, b!), 400, NOT_FOUND);
  assertProblem(await slave.decKeys(1, b!.toUpperCase()), 400, NOT_FOUND);
  const mixed = [...c!].map((char, i) => i % 2 ? char.toUpperCase() : char).join("");
  assert.deepEqual(keyIdsOf(await slave.decKeys(1, mixed)).map((id) => id.toLowerCase()), [c]);
});

Deno.test("a key of other SAEs is 401, beside an unknown one too, and stays available to them", async () => {
  const spec = { kmes: [{ id: 1, saes: [1, 2, 4] }, { id: 2, saes: [3, 5] }] };
  await using network = await startNetwork(spec, [1, 2, 10], [1, 1, 2]);
  const [id] = keyIdsOf(await network.client(1).encKeys(3));
  const [own] = keyIdsOf(await network.client(1).encKeys(5));
  const [local] = keyIdsOf(await network.client(1).encKeys(2));
  for (const [client, theirs] of [[5, id!], [4, local!], [1, local!]] as const) {
    for (const master of [1, 3, 9]) {
      assertProblem(await network.client(client).decKeys(master, theirs), 401);
      assertProblem(await network.client(client).decKeys(master, [unknownKeyId(), theirs]), 401);
      assertProblem(await network.client(client).decKeys(master, [theirs, unknownKeyId()]), 401);
    }
  }
  // The master that did not name itself may not, at its own KME, where only its hand-over is known.
  assertProblem(await network.client(1).decKeys(1, id!), 401);
  assertProblem(await network.client(1).decKeys(1, [id!, unknownKeyId()]), 401);
  assertProblem(await network.client(2).decKeys(1, id!), 401);
  // One's own beside another's is not read.
  assertProblem(await network.client(5).decKeys(1, [own!, id!]), 401);
  assert.deepEqual(keyIdsOf(await network.client(5).decKeys(1, own!)), [own]);
  assert.deepEqual(keyIdsOf(await network.client(3).decKeys(1, id!)), [id]);
  // Read keys remain someone's.
  assertProblem(await network.client(5).decKeys(1, id!), 401);
});

Deno.test("another master than the key's in the URL is 400, and the key stays", async () => {
  await using network = await startNetwork(twoKmes, [1, 2, 10]);
  const slave = network.client(3);
  const [ofOne] = keyIdsOf(await network.client(1).encKeys(3));
  const [ofTwo] = keyIdsOf(await network.client(2).encKeys(3));
  for (const master of [2, 4, 3]) assertProblem(await slave.decKeys(master, ofOne!), 400, NOT_FOUND);
  // One that is not configured at all is the mistake that is told, unless a key is not the caller's.
  assertProblem(await slave.decKeys(9, ofOne!), 400, 'SAE "9" is unknown');
  assertProblem(await slave.decKeys(9, [ofOne!, unknownKeyId()]), 400, 'SAE "9" is unknown');
  assertProblem(await slave.decKeys(1, [ofOne!, ofTwo!]), 400, NOT_FOUND);
  assert.deepEqual(keyIdsOf(await slave.decKeys(1, ofOne!)), [ofOne]);
  assert.deepEqual(keyIdsOf(await slave.decKeys(2, ofTwo!)), [ofTwo]);
});

Deno.test("a block that was never handed out is not found, like any other", async () => {
  await using network = await startNetwork(oneKme);
  const ids = await network.writeKeyFile(1, 1, 3);
  await eventually(async () => await stockOf(network.client(1), 2) === 3);
  for (const id of ids) assertProblem(await network.client(2).decKeys(1, id), 400, NOT_FOUND);
  assertProblem(await network.client(2).decKeys(1, ids), 400, NOT_FOUND);
  assert.equal(await stockOf(network.client(1), 2), 3);
});

Deno.test("an SAE may name itself as the slave and then fetch the key, once", async () => {
  await using network = await startNetwork(oneKme, [1, 1, 3]);
  const client = network.client(1);
  const enc = await client.encKeys(1, { number: 2 });
  assertProblem(await network.client(2).decKeys(1, keyIdsOf(enc)), 401);
  assertSameKeys(await client.decKeys(1, keyIdsOf(enc)), enc);
  assertProblem(await client.decKeys(1, keyIdsOf(enc)), 400, NOT_FOUND);
});

Deno.test("of concurrent requests for one key exactly one gets it", async () => {
  await using network = await startNetwork(twoKmes, [1, 2, 30]);
  const ids = keyIdsOf(await network.client(1).encKeys(3, { number: 30 }));
  const slave = network.client(3, { maxSockets: 20 });
  await Promise.all(ids.map(async (id) => {
    const answers = await Promise.all(Array.from({ length: 5 }, () => slave.decKeys(1, id)));
    assert.deepEqual(answers.map((answer) => answer.status).toSorted(), [200, 400, 400, 400, 400]);
  }));
});

Deno.test("max_key_per_request is the most that both calls take", async () => {
  const options = { max_key_per_request: 5 };
  await using network = await startNetwork({ kmes: [{ id: 1, saes: [1, 2], options }] }, [1, 1, 12]);
  const [master, slave] = [network.client(1), network.client(2)];
  const first = keyIdsOf(await master.encKeys(2, { number: 5 }));
  const second = keyIdsOf(await master.encKeys(2, { number: 5 }));
  assertProblem(await master.encKeys(2, { number: 6 }), 400, /^number\b.*5/);
  assertProblem(await slave.decKeys(1, [...first, second[0]!]), 400, /^key_IDs\b.*5/);
  assert.equal((await slave.decKeys(1, first)).status, 200);
  assert.equal((await slave.decKeys(1, second)).status, 200);
  assert.equal(await stockOf(master, 2), 2);
});

Deno.test("128 keys are delivered in one request between two KMEs by default, 129 are refused", async () => {
  await using network = await startNetwork(twoKmes, [1, 2, 260]);
  const [master, slave] = [network.client(1), network.client(3)];
  const enc = await master.encKeys(3, { number: 128 });
  assert.equal(new Set(keyIdsOf(enc)).size, 128);
  assertSameKeys(await slave.decKeys(1, keyIdsOf(enc)), enc);
  assertProblem(await master.encKeys(3, { number: 129 }), 400, /^number\b.*128/);
  assert.equal(await stockOf(master, 3), 132);
});
