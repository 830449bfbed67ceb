/** `kme_max_age_seconds`: only keys of blocks that were stored at most so long ago. */
import assert from "node:assert/strict";
import { databaseTest } from "../harness/databases.ts";
import { eventually } from "../harness/eventually.ts";
import { assertProblem, oneKmeWith, startNetwork, stockOf } from "../sae_api/api_fixture.ts";
import { assertEachReadsOnce, bitsOf, triangleWithTail } from "./test_networks.ts";

const UNMET = "not all extension_mandatory request options could be met";
const HOUR = { extension_mandatory: [{ kme_max_age_seconds: 3600 }] };
const NOW = { extension_mandatory: [{ kme_max_age_seconds: 0 }] };

Deno.test("recent enough keys are delivered, within a KME, over a link and over a relay", async () => {
  await using network = await startNetwork(triangleWithTail, [1, 1, 6], [1, 2, 6], [1, 3, 6], [3, 4, 6]);
  for (const slave of [11, 2, 4]) {
    const enc = await network.client(1).encKeys(slave, { ...HOUR, size: 512, number: 2 });
    assert.equal(enc.status, 200, enc.status === 200 ? "" : enc.text);
    await assertEachReadsOnce(network, enc, 1, [slave]);
    // A very short age: there are keys, but none so recent. More keys than there are: the reason is not the age.
    assertProblem(await network.client(1).encKeys(slave, NOW), 400, UNMET);
    assertProblem(await network.client(1).encKeys(slave, { ...NOW, number: 3 }), 503);
    assertProblem(await network.client(1).encKeys(slave, { ...HOUR, number: 3 }), 503);
    assert.equal(await stockOf(network.client(1), slave), 2);
  }
});

Deno.test("the pads of other links may be of any age, but there must be enough of them", async () => {
  await using network = await startNetwork(triangleWithTail, [1, 2, 6], [1, 3, 1]);
  const several = { additional_slave_SAE_IDs: ["3"] };
  assertProblem(await network.client(1).encKeys(2, { ...NOW, ...several, number: 2 }), 503);
  assertProblem(await network.client(1).encKeys(2, { ...NOW, ...several }), 400, UNMET);
  const enc = await network.client(1).encKeys(2, { ...HOUR, ...several });
  assert.equal(enc.status, 200, enc.status === 200 ? "" : enc.text);
  await assertEachReadsOnce(network, enc, 1, [2, 3]);
});

Deno.test("of old and recent blocks only the recent ones are used, and the old ones stay for other requests", async () => {
  const old = crypto.getRandomValues(new Uint8Array(32 * 3));
  await using network = await startNetwork({ kmes: [{ id: 1, saes: [1, 11] }] }, [1, 1, old]);
  const since = Date.now();
  // What is stored from here on is younger, by more than a request takes.
  await eventually(() => Date.now() > since + 1500);
  await network.writeKeyFile(1, 1, 2);
  const client = network.client(1);
  await eventually(async () => await stockOf(client, 11) === 5);
  const oldBlocks = new Set([0, 1, 2].map((i) => old.subarray(32 * i, 32 * i + 32).toHex()));
  const young = () => ({ extension_mandatory: [{ kme_max_age_seconds: (Date.now() - since) / 1000 }] });
  assertProblem(await client.encKeys(11, { ...young(), number: 3 }), 400, UNMET);
  const enc = await client.encKeys(11, { ...young(), number: 2 });
  assert.ok(bitsOf(enc).every((bits) => !oldBlocks.has(bits.toHex())), "an old block was delivered");
  assertProblem(await client.encKeys(11, young()), 400, UNMET);
  const rest = await client.encKeys(11, { number: 3 });
  assert.ok(bitsOf(rest).every((bits) => oldBlocks.has(bits.toHex())));
});

databaseTest("postgres", "an age of part of a second or of ages is one like any other", async (uri) => {
  await using network = await startNetwork(oneKmeWith({}, uri), [1, 1, 6]);
  const client = network.client(1);
  const withAge = (text: string) =>
    client.raw({
      method: "POST",
      path: "/api/v1/keys/2/enc_keys",
      headers: { "content-type": "application/json" },
      body: `{"extension_mandatory":[{"kme_max_age_seconds":${text}}]}`,
    });
  for (const text of ["0.0001", "1e-300", "-0"]) assertProblem(await withAge(text), 400, UNMET);
  for (const text of ["3600.0001", "1e300", "1e999", "9007199254740993", "1e17"]) {
    assert.equal((await withAge(text)).status, 200, text);
  }
  assertProblem(await withAge("-1e999"), 400, /kme_max_age_seconds/);
  assert.equal(await stockOf(client, 2), 1);
});

Deno.test("an invalid age is 400 with the name of the parameter; as an optional extension it is ignored", async () => {
  await using network = await startNetwork({ kmes: [{ id: 1, saes: [1, 11] }] }, [1, 1, 3]);
  const client = network.client(1);
  for (const value of ["60", -1, null, true, [], {}]) {
    assertProblem(
      await client.encKeys(11, { extension_mandatory: [{ kme_max_age_seconds: value }] }),
      400,
      /kme_max_age_seconds/,
    );
  }
  // Of two, both hold.
  assertProblem(
    await client.encKeys(11, {
      extension_mandatory: [{ kme_max_age_seconds: 0 }, { kme_max_age_seconds: 3600 }],
    }),
    400,
    UNMET,
  );
  // Beside an unknown one it does not matter whether it could be met.
  assertProblem(
    await client.encKeys(11, { extension_mandatory: [{ kme_max_age_seconds: 0, abc_route_type: "direct" }] }),
    400,
    "not all extension_mandatory parameters are supported",
    [{ extension_mandatory_unsupported: "abc_route_type is not supported" }],
  );
  assert.equal(await stockOf(client, 11), 3);
  const optional = { extension_optional: [{ kme_max_age_seconds: 0 }] };
  assert.equal((await client.encKeys(11, optional)).status, 200);
});
