/** One request gives the same keys to SAEs of several KMEs: once to each, and to no other SAE. */
import assert from "node:assert/strict";
import { keyIdsOf } from "../harness/sae_client.ts";
import { assertProblem, startNetwork, stockOf } from "../sae_api/api_fixture.ts";
import { assertEachReadsOnce, bitsOf, stocks, triangle, triangleWithTail } from "./test_networks.ts";

Deno.test("slaves on three directly linked KMEs get the same keys, each once", async () => {
  await using network = await startNetwork(triangle, [1, 2, 60], [1, 3, 60], [2, 3, 60], [1, 1, 60]);
  const cases = [
    { master: 1, slave: 2, additional: ["3", "11"] },
    { master: 1, slave: 11, additional: ["2", "3"] },
    { master: 2, slave: 1, additional: ["22", "3", "11"] },
    { master: 3, slave: 2, additional: ["1"] },
  ];
  for (const { master, slave, additional } of cases) {
    for (const size of [64, 256, 1000]) {
      const request = { number: 2, size, additional_slave_SAE_IDs: additional };
      const enc = await network.client(master).encKeys(slave, request);
      assert.equal(enc.status, 200, `from ${master} to ${slave}: ${enc.status === 200 || enc.text}`);
      assert.deepEqual(bitsOf(enc).map((bits) => bits.length * 8), [size, size]);
      // SAEs that were not named get nothing, before and after the others have read.
      const strangers = [1, 11, 2, 22, 3].filter((sae) => sae !== slave && !additional.includes(`${sae}`));
      const atKmesConcerned = strangers.filter((sae) => sae !== 22 || master === 2 || slave === 2);
      for (const stranger of atKmesConcerned) {
        assertProblem(await network.client(stranger).decKeys(master, keyIdsOf(enc)), 401);
      }
      await assertEachReadsOnce(network, enc, master, [slave, ...additional]);
      for (const stranger of atKmesConcerned) {
        assertProblem(await network.client(stranger).decKeys(master, keyIdsOf(enc)), 401);
      }
    }
  }
  const counts = await stocks(network, [1, 2], [1, 3], [2, 3]);
  for (let i = 0; i < counts.length; i += 2) assert.equal(counts[i], counts[i + 1], "the ends differ");
});

Deno.test("slaves on linked KMEs and on one behind a relay get the same keys, from any end", async () => {
  await using network = await startNetwork(triangleWithTail, [1, 2, 60], [1, 3, 60], [2, 3, 60], [3, 4, 60]);
  const cases = [
    { master: 1, slave: 2, additional: ["3", "4", "22"] },
    { master: 1, slave: 4, additional: ["2", "3"] },
    { master: 4, slave: 3, additional: ["1", "2"] },
    { master: 4, slave: 1, additional: ["2", "22", "11"] },
    { master: 3, slave: 1, additional: ["2", "4"] },
  ];
  for (const { master, slave, additional } of cases) {
    for (const size of [256, 264]) {
      const request = { size, additional_slave_SAE_IDs: additional };
      const enc = await network.client(master).encKeys(slave, request);
      assert.equal(enc.status, 200, `from ${master} to ${slave}: ${enc.status === 200 || enc.text}`);
      await assertEachReadsOnce(network, enc, master, [slave, ...additional]);
    }
  }
  const counts = await stocks(network, [1, 2], [1, 3], [2, 3], [3, 4]);
  for (let i = 0; i < counts.length; i += 2) assert.equal(counts[i], counts[i + 1], "the ends differ");
});

Deno.test("a pad and a block are used once, whoever asks at the same time", async () => {
  const stock = 300;
  await using network = await startNetwork(
    triangleWithTail,
    [1, 2, stock],
    [1, 3, stock],
    [2, 3, stock],
    [3, 4, stock],
  );
  const wishes = [
    { master: 1, slave: 2, additional: ["3"] },
    { master: 2, slave: 3, additional: ["1"] },
    { master: 3, slave: 1, additional: ["4"] },
    { master: 4, slave: 2, additional: ["1"] },
    { master: 2, slave: 4, additional: [] },
  ];
  const rounds = 8;
  const answers = await Promise.all(
    Array.from({ length: rounds }, () =>
      wishes.map(async ({ master, slave, additional }) => ({
        master,
        slaves: [slave, ...additional],
        enc: await network.client(master).encKeys(slave, { size: 512, additional_slave_SAE_IDs: additional }),
      }))).flat(),
  );
  const halves = new Set<string>();
  for (const { master, slaves, enc } of answers) {
    assert.equal(enc.status, 200, enc.status === 200 ? "" : enc.text);
    const [bits] = bitsOf(enc);
    for (const half of [bits!.subarray(0, 32), bits!.subarray(32)]) {
      assert.ok(!halves.has(half.toHex()), "a block in two keys");
      halves.add(half.toHex());
    }
    await assertEachReadsOnce(network, enc, master, slaves);
  }
  const counts = await stocks(network, [1, 2], [1, 3], [2, 3], [3, 4]);
  for (let i = 0; i < counts.length; i += 2) assert.equal(counts[i], counts[i + 1], "the ends differ");
  assert.ok(counts.every((count) => count < stock));
});

Deno.test("a request without enough blocks for a pad is 503, and no KME loses blocks", async () => {
  await using network = await startNetwork(triangleWithTail, [1, 2, 20], [1, 3, 2], [3, 4, 1]);
  const before = await stocks(network, [1, 2], [1, 3], [3, 4]);
  // No pad for KME 3; enough for KME 3 but none to go on to KME 4.
  assertProblem(
    await network.client(1).encKeys(2, { size: 1024, additional_slave_SAE_IDs: ["3"] }),
    503,
  );
  assert.deepEqual(await stocks(network, [1, 2], [1, 3], [3, 4]), before);
  assertProblem(
    await network.client(1).encKeys(2, { size: 512, additional_slave_SAE_IDs: ["4"] }),
    503,
  );
  // The key's own blocks come back; the pads that were sent to KME 3 are gone, on both ends.
  assert.equal(await stockOf(network.client(1), 2), 20);
  assert.equal(await stockOf(network.client(2), 1), 20);
  const [here, there] = await stocks(network, [1, 3]);
  assert.equal(here, there);
  assert.ok(here === 2 || here === 0, `${here} blocks`);
  assert.deepEqual(await stocks(network, [3, 4]), [1, 1]);
});
