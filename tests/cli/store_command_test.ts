/** `kme store rekey`, through the command line, on each database: not while a KME runs. */
import assert from "node:assert/strict";
import { databaseTest } from "../harness/databases.ts";
import { eventually } from "../harness/eventually.ts";
import { runKme } from "../harness/kme_process.ts";
import { keysOf } from "../harness/sae_client.ts";
import { encryptStore } from "../harness/stored_bits.ts";
import { makeTestNetwork } from "../harness/test_network.ts";

const BLOCKS = 20;

/** @param refusal what the command says while the KME runs. */
async function rekeyBesides(database: string, refusal: RegExp): Promise<void> {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1, 2], database }] });
  const { configPath, directory } = network.kme(1);
  const [master, slave] = [network.client(1), network.client(2)];
  await encryptStore(network, 1);
  await network.writeKeyFile(1, 1, BLOCKS);
  const kme = await network.start(1);
  await eventually(async () => (await master.status(2)).json.stored_key_count === BLOCKS);
  const waiting = keysOf(await master.encKeys(2, { number: 3 }));
  const newKey = `${directory}/new-test-store.key`;
  await Deno.writeTextFile(newKey, "7e57".repeat(16), { mode: 0o600 });
  for (const options of [[], ["--new-key-file", newKey]]) {
    const refused = await runKme(["store", "rekey", configPath, ...options]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, refusal);
    assert.doesNotMatch(refused.stdout, /encrypted/);
  }
  const [first] = keysOf(await slave.decKeys(1, waiting[0]!.key_ID));
  assert.equal(first!.key, waiting[0]!.key);
  assert.equal(await kme.stop(), 0);

  const done = await runKme(["store", "rekey", configPath]);
  assert.equal(done.code, 0, done.stderr);
  assert.match(
    done.stdout,
    new RegExp(`^encrypted with a new key: the bits of ${BLOCKS - 1} blocks and keys$`, "m"),
  );
  await network.start(1);
  const read = keysOf(await slave.decKeys(1, waiting.slice(1).map(({ key_ID }) => key_ID)));
  assert.deepEqual(read.map(({ key }) => key), waiting.slice(1).map(({ key }) => key));
  assert.equal(keysOf(await master.encKeys(2, { number: BLOCKS - 3 })).length, BLOCKS - 3);
}

Deno.test(
  "sqlite: keys are not changed under a running KME",
  () => rekeyBesides("sqlite", /the database file .*kme\.db is in use by another process$/m),
);

for (const kind of ["postgres", "mariadb"] as const) {
  databaseTest(
    kind,
    "keys are not changed under a running KME",
    (uri) =>
      rekeyBesides(
        uri,
        /a process of this KME uses the database, or did a moment ago; stop every KME process/,
      ),
  );
}
