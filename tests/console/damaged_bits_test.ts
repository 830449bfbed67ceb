/** Stored bits that were altered: their keys are refused, and the log, the metrics and the console say it. */
import assert from "node:assert/strict";
import { eventually } from "../harness/eventually.ts";
import { keysOf } from "../harness/sae_client.ts";
import { damageBits, encryptStore } from "../harness/stored_bits.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { scrape } from "../metrics/scrape.ts";
import { assertProblem } from "../sae_api/api_fixture.ts";

Deno.test("damaged bits are refused, logged, counted and shown on the console; other keys are delivered", async () => {
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, saes: [1, 2], database: "sqlite", console: true }],
  });
  const [master, slave] = [network.client(1), network.client(2)];
  await encryptStore(network, 1);
  await network.writeKeyFile(1, 1, 6);
  const before = await network.start(1);
  await eventually(async () => (await master.status(2)).json.stored_key_count === 6);
  const [waiting] = keysOf(await master.encKeys(2));
  assert.equal(await before.stop(), 0);
  damageBits(
    network.kme(1),
    "state = 3 or seq in (select seq from blocks where state = 0 order by seq limit 2)",
  );

  const kme = await network.start(1);
  const origin = `http://127.0.0.1:${network.kme(1).consolePort}`;
  const samples = async () => scrape(await (await fetch(`${origin}/metrics`)).text());
  const healthy = await samples();
  assert.equal(healthy.value("kme_store_encrypted"), 1);
  assert.deepEqual(healthy.of("kme_store_damaged_total"), { 'what="block"': 0, 'what="key"': 0 });

  assertProblem(await slave.decKeys(1, waiting!.key_ID), 503);
  const good = [1, 2, 3].map(async () => keysOf(await master.encKeys(2)));
  assert.equal((await Promise.all(good)).flat().length, 3);
  assertProblem(await master.encKeys(2), 503);

  assert.deepEqual((await samples()).of("kme_store_damaged_total"), { 'what="block"': 2, 'what="key"': 1 });
  const incidents: { kind: string; severity: string; message: string; count: number }[] =
    await (await fetch(`${origin}/incidents`)).json();
  const damage = incidents.filter(({ kind }) => kind === "database");
  assert.deepEqual(damage.map(({ severity, count }) => [severity, count]), [["error", 1], ["error", 2]]);
  assert.equal(
    damage[0]!.message,
    `the stored bits of key ${
      waiting!.key_ID
    } of the link with KME 1 were altered or belong to another row; it is not delivered`,
  );
  assert.match(
    damage[1]!.message,
    /^the stored bits of block [-0-9a-f]{36} of the link with KME 1 were altered .*; it is not used$/,
  );
  for (const what of ["key", "block"]) {
    await kme.waitForLine(new RegExp(`the stored bits of ${what} .* were altered`));
  }
});
