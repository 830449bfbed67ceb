/** Too few keys in stock, and too many. */
import assert from "node:assert/strict";
import { eventually } from "../harness/eventually.ts";
import { blockIdsOf, keyFilesIn } from "../harness/key_files.ts";
import { keyIdsOf } from "../harness/sae_client.ts";
import { assertProblem, oneKme, startNetwork, stockOf, twoKmes } from "./api_fixture.ts";

Deno.test("fewer keys in stock than requested is 503, never a part of them, and consumes no keys", async () => {
  await using network = await startNetwork(twoKmes, [1, 2, 3], [1, 1, 2]);
  for (const [master, slave, stored] of [[1, 3, 3], [3, 1, 3], [1, 2, 2], [1, 1, 2], [3, 3, 0]] as const) {
    const client = network.client(master);
    for (const number of [stored + 1, 128]) {
      const response = await client.encKeys(slave, { number });
      assertProblem(response, 503);
      assert.equal(response.json.keys, undefined);
      assert.equal(await stockOf(client, slave), stored);
    }
  }
  // What was refused is still there for whoever asks for no more than that.
  assert.equal(keyIdsOf(await network.client(3).encKeys(1, { number: 3 })).length, 3);
  assert.equal(keyIdsOf(await network.client(1).encKeys(2, { number: 2 })).length, 2);
  assertProblem(await network.client(1).encKeys(3), 503);
  assertProblem(await network.client(1).encKeys(2), 503);
});

Deno.test("keys of another link are not in stock", async () => {
  const spec = { kmes: [{ id: 1, saes: [1, 2] }, { id: 2, saes: [3] }, { id: 3, saes: [4] }] };
  await using network = await startNetwork(spec, [1, 3, 5], [1, 1, 4]);
  assertProblem(await network.client(1).encKeys(3), 503);
  assertProblem(await network.client(3).encKeys(4), 503);
  assert.equal(await stockOf(network.client(1), 4), 5);
  assert.equal(await stockOf(network.client(1), 2), 4);
  assert.equal(await stockOf(network.client(1), 3), 0);
});

Deno.test("concurrent requests share the stock, and the rest get 503", async () => {
  await using network = await startNetwork(oneKme, [1, 1, 50]);
  const client = network.client(1, { maxSockets: 30 });
  const answers = await Promise.all(Array.from({ length: 40 }, () => client.encKeys(2, { number: 2 })));
  const ids = answers.filter(({ status }) => status === 200).flatMap(keyIdsOf);
  assert.equal(ids.length, 50);
  assert.equal(new Set(ids).size, 50);
  const refused = answers.filter(({ status }) => status !== 200);
  assert.equal(refused.length, 15);
  for (const answer of refused) assertProblem(answer, 503);
  assert.equal(await stockOf(client, 2), 0);
});

Deno.test("stock never exceeds max_key_count; a file that is too large is ingested as there is room", async () => {
  const spec = { kmes: [{ id: 1, saes: [1, 2], options: { max_key_count: 5 } }] };
  await using network = await startNetwork(spec);
  const client = network.client(1);
  const ids = await network.writeKeyFile(1, 1, 8);
  const stock = (count: number) =>
    eventually(async () => {
      const stored = await stockOf(client, 2);
      assert.ok(stored <= 5, `${stored} keys are stored`);
      return stored === count;
    }, { what: `a stock of ${count}`, timeout: 30_000 });
  const files = async () => (await keyFilesIn(network.keyDirectory(1, 1))).length;
  await stock(5);
  assert.equal(await files(), 1);
  const seen: string[] = [];
  const take = async (number: number) => seen.push(...blockIdsOf(await client.encKeys(2, { number })));
  await take(5);
  await stock(3);
  await eventually(async () => await files() === 0, { what: "the file deleted" });
  await take(3);
  assert.deepEqual(seen.toSorted(), ids.toSorted());
  assertProblem(await client.encKeys(2), 503);
});
