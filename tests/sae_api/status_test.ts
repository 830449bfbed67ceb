/** Status (clause 6.1) has exactly these fields and tells the truth. */
import assert from "node:assert/strict";
import { keyIdsOf } from "../harness/sae_client.ts";
import { assertForm, startNetwork, stockOf, twoKmes } from "./api_fixture.ts";

const FIELDS = [
  "source_KME_ID",
  "target_KME_ID",
  "master_SAE_ID",
  "slave_SAE_ID",
  "key_size",
  "stored_key_count",
  "max_key_count",
  "max_key_per_request",
  "max_key_size",
  "min_key_size",
  "max_SAE_ID_count",
];

Deno.test("Status has the fields of the standard, of the right types and in a sensible relation", async () => {
  await using network = await startNetwork(twoKmes, [1, 2, 7], [1, 1, 3]);
  for (
    const [sae, slave, source, target, stored] of [
      [1, 3, "1", "2", 7],
      [3, 1, "2", "1", 7],
      [1, 2, "1", "1", 3],
      [1, 1, "1", "1", 3],
      [3, 3, "2", "2", 0],
    ] as const
  ) {
    const response = await network.client(sae).status(slave);
    assert.equal(response.status, 200);
    assertForm(response);
    const { json } = response;
    assert.deepEqual(Object.keys(json), FIELDS);
    for (const name of FIELDS.slice(0, 4)) assert.equal(typeof json[name], "string", name);
    for (const name of FIELDS.slice(4)) assert.ok(Number.isSafeInteger(json[name]) && json[name] >= 0, name);
    assert.equal(json.source_KME_ID, source);
    assert.equal(json.target_KME_ID, target);
    assert.equal(json.master_SAE_ID, String(sae));
    assert.equal(json.slave_SAE_ID, String(slave));
    assert.equal(json.key_size, 256);
    assert.equal(json.stored_key_count, stored);
    assert.equal(json.max_key_count, 1_000_000);
    assert.equal(json.max_key_per_request, 128);
    assert.ok(json.min_key_size <= json.key_size && json.key_size <= json.max_key_size);
  }
});

Deno.test("Status says what is configured", async () => {
  const options = { max_key_per_request: 3, max_key_count: 50 };
  await using network = await startNetwork({ kmes: [{ id: 1, saes: [1, 2], options }] }, [1, 1, 4]);
  const { json } = await network.client(1).status(2);
  assert.equal(json.max_key_per_request, 3);
  assert.equal(json.max_key_count, 50);
  assert.equal(json.stored_key_count, 4);
  // What it says is what is done.
  assert.equal((await network.client(1).encKeys(2, { number: 3 })).status, 200);
});

Deno.test("the count is that of the link, at both ends, and decreases with each delivered key", async () => {
  await using network = await startNetwork(twoKmes, [1, 2, 10], [1, 1, 4]);
  const counts = async () => [
    await stockOf(network.client(1), 3),
    await stockOf(network.client(2), 3),
    await stockOf(network.client(3), 1),
    await stockOf(network.client(3), 4),
    await stockOf(network.client(1), 2),
  ];
  assert.deepEqual(await counts(), [10, 10, 10, 10, 4]);
  const ids = keyIdsOf(await network.client(1).encKeys(3, { number: 3 }));
  assert.deepEqual(await counts(), [7, 7, 7, 7, 4]);
  keyIdsOf(await network.client(3).encKeys(2, { number: 2 }));
  assert.deepEqual(await counts(), [5, 5, 5, 5, 4]);
  keyIdsOf(await network.client(2).encKeys(1));
  assert.deepEqual(await counts(), [5, 5, 5, 5, 3]);
  keyIdsOf(await network.client(3).decKeys(1, ids));
  assert.deepEqual(await counts(), [5, 5, 5, 5, 3]);
});
