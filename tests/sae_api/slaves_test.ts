/** additional_slave_SAE_IDs: one key for SAEs of any configured KME, all of them or nobody. */
import assert from "node:assert/strict";
import type { NetworkSpec } from "../harness/test_network.ts";
import { assertSameKeys, keyIdsOf, keysOf } from "../harness/sae_client.ts";
import { assertProblem, startNetwork, stockOf } from "./api_fixture.ts";

const spec: NetworkSpec = {
  kmes: [{ id: 1, saes: [1, 2, 4] }, { id: 2, saes: [3, 5] }, { id: 3, saes: [6, 7] }],
};

function also(...ids: string[]) {
  return { additional_slave_SAE_IDs: ids };
}

Deno.test("the same bits under the same key_ID reach every slave, each once, and no other SAE", async () => {
  await using network = await startNetwork(spec, [1, 2, 60], [1, 3, 60], [1, 1, 60]);
  const sets: [slave: number, additional: number[], size: number][] = [
    [2, [4], 256],
    [3, [5], 256],
    [3, [2], 256],
    [3, [6], 256],
    [2, [3], 128],
    [3, [2, 5, 6, 7], 512],
    [6, [3, 4], 264],
  ];
  for (const [slave, additional, size] of sets) {
    const enc = await network.client(1).encKeys(slave, {
      number: 2,
      size,
      ...also(...additional.map(String)),
    });
    assert.equal(keysOf(enc).length, 2);
    const ids = keyIdsOf(enc);
    const slaves = [slave, ...additional];
    for (const other of [1, 2, 3, 4, 5, 6, 7].filter((sae) => !slaves.includes(sae))) {
      const answer = await network.client(other).decKeys(1, ids);
      // A KME that has nothing to do with a key does not know it.
      const known = [1, ...slaves].some((sae) => network.sae(sae).kmeId === network.sae(other).kmeId);
      assertProblem(answer, known ? 401 : 400);
    }
    for (const reader of slaves) {
      assertSameKeys(await network.client(reader).decKeys(1, ids), enc);
      assertProblem(await network.client(reader).decKeys(1, ids), 400);
    }
  }
});

Deno.test("invalid additional slaves are refused by name, and no keys are consumed", async () => {
  const [one, ...others] = spec.kmes;
  const kmes = [{ ...one!, options: { max_SAE_ID_count: 3 } }, ...others];
  await using network = await startNetwork({ kmes }, [1, 2, 5], [1, 3, 5], [1, 1, 5]);
  const client = network.client(1);
  assert.equal((await client.status(3)).json.max_SAE_ID_count, 3);
  const wrong: [ids: string[], message: RegExp][] = [
    [[""], /blank/],
    [["  "], /blank/],
    [["99"], /99/],
    [["5", "99"], /99/],
    [["05"], /05/],
    [["3"], /3/],
    [["1"], /1/],
    [["5", "5"], /5/],
    [["2", "4", "5", "6"], /3/],
  ];
  for (const [ids, message] of wrong) {
    assertProblem(await client.encKeys(3, also(...ids)), 400, message);
    assertProblem(await client.encKeys(3, also(...ids)), 400, /^additional_slave_SAE_IDs\b/);
  }
  for (const slave of [3, 6, 2]) assert.equal(await stockOf(client, slave), 5);
  assert.equal(keyIdsOf(await client.encKeys(3, also("2", "4", "5"))).length, 1);
});

Deno.test("when one slave's KME is down no SAE gets a key, and unsent keys are not consumed", async () => {
  await using network = await startNetwork(spec, [1, 2, 9], [1, 3, 9], [1, 1, 9]);
  const client = network.client(1);
  await network.processes[2]!.kill();
  assertProblem(await client.encKeys(3, also("6")), 503);
  assertProblem(await client.encKeys(2, also("6")), 503);
  assertProblem(await client.encKeys(6, also("3")), 503);
  for (const slave of [3, 6, 2]) assert.equal(await stockOf(client, slave), 9);
  assert.equal(await stockOf(network.client(3), 1), 9);
  assert.equal(keyIdsOf(await client.encKeys(3, also("2", "5"))).length, 1);
});

Deno.test("too few key blocks on the route to one of the slaves is 503, and no keys are consumed", async () => {
  await using network = await startNetwork(spec, [1, 2, 9], [1, 3, 2], [1, 1, 9]);
  const client = network.client(1);
  assertProblem(await client.encKeys(3, { number: 3, ...also("6") }), 503);
  assertProblem(await client.encKeys(3, { size: 1024, ...also("2", "6") }), 503);
  assert.deepEqual([await stockOf(client, 3), await stockOf(client, 6), await stockOf(client, 2)], [9, 2, 9]);
  assert.equal(await stockOf(network.client(3), 1), 9);
  assert.equal(keyIdsOf(await client.encKeys(3, { number: 2, ...also("6") })).length, 2);
});
