/** `/metrics` of real KMEs. */
import assert from "node:assert/strict";
import { eventually } from "../harness/eventually.ts";
import { makeTestNetwork, type TestNetwork } from "../harness/test_network.ts";
import { findProgram, testWith } from "../harness/installed.ts";
import { type Samples, scrape } from "./scrape.ts";

const PROMTOOL = findProgram("/usr/bin/promtool", "/usr/local/bin/promtool");

function makeNetwork(): Promise<TestNetwork> {
  return makeTestNetwork({
    kmes: [
      { id: 1, saes: [1, 2], console: true, options: { key_lifetime_seconds: 2 } },
      { id: 2, saes: [3], console: true, options: { key_lifetime_seconds: 2 } },
    ],
  });
}

async function textOf(network: TestNetwork, kme: number): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${network.kme(kme).consolePort}/metrics`);
  assert.equal(response.status, 200);
  assert.match(response.headers.get("content-type")!, /^text\/plain; version=0\.0\.4/);
  return await response.text();
}

const samplesOf = async (network: TestNetwork, kme: number): Promise<Samples> =>
  scrape(await textOf(network, kme));

Deno.test("what happens to keys, files and requests is counted, on both ends", async () => {
  await using network = await makeNetwork();
  await network.writeKeyFile(1, 2, 30);
  await network.writeKeyFile(1, 1, 5);
  const [, second] = await network.startAll();
  const sae = network.client(1);

  const remote = await sae.encKeys(3, { number: 3 });
  assert.equal(remote.status, 200, remote.text);
  const ids = remote.json.keys.map(({ key_ID }: { key_ID: string }) => key_ID);
  assert.equal((await network.client(3).decKeys(1, ids.slice(0, 2))).status, 200);
  assert.equal((await sae.encKeys(2, { number: 1 })).status, 200);
  // Refused: wrong, out of stock, not the caller's, no such resource.
  assert.equal((await sae.encKeys(3, { number: 0 })).status, 400);
  assert.equal((await sae.encKeys(2, { number: 50 })).status, 503);
  assert.equal((await network.client(1).decKeys(3, [ids[2]!])).status, 401);

  const one = await samplesOf(network, 1);
  assert.deepEqual(one.of("kme_keys_delivered_total"), { 'kme="1"': 1, 'kme="2"': 3 });
  assert.deepEqual(one.of("kme_link_free_blocks"), { 'kme="1"': 4, 'kme="2"': 27 });
  assert.deepEqual(one.of("kme_ingested_blocks_total"), { 'kme="1"': 5, 'kme="2"': 30 });
  assert.deepEqual(one.of("kme_peer_up"), { 'kme="2"': 1 });
  assert.deepEqual(one.of("kme_requests_refused_total"), {
    'listener="sae",status="400",reason="invalid"': 1,
    'listener="sae",status="503",reason="out_of_keys"': 1,
    'listener="sae",status="401",reason="unauthorized"': 1,
  });
  assert.equal(one.of("kme_activation_duration_seconds_count")['kme="2",outcome="activated"'], 1);
  assert.equal(one.value("kme_ready"), 1);
  assert.equal(one.value("kme_database_errors_total"), 0);
  assert.equal(one.value("kme_keys_collected_total"), 0);
  assert.ok(one.value("kme_events_total")! >= 7);
  const entropy = one.value("kme_key_entropy_ratio")!;
  assert.ok(entropy > 0.8 && entropy <= 1, `${entropy}`);
  await eventually(
    async () => (await samplesOf(network, 1)).of("kme_ingested_files_total")['kme="2"'] === 1,
    { what: "the file is counted" },
  );
  const expiries = Object.values(one.of("kme_certificate_expiry_timestamp_seconds"));
  assert.equal(expiries.length, 6);
  for (const expiry of expiries) assert.ok(expiry > Date.now() / 1000);

  const two = await samplesOf(network, 2);
  assert.deepEqual(two.of("kme_keys_activated_total"), { 'kme="1"': 3 });
  assert.equal(two.value("kme_keys_collected_total"), 2);
  // One key is left to expire at each KME.
  await eventually(
    async () => (await samplesOf(network, 2)).value("kme_keys_expired_total") === 1,
    { what: "a key expired", timeout: 20_000 },
  );

  await second!.stop();
  assert.equal((await sae.encKeys(3)).status, 503);
  // The state of the neighbours may be half a second old.
  const after = await eventually(async () => {
    const samples = await samplesOf(network, 1);
    return samples.of("kme_peer_up")['kme="2"'] === 0 && samples;
  }, { what: "KME 2 is down" });
  assert.equal(after.of("kme_requests_refused_total")['listener="sae",status="503",reason="peer"'], 1);
  const outcomes = Object.keys(after.of("kme_activation_duration_seconds_count"));
  assert.ok(outcomes.some((labels) => /unreached|unknown/.test(labels)), outcomes.join(" "));
});

Deno.test("the process is watched as well", async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1], console: true }] });
  await network.start(1);
  const samples = await samplesOf(network, 1);
  assert.ok(samples.value("process_resident_memory_bytes")! > 1e7);
  assert.ok(Math.abs(samples.value("process_start_time_seconds")! - Date.now() / 1000) < 600);
  assert.match(
    Object.keys(samples.of("kme_build_info"))[0]!,
    /^version="\d+\.\d+\.\d+",deno="\d+\.\d+\.\d+"$/,
  );
});

testWith(PROMTOOL, "prometheus is not installed", "promtool accepts /metrics", async (promtool) => {
  await using network = await makeNetwork();
  await network.writeKeyFile(1, 2, 3);
  await network.startAll();
  assert.equal((await network.client(1).encKeys(3)).status, 200);
  assert.equal((await network.client(1).encKeys(3, { number: 100 })).status, 503);
  const text = await textOf(network, 1);
  const child = new Deno.Command(promtool, {
    args: ["check", "metrics"],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(text));
  await writer.close();
  const { code, stdout, stderr } = await child.output();
  const said = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  assert.deepEqual([code, said], [0, ""]);
});
