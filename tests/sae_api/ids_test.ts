/** Ids of SAEs and KMEs keep their form and all their digits. */
import assert from "node:assert/strict";
import { keyIdsOf } from "../harness/sae_client.ts";
import { assertProblem, startNetwork, stockOf } from "./api_fixture.ts";

const INFO = { path: "/api/v1/sae/info/me" };

Deno.test("an id is an integer or a string as it was configured, and never rounded", async () => {
  const digits = {
    "9007199254740993": "9007199254740993",
    "18446744073709551615": "18446744073709551615",
    "-9223372036854775808": "-9223372036854775808",
    "9007199254740992": "9007199254740992",
  };
  const saes = [1, 0, -5, 9007199254740991, "1x", "seven", "7", "007", "1e3", ...Object.keys(digits)];
  await using network = await startNetwork({ kmes: [{ id: "9007199254740995", saes }] }, [
    "9007199254740995",
    "9007199254740995",
    20,
  ]);
  const kme = "9007199254740995";
  for (const id of saes) {
    const client = network.client(id);
    // Quotes are the only way to write an integer beyond 2^53 in a configuration: it is one all the same.
    const json = typeof id === "number" ? String(id) : id in digits ? id : JSON.stringify(id);
    assert.equal((await client.raw(INFO)).text, `{"SAE_ID":${json},"KME_ID":${kme}}\n`);
    const status = await client.status(id);
    assert.equal(status.json.source_KME_ID, kme);
    assert.equal(status.json.target_KME_ID, kme);
    assert.equal(status.json.master_SAE_ID, String(id));
    assert.equal(status.json.slave_SAE_ID, String(id));
  }
  // Neighbours that would be the same number are told apart.
  const [keyId] = keyIdsOf(await network.client(1).encKeys("9007199254740993"));
  assertProblem(await network.client("9007199254740992").decKeys(1, keyId!), 401);
  assert.deepEqual(keyIdsOf(await network.client("9007199254740993").decKeys(1, keyId!)), [keyId]);
  for (const id of ["9007199254740994", "9007199254740993.0", "07", "1.0", "+1", "-0", "Seven"]) {
    assertProblem(await network.client(1).status(id), 400);
  }
  assert.equal(await stockOf(network.client(1), 1), 19);
});

Deno.test("a KME whose id is a string sends it as a string", async () => {
  await using network = await startNetwork({ kmes: [{ id: "north", saes: ["alice", 5] }] });
  assert.equal((await network.client("alice").raw(INFO)).text, '{"SAE_ID":"alice","KME_ID":"north"}\n');
  assert.equal((await network.client(5).raw(INFO)).text, '{"SAE_ID":5,"KME_ID":"north"}\n');
  const { json } = await network.client("alice").status(5);
  assert.deepEqual([json.source_KME_ID, json.target_KME_ID], ["north", "north"]);
});

Deno.test("ids of any form reach the other KME", async () => {
  const big = "9007199254740993";
  await using network = await startNetwork(
    {
      kmes: [{ id: "9007199254740995", saes: ["alice é/1", big, 1] }, {
        id: "south",
        saes: ["18446744073709551615", "bob", 2],
      }],
    },
    ["9007199254740995", "south", 30],
  );
  for (
    const [a, b] of [["alice é/1", "bob"], [big, "18446744073709551615"], [1, 2], [big, "bob"], [1, "bob"]]
  ) {
    for (const [master, slave] of [[a!, b!], [b!, a!]] as const) {
      const [keyId] = keyIdsOf(await network.client(master).encKeys(slave));
      assert.deepEqual(keyIdsOf(await network.client(slave).decKeys(master, keyId!)), [keyId]);
    }
  }
});
