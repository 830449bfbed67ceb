/** Key files as a running KME handles them. */
import assert from "node:assert/strict";
import { eventually } from "../harness/eventually.ts";
import { runKme } from "../harness/kme_process.ts";
import { keyIdsOf } from "../harness/sae_client.ts";
import { makeTestNetwork, type TestNetwork } from "../harness/test_network.ts";
import { stockOf } from "../sae_api/api_fixture.ts";
import { scrape } from "../metrics/scrape.ts";

const oneKme = (database: string, options: Record<string, unknown> = {}) => ({
  kmes: [{ id: 1, saes: [1, 2], database, options, console: true }],
});

async function get(network: TestNetwork, path: string): Promise<string> {
  return await (await fetch(`http://127.0.0.1:${network.kme(1).consolePort}${path}`)).text();
}

async function sample(network: TestNetwork, name: string): Promise<number | undefined> {
  return scrape(await get(network, "/metrics")).of(name)['kme="1"'];
}

Deno.test("a symbolic link to the KME's private key, and zeros, never become keys, and this is reported everywhere", async () => {
  await using network = await makeTestNetwork(oneKme(":memory:"));
  const directory = network.keyDirectory(1, 1);
  const { this_kme } = network.kme(1).config;
  await Deno.symlink(this_kme.saes_https_interface.server_key_path, `${directory}/link.cor`);
  await network.writeKeyFile(1, 1, new Uint8Array(64), { name: "zeros.cor" });
  const kme = await network.start(1);
  await eventually(async () => {
    assert.equal(await sample(network, "kme_refused_files_total"), 2);
    return true;
  });
  assert.equal((await network.client(1).encKeys(2)).status, 503);
  assert.equal(await stockOf(network.client(1), 2), 0);
  await kme.waitForLine(/link\.cor .* is a symbolic link; it is not ingested/);
  const { links, delivery } = JSON.parse(await get(network, "/status"));
  const errors = links[0].files.map(({ file, error }: { file: string; error: string }) => `${file} ${error}`);
  assert.match(errors.join("\n"), /zeros\.cor does not look random/);
  assert.match(JSON.stringify(delivery.problems), /link\.cor .* symbolic link/);
});

Deno.test("key files that stay are served again by a database in memory with a warning", async () => {
  await using network = await makeTestNetwork(oneKme(":memory:", { delete_key_file_after_read: false }));
  await network.writeKeyFile(1, 1, 3, { name: "a.cor" });
  const first = await network.start(1);
  await eventually(async () => {
    assert.equal(await stockOf(network.client(1), 2), 3);
    return true;
  });
  assert.equal(await sample(network, "kme_served_again_files"), 0);
  await first.stop();

  const check = await runKme(["check", network.kme(1).configPath]);
  assert.match(check.stdout, /1 in .* were ingested into another database before/);
  const second = await network.start(1);
  await eventually(async () => {
    assert.equal(await stockOf(network.client(1), 2), 3);
    return true;
  });
  await second.waitForLine(/a\.cor .* was ingested into another database before/);
  assert.equal(await sample(network, "kme_served_again_files"), 1);
  assert.match(await get(network, "/status"), /may have been served before from another database/);
});

Deno.test("a new database file refuses key files that another one served, unless reingest_served_files is set", async () => {
  await using network = await makeTestNetwork(oneKme(":memory:", { delete_key_file_after_read: false }));
  await network.writeKeyFile(1, 1, 3, { name: "a.cor" });
  const first = await network.start(1);
  await eventually(async () => {
    assert.equal(await stockOf(network.client(1), 2), 3);
    return true;
  });
  await first.stop();
  const { directory } = network.kme(1);
  await network.writeConfig(1, (config) => config.this_kme.db_uri = `sqlite://${directory}/kme.db`);
  const refusing = await network.start(1);
  await refusing.waitForLine(/a\.cor .*reingest_served_files; it is not ingested/);
  assert.equal(await stockOf(network.client(1), 2), 0);
  await refusing.stop();
  await network.writeConfig(1, (config) => config.this_kme.reingest_served_files = true);
  await network.start(1);
  await eventually(async () => {
    assert.equal(await stockOf(network.client(1), 2), 3);
    return true;
  });
});

Deno.test("a full link continues to ingest as soon as keys were delivered, not at the next scan", async () => {
  await using network = await makeTestNetwork(oneKme(":memory:", { max_key_count: 4 }));
  await network.writeKeyFile(1, 1, 7 * 4, { name: "a.cor" });
  await network.start(1);
  const client = network.client(1);
  await eventually(async () => {
    assert.equal(await stockOf(client, 2), 4);
    return true;
  });
  const begun = performance.now();
  for (let i = 0; i < 6; i++) {
    assert.equal(keyIdsOf(await client.encKeys(2, { number: 4 })).length, 4);
    await eventually(async () => {
      assert.equal(await stockOf(client, 2), 4);
      return true;
    }, { timeout: 40_000 });
  }
  // With the scan alone, which comes every 10 s, six refills take more than 50 s.
  assert.ok(performance.now() - begun < 40_000);
});

Deno.test("a key directory that all users may write is a warning of the check", async () => {
  if (Deno.build.os === "windows") return;
  await using network = await makeTestNetwork(oneKme(":memory:"));
  await Deno.chmod(network.keyDirectory(1, 1), 0o777);
  const check = await runKme(["check", network.kme(1).configPath]);
  assert.match(check.stdout, /may be written by all users/);
});
