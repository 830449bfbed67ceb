/** A KME of an older version of the inter-KME protocol at the other end of a link. */
import assert from "node:assert/strict";
import { PeerPath } from "../../src/inter_kme/wire.ts";
import { eventually } from "../harness/eventually.ts";
import { keyIdsOf } from "../harness/sae_client.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { stockOf } from "../sae_api/api_fixture.ts";
import { mask } from "./masked_kme.ts";
import { agreeOn, put, random, statusOf } from "./stock_network.ts";

const SHARED = 20;
const STRAYS = 40;

Deno.test("version 1, which does not compare stocks: what both ends have is delivered, behind blocks that one end has", async () => {
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, saes: [1], console: true }, { id: 2, saes: [3], console: true }],
  });
  // Neither end learns from the other what it has.
  await using there = await mask(network, 1, 2, 1);
  await using here = await mask(network, 2, 1, 1);
  await put(network, 1, "a.cor", random(STRAYS));
  const shared = random(SHARED);
  await put(network, 1, "b.cor", shared);
  await put(network, 2, "b.cor", shared);
  await network.startAll();
  await eventually(async () => await stockOf(network.client(3), 1) === SHARED, { what: "the file at KME 2" });

  const given = new Set<string>();
  await eventually(async () => {
    const answer = await network.client(1).encKeys(3);
    if (answer.status === 200) {
      const [id] = keyIdsOf(answer);
      given.add(id!);
      assert.equal((await network.client(3).decKeys(1, id!)).status, 200);
    }
    return given.size === SHARED;
  }, { what: "all shared blocks", timeout: 180_000, interval: 1 });
  assert.equal((await network.client(1).encKeys(3)).status, 503);
  for (const { paths } of [there, here]) {
    assert.ok(paths.has(PeerPath.hello));
    assert.ok(!paths.has(PeerPath.stock), "it was asked although it does not know the question");
  }
  const { unmatched, comparedAt } = await statusOf(network, 1);
  assert.deepEqual([unmatched, comparedAt], [0, null], "nothing is said about what is not known");
});

Deno.test("version 2, the first that compares stocks: both ends agree on what they share", async () => {
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, saes: [1], console: true }, { id: 2, saes: [3], console: true }],
  });
  await using there = await mask(network, 1, 2, 2);
  await using _here = await mask(network, 2, 1, 2);
  await put(network, 1, "a.cor", random(STRAYS));
  const shared = random(SHARED);
  await put(network, 1, "b.cor", shared);
  await put(network, 2, "b.cor", shared);
  await network.startAll();
  await agreeOn(network, SHARED);
  assert.ok(there.paths.has(PeerPath.stock));
  for (let i = 0; i < SHARED; i++) assert.equal((await network.client(1).encKeys(3)).status, 200);
});
