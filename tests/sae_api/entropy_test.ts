/** Shannon entropy over the bytes of all keys stored. */
import assert from "node:assert/strict";
import { shannonEntropy } from "../../src/domain/entropy.ts";
import { eventually } from "../harness/eventually.ts";
import { keyIdsOf } from "../harness/sae_client.ts";
import type { SaeClient } from "../harness/sae_client.ts";
import { assertForm, oneKmeWith, startNetwork, stockOf } from "./api_fixture.ts";

const block = (n: number) => new TextEncoder().encode(`this_is_secret_key_${n}_of_32_bytes`);

async function entropy(client: SaeClient): Promise<number> {
  const response = await client.raw({ path: "/api/v1/keys/entropy/total" });
  assert.equal(response.status, 200);
  assertForm(response);
  assert.deepEqual(Object.keys(response.json), ["total_entropy"]);
  return response.json.total_entropy;
}

/** The floating-point sum may run in another order. */
function assertNear(actual: number, expected: number): void {
  assert.ok(Math.abs(actual - expected) < 1e-12, `${actual} is not ${expected}`);
}

Deno.test("the entropy of three keys of text, one of them twice", () => {
  const counts = new Array(256).fill(0);
  for (const byte of [...block(1), ...block(1), ...block(3)]) counts[byte]++;
  assertNear(shannonEntropy(counts), 3.607194365985696);
});

Deno.test("the entropy of no key, and of a key of zeros, is 0", async () => {
  // Keys of text and of zeros do not look random.
  await using network = await startNetwork(oneKmeWith({ key_file_health: "off" }));
  const client = network.client(1);
  assert.equal(await entropy(client), 0);
  await network.writeKeyFile(1, 1, new Uint8Array(32));
  await eventually(async () => await stockOf(client, 2) === 1);
  assert.equal(await entropy(client), 0);
});

Deno.test("the entropy is over all links, delivered keys included, and survives a restart", async () => {
  const spec = {
    kmes: [
      { id: 1, saes: [1, 2], database: "sqlite", options: { key_file_health: "off" } },
      { id: 2, saes: [3], database: "sqlite", options: { key_file_health: "off" } },
    ],
  };
  await using network = await startNetwork(spec, [1, 2, block(1)], [1, 1, block(3)]);
  const client = network.client(1);
  const expected = 3.6005057591359866; // keys 1 and 3
  assertNear(await entropy(client), expected);
  assertNear(await entropy(network.client(3)), 3.6123008763572906); // key 1
  const [keyId] = keyIdsOf(await client.encKeys(3));
  assert.equal((await network.client(3).decKeys(1, keyId!)).status, 200);
  assertNear(await entropy(client), expected);
  assert.equal(await network.processes[0]!.stop(), 0);
  await network.start(1);
  assertNear(await entropy(client), expected);
  // The same block again is not stored again.
  await network.writeKeyFile(1, 1, new Uint8Array([...block(3), ...block(2)]));
  await eventually(async () => await stockOf(client, 2) === 2);
  const counts = new Array(256).fill(0);
  for (const byte of [1, 2, 3].flatMap((n) => [...block(n)])) counts[byte]++;
  assertNear(await entropy(client), shannonEntropy(counts));
});
