/** Keys by SKIP: the same keys as by ETSI GS QKD 014, with the same rules. */
import assert from "node:assert/strict";
import { keysOf } from "../harness/sae_client.ts";
import { assertForm, assertProblem, startNetwork, stockOf } from "../sae_api/api_fixture.ts";
import { assertSameBits, SkipClient, skipKeyOf, toSkipId, toUuid, twoSkipKmes } from "./skip_fixture.ts";

Deno.test("SKIP delivers the keys of ETSI GS QKD 014", async (t) => {
  await using network = await startNetwork(twoSkipKmes, [1, 2, 100]);
  const initiator = new SkipClient(network, 1);
  const responder = new SkipClient(network, 3);
  const other = new SkipClient(network, 5);

  await t.step("a key of one end is read once at the other, with the same bits", async () => {
    const response = await initiator.newKey(3);
    assertForm(response);
    const key = skipKeyOf(response);
    const fetched = await responder.keyById(key.keyId, 1);
    assertForm(fetched);
    assert.ok(skipKeyOf(fetched).key === key.key && fetched.json.keyId === key.keyId, "other key");
    assertProblem(await responder.keyById(key.keyId, 1), 400, /not found/);
  });

  await t.step("sizes", async () => {
    for (const size of [128, 192, 256, 512]) {
      const key = skipKeyOf(await initiator.newKey(3, size), size);
      assert.ok(skipKeyOf(await responder.keyById(key.keyId, 1), size).key === key.key, "other key");
    }
  });

  await t.step("a key by SKIP is read by ETSI GS QKD 014, and the reverse", async () => {
    const bySkip = skipKeyOf(await initiator.newKey(3));
    const [by014] = keysOf(await network.client(3).decKeys(1, toUuid(bySkip.keyId)));
    assertSameBits(bySkip, by014!.key);
    assertProblem(await responder.keyById(bySkip.keyId, 1), 400, /not found/);

    const [first, second] = keysOf(await network.client(1).encKeys(3, { number: 2 }));
    assertSameBits(skipKeyOf(await responder.keyById(toSkipId(first!.key_ID), 1)), first!.key);
    // The key_ID as 014 writes it, in any case.
    const fetched = skipKeyOf(await responder.keyById(second!.key_ID.toUpperCase(), 1));
    assertSameBits(fetched, second!.key);
    assertProblem(await network.client(3).decKeys(1, first!.key_ID), 400, /not found/);
  });

  await t.step("a key is for its slave only, and other requests do not consume it", async () => {
    const { keyId } = skipKeyOf(await initiator.newKey(3));
    assertProblem(await other.keyById(keyId, 1), 401);
    assertProblem(await initiator.keyById(keyId, 3), 401);
    assertProblem(await responder.keyById(keyId, 2), 400, /not found/);
    assert.equal((await responder.keyById(keyId, 1)).status, 200);
  });

  await t.step("an additional slave of 014 reads by SKIP", async () => {
    const [key] = keysOf(
      await network.client(1).encKeys(3, { additional_slave_SAE_IDs: ["5"] }),
    );
    for (const slave of [responder, other]) {
      assertSameBits(skipKeyOf(await slave.keyById(toSkipId(key!.key_ID), 1)), key!.key);
    }
  });

  await t.step("a refused request takes nothing from the stock", async () => {
    const before = await stockOf(network.client(1), 3);
    for (const path of ["/key?remoteSystemID=3&size=100", "/key?remoteSystemID=3&sise=128", "/key"]) {
      assertProblem(await initiator.get(path), 400);
    }
    assert.equal((await initiator.raw("HEAD", "/key?remoteSystemID=3")).status, 405);
    assert.equal(await stockOf(network.client(1), 3), before);
  });

  await t.step("both interfaces share one stock: 503 when it is used up", async () => {
    const left = await stockOf(network.client(1), 3);
    keysOf(await network.client(1).encKeys(3, { number: left }));
    assertProblem(await initiator.newKey(3), 503);
  });
});

Deno.test("capabilities and entropy", async () => {
  await using network = await startNetwork(twoSkipKmes);
  const client = new SkipClient(network, 1);
  const capabilities = await client.get("/capabilities");
  assertForm(capabilities);
  assert.deepEqual(capabilities.json, {
    entropy: true,
    key: true,
    algorithm: "QKD",
    localSystemID: "1",
    remoteSystemID: ["3", "5"],
  });
  const other = await new SkipClient(network, 3).get("/capabilities/");
  assert.deepEqual([other.json.localSystemID, other.json.remoteSystemID], ["3", ["1", "2"]]);

  const seen = new Set<string>();
  for (
    const [query, bits] of [["", 256], ["?minentropy=128", 128], ["?minentropy=12", 12], ["", 256]] as const
  ) {
    const { status, json } = await client.get(`/entropy${query}`);
    assert.deepEqual([status, json.minentropy, Object.keys(json)], [200, bits, ["randomStr", "minentropy"]]);
    assert.match(json.randomStr, new RegExp(`^[0-9a-f]{${2 * Math.ceil(bits / 8)}}$`));
    seen.add(json.randomStr);
  }
  assert.equal(seen.size, 4);
});
