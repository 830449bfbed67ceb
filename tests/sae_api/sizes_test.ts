/** Keys of every size are made of whole stored blocks, concatenated and cut. */
import assert from "node:assert/strict";
import { keyIdsOf, keysOf, type SaeResponse } from "../harness/sae_client.ts";
import { assertSameKeys } from "../harness/sae_client.ts";
import { assertProblem, oneKmeWith, startNetwork, stockOf, twoKmes } from "./api_fixture.ts";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

function assertSizes(response: SaeResponse, number: number, size: number): void {
  const keys = keysOf(response);
  assert.equal(keys.length, number);
  for (const { key, key_ID } of keys) {
    assert.match(key_ID, UUID);
    assert.equal(key.length, 4 * Math.ceil(size / 24), "not padded base64");
    assert.equal(Uint8Array.fromBase64(key, { lastChunkHandling: "strict" }).length * 8, size);
  }
}

Deno.test("min_key_size to max_key_size are delivered in steps of 8, for a block for each begun 256 bits", async () => {
  await using network = await startNetwork(twoKmes, [1, 2, 900], [1, 1, 600]);
  for (const [master, slave] of [[1, 3], [3, 1], [1, 2]] as const) {
    const client = network.client(master);
    const { min_key_size: min, max_key_size: max } = (await client.status(slave)).json;
    assert.deepEqual([min, max], [8, 65_536]);
    for (
      const [number, size] of [
        [2, 8],
        [1, 24],
        [3, 64],
        [1, 72],
        [2, 128],
        [1, 248],
        [2, 256],
        [1, 264],
        [2, 512],
        [1, 1000],
        [1, 4096],
        [1, 65_536],
      ] as const
    ) {
      const before = await stockOf(client, slave);
      const enc = await client.encKeys(slave, { number, size }, { method: size % 3 ? "POST" : "GET" });
      assertSizes(enc, number, size);
      assert.equal(
        await stockOf(client, slave),
        before - number * Math.ceil(size / 256),
        `${number} of ${size} bits`,
      );
      assertSameKeys(await network.client(slave).decKeys(master, keyIdsOf(enc)), enc);
      assertProblem(await network.client(slave).decKeys(master, keyIdsOf(enc)), 400);
    }
    const stock = await stockOf(client, slave);
    for (const size of [0, max + 8, 1e9]) {
      assertProblem(await client.encKeys(slave, { size }), 400, /^size\b.*8 to 65536/);
    }
    for (const size of [65, 4095]) {
      assertProblem(await client.encKeys(slave, { size }), 400, "size shall be a multiple of 8");
    }
    assert.equal(await stockOf(client, slave), stock);
  }
  assert.equal(await stockOf(network.client(1), 3), await stockOf(network.client(3), 1));
});

Deno.test("the sizes can be limited, and the bits of one request are limited together", async () => {
  const limits = { min_key_size: 128, max_key_size: 65_536, max_key_per_request: 512 };
  await using network = await startNetwork(oneKmeWith(limits), [1, 1, 300]);
  const client = network.client(1);
  const { min_key_size, max_key_size } = (await client.status(2)).json;
  assert.deepEqual([min_key_size, max_key_size], [128, 65_536]);
  assertProblem(
    await client.encKeys(2, { size: 120 }),
    400,
    "size: keys of 128 to 65536 bits can be delivered",
  );
  assertSizes(await client.encKeys(2, { size: 128 }), 1, 128);
  const tooMany = /^number and size: at most 131072 bits\b/;
  assertProblem(await client.encKeys(2, { number: 3, size: 65_536 }), 400, tooMany);
  // Each takes 17 blocks.
  assertProblem(await client.encKeys(2, { number: 31, size: 4104 }), 400, tooMany);
  // Not too many, but more than there are.
  assertProblem(await client.encKeys(2, { number: 2, size: 65_536 }), 503);
  assertProblem(await client.encKeys(2, { number: 30, size: 4104 }), 503);
  assert.equal(await stockOf(client, 2), 299);
});

Deno.test("keys are cut from blocks in order, and the rest of a block is never delivered", async () => {
  const blocks = Array.from({ length: 6 }, (_, i) => new Uint8Array(32).fill(i + 1));
  // The file is refused otherwise: its blocks are made to be told apart, not random.
  const spec = oneKmeWith({ key_file_health: "off" });
  await using network = await startNetwork(spec, [
    1,
    1,
    new Uint8Array(blocks.flatMap((block) => [...block])),
  ]);
  const seen = new Set<number>();
  for (const size of [64, 520, 256]) {
    const [key] = keysOf(await network.client(1).encKeys(2, { size }));
    const bytes = Uint8Array.fromBase64(key!.key);
    for (let offset = 0; offset < bytes.length; offset += 32) {
      const part = bytes.subarray(offset, offset + 32);
      assert.ok(part.every((byte) => byte === part[0]), "blocks are mixed");
      assert.ok(!seen.has(part[0]!), "a block in two keys");
      seen.add(part[0]!);
    }
  }
  assert.equal(await stockOf(network.client(1), 2), 1);
});

Deno.test("too few blocks for a size is 503 and consumes none", async () => {
  await using network = await startNetwork(twoKmes, [1, 2, 5], [1, 1, 5]);
  for (const slave of [2, 3]) {
    const client = network.client(1);
    assertProblem(await client.encKeys(slave, { size: 4096 }), 503);
    assertProblem(await client.encKeys(slave, { number: 3, size: 264 }), 503);
    assertProblem(await client.encKeys(slave, { number: 6, size: 64 }), 503);
    assert.equal(await stockOf(client, slave), 5);
    assertSizes(await client.encKeys(slave, { number: 2, size: 512 }), 2, 512);
    assert.equal(await stockOf(client, slave), 1);
  }
});
