/** `kme store rekey`, killed again and again: it continues where it was, and every key is still there once. */
import assert from "node:assert/strict";
import { eventually } from "../harness/eventually.ts";
import { startChild } from "../harness/child_process.ts";
import { runKme } from "../harness/kme_process.ts";
import { keysOf } from "../harness/sae_client.ts";
import { makeTestNetwork } from "../harness/test_network.ts";

const BLOCKS = 20_000;
const KILLS = 10;
const SCRIPT = new URL("./rekeying.ts", import.meta.url).pathname;

Deno.test("a rekeying that is killed ten times, and once while it turns encryption on, ends well", async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [11, 12], database: "sqlite" }] });
  const { directory, configPath } = network.kme(1);
  const [keyFile, newKeyFile] = ["a", "b"].map((name) => `${directory}/${name}-test-store.key`) as [
    string,
    string,
  ];
  await Deno.writeTextFile(keyFile, "7e57".repeat(16), { mode: 0o600 });
  await Deno.writeTextFile(newKeyFile, "7e58".repeat(16), { mode: 0o600 });
  const database = `${directory}/kme.db`;
  const kill = async (transactions: number, newKey: string) => {
    const child = startChild(Deno.execPath(), {
      args: ["run", "-A", "--no-check", SCRIPT, database, keyFile, newKey],
    });
    let ended = false;
    void child.exited.then(() => ended = true);
    const isThere = () =>
      child.lines.filter((line) => /transaction is done/.test(line)).length >= transactions;
    // On a slow machine a kill may come so late that a later one finds nothing left to do.
    await eventually(() => Promise.resolve(isThere() || ended), { timeout: 60_000 });
    child.signal("SIGKILL");
    await child.exited;
  };

  const stockOf = async () => (await network.client(11).status(12)).json.stored_key_count as number;
  await network.writeKeyFile(1, 1, BLOCKS);
  const first = await network.start(1);
  await eventually(async () => await stockOf() === BLOCKS, { timeout: 60_000 });
  const waiting = keysOf(await network.client(11).encKeys(12, { number: 100 }));
  await first.stop();

  const rekey = (...args: string[]) => runKme(["store", "rekey", configPath, ...args]);
  const without = await rekey();
  assert.equal(without.code, 1);
  assert.match(without.stderr, /this_kme.store_encryption is missing; set it/);

  await network.writeConfig(1, ({ this_kme }) => this_kme.store_encryption = { key_file: keyFile });
  const refused = await runKme(["start", configPath]);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /not encrypted, but .* is set; encrypt them with: kme store rekey/);
  await kill(3, keyFile);
  const partly = await runKme(["start", configPath]);
  assert.match(
    partly.stderr,
    /only a part of the keys in the database is encrypted; continue with: kme store rekey/,
  );
  const on = await rekey();
  assert.equal(on.code, 0, on.stderr);
  assert.match(
    on.stdout,
    /encrypted with a new key: the bits of \d+ blocks and keys; the rest was done before/,
  );

  for (let i = 0; i < KILLS; i++) await kill(1, newKeyFile);
  const changed = await rekey("--new-key-file", newKeyFile);
  assert.equal(changed.code, 0, changed.stderr);
  assert.match(changed.stdout, /only .*b-test-store.key opens the database now/);
  const old = await runKme(["start", configPath]);
  assert.equal(old.code, 1);
  assert.match(old.stderr, /is not the master key/);

  await network.writeConfig(1, ({ this_kme }) => this_kme.store_encryption = { key_file: newKeyFile });
  const again = await network.start(1);
  assert.equal(await stockOf(), BLOCKS - waiting.length);
  const read = keysOf(await network.client(12).decKeys(11, waiting.map(({ key_ID }) => key_ID)));
  assert.deepEqual(read.map(({ key }) => key), waiting.map(({ key }) => key));
  const seen = new Set(read.map(({ key }) => key));
  for (let left = BLOCKS - waiting.length; left > 0; left -= 100) {
    for (const { key } of keysOf(await network.client(11).encKeys(12, { number: 100 }))) seen.add(key);
  }
  assert.equal(seen.size, BLOCKS);
  assert.equal(await again.stop(), 0);
});
