/** A key that no slave fetched expires, on both KMEs. */
import assert from "node:assert/strict";
import { keyIdsOf } from "../harness/sae_client.ts";
import { ledgerOf } from "../harness/ledger_queries.ts";
import { assertProblem, startNetwork, stockOf } from "./api_fixture.ts";

const NOT_FOUND = "one or more keys specified are not found on KME";

Deno.test("an expired key is not found and leaves nothing at either KME", async () => {
  const options = { key_lifetime_seconds: 2 };
  await using network = await startNetwork(
    {
      kmes: [
        { id: 1, saes: [1, 2], database: "sqlite", options },
        { id: 2, saes: [3], database: "sqlite", options },
      ],
    },
    [1, 2, 6],
    [1, 1, 3],
  );
  const [one, two] = network.processes;
  const ids = keyIdsOf(await network.client(1).encKeys(3, { number: 3 }));
  const [local] = keyIdsOf(await network.client(1).encKeys(2));
  assert.deepEqual(keyIdsOf(await network.client(3).decKeys(1, ids[0]!)), [ids[0]]);
  await two!.waitForLine(/\b2 keys expired unread/);
  await one!.waitForLine(/\b1 keys expired unread/);
  for (const id of ids) assertProblem(await network.client(3).decKeys(1, id), 400, NOT_FOUND);
  assertProblem(await network.client(3).decKeys(1, ids), 400, NOT_FOUND);
  assertProblem(await network.client(2).decKeys(1, local!), 400, NOT_FOUND);
  // They do not come back into stock, and what was not given out does not expire.
  assert.equal(await stockOf(network.client(1), 3), 3);
  assert.equal(await stockOf(network.client(3), 1), 3);
  assert.equal(await stockOf(network.client(1), 2), 2);
  for (const [index, process] of [one!, two!].entries()) {
    await process.stop();
    const ledger = ledgerOf(network.kme(index + 1));
    assert.deepEqual(ledger.keys, []);
    assert.deepEqual(
      [...ledger.blocks.values()].filter(({ state }) => state !== "free"),
      [],
      "a block of an expired key is left",
    );
  }
});

Deno.test("a waiting key is still there after a restart", async () => {
  await using network = await startNetwork({ kmes: [{ id: 1, saes: [1, 2], database: "sqlite" }] }, [
    1,
    1,
    3,
  ]);
  const ids = keyIdsOf(await network.client(1).encKeys(2, { number: 2 }));
  assert.equal(await network.processes[0]!.stop(), 0);
  await network.start(1);
  assert.equal(await stockOf(network.client(1), 2), 1);
  assert.deepEqual(keyIdsOf(await network.client(2).decKeys(1, ids)), ids);
  assertProblem(await network.client(2).decKeys(1, ids), 400, NOT_FOUND);
});
