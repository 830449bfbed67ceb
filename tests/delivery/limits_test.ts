/** Which SAEs can be additional slaves, and how many. */
import assert from "node:assert/strict";
import type { NetworkSpec } from "../harness/test_network.ts";
import { assertProblem, startNetwork, stockOf } from "../sae_api/api_fixture.ts";
import { assertEachReadsOnce } from "./test_networks.ts";

const MEMBER = "additional_slave_SAE_IDs";

/** SAEs 1 to 10 at KME 1, SAE 20 at KME 2, with other members of KME 1. */
function network(options: Record<string, unknown>): NetworkSpec {
  const saes = Array.from({ length: 11 }, (_, i) => i + 1);
  return { kmes: [{ id: 1, saes, options }, { id: 2, saes: [20] }] };
}

Deno.test("max_SAE_ID_count additional slaves are served, one more is 400: 8 by default", async () => {
  await using net = await startNetwork(network({}), [1, 2, 4], [1, 1, 4]);
  const client = net.client(1);
  assert.equal((await client.status(20)).json.max_SAE_ID_count, 8);
  const eight = ["2", "3", "4", "5", "6", "7", "8", "9"];
  assertProblem(
    await client.encKeys(20, { additional_slave_SAE_IDs: [...eight, "10"] }),
    400,
    new RegExp(`^${MEMBER}\\b.*\\b8\\b`),
  );
  const enc = await client.encKeys(20, { additional_slave_SAE_IDs: eight });
  await assertEachReadsOnce(net, enc, 1, [20, ...eight]);
  const local = await client.encKeys(10, { additional_slave_SAE_IDs: [...eight.slice(1), "20"] });
  await assertEachReadsOnce(net, local, 1, [10, ...eight.slice(1), 20]);
});

Deno.test("max_SAE_ID_count is as configured, and 0 means none", async () => {
  for (const most of [0, 2]) {
    await using net = await startNetwork(network({ max_SAE_ID_count: most }), [1, 1, 4]);
    const client = net.client(1);
    assert.equal((await client.status(2)).json.max_SAE_ID_count, most);
    const some = ["3", "4", "5"].slice(0, most + 1);
    assertProblem(await client.encKeys(2, { additional_slave_SAE_IDs: some }), 400, new RegExp(`^${MEMBER}`));
    assert.equal(await stockOf(client, 2), 4);
    const enc = await client.encKeys(2, { additional_slave_SAE_IDs: some.slice(1) });
    await assertEachReadsOnce(net, enc, 1, [2, ...some.slice(1)]);
  }
});

Deno.test("an additional slave that is unknown, blank, a duplicate, the slave or the master is 400 by its place", async () => {
  await using net = await startNetwork(network({}), [1, 2, 4], [1, 1, 4]);
  const client = net.client(1);
  const wrong: [slave: number, additional: string[], place: number][] = [
    [20, ["99"], 0],
    [20, ["2", "99"], 1],
    [20, ["02"], 0],
    [20, [""], 0],
    [20, ["2", "  "], 1],
    [20, [" 2"], 0],
    [20, ["2", "3", "2"], 2],
    [20, ["20"], 0],
    [20, ["1"], 0],
    [1, ["1"], 0],
    [2, ["2"], 0],
  ];
  for (const [slave, additional, place] of wrong) {
    assertProblem(
      await client.encKeys(slave, { additional_slave_SAE_IDs: additional }),
      400,
      new RegExp(`^${MEMBER}\\[${place}\\]`),
    );
  }
  assert.equal(await stockOf(client, 20), 4);
  assert.equal(await stockOf(client, 2), 4);
  // Being the master and the slave is no reason to leave others out.
  const own = await client.encKeys(1, { additional_slave_SAE_IDs: ["2", "20"] });
  await assertEachReadsOnce(net, own, 1, [1, 2, 20]);
});
