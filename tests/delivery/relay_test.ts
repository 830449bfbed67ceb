/** Keys for several slaves, on several KMEs, directly linked or not. */
import assert from "node:assert/strict";
import { assertSameKeys, keysOf, type SaeClient } from "../harness/sae_client.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { chain } from "./test_networks.ts";
import { eventually } from "../harness/eventually.ts";

const BLOCKS = 1000;

type Five = [SaeClient, SaeClient, SaeClient, SaeClient, SaeClient];

Deno.test("a chain of four KMEs delivers, and one request reaches slaves on all of them", async () => {
  await using network = await makeTestNetwork(chain);
  for (const [a, b] of [[1, 2], [2, 3], [3, 4]] as const) await network.writeKeyFile(a, b, BLOCKS);
  await network.startAll();
  const [one, eleven, two, three, four] = ["1", "11", "2", "3", "4"].map((sae) =>
    network.client(sae)
  ) as Five;
  await eventually(async () => (await one.status("2")).json.stored_key_count === BLOCKS, {
    what: "keys in stock",
  });

  const far = await one.encKeys("4");
  assert.equal(far.status, 200, far.text);
  const received = await four.decKeys("1", keysOf(far)[0]!.key_ID);
  assert.equal(received.status, 200, received.text);
  assertSameKeys(far, received);

  for (const size of [8, 64, 72, 264, 1000, 65_536]) {
    const all = await one.encKeys("2", { size, number: 2, additional_slave_SAE_IDs: ["3", "4", "11"] });
    assert.equal(all.status, 200, all.text);
    const ids = keysOf(all).map((key) => key.key_ID);
    for (const slave of [two, three, four, eleven]) {
      const got = await slave.decKeys("1", ids);
      assert.equal(got.status, 200, got.text);
      assertSameKeys(all, got);
      assert.equal((await slave.decKeys("1", ids)).status, 400);
    }
  }
});
