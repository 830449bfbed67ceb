/** The thread of an SQLite database hangs or ends while its KME runs. */
import assert from "node:assert/strict";
import { eventually } from "../harness/eventually.ts";
import { makeTestNetwork, type TestNetwork } from "../harness/test_network.ts";
import { keysOf } from "../harness/sae_client.ts";
import { ledgerOf } from "../harness/ledger_queries.ts";

const program = { script: new URL("./breakable_kme.ts", import.meta.url).pathname };
const ignore = Deno.build.os === "windows";

async function makeNetwork(): Promise<TestNetwork> {
  const network = await makeTestNetwork({ kmes: [{ id: 1, saes: [11, 12], database: "sqlite" }] });
  await network.writeKeyFile(1, 1, 100);
  return network;
}

const stockOf = async (network: TestNetwork) =>
  (await network.client(11).status(12)).json.stored_key_count as number;

Deno.test(
  { name: "a KME whose database thread ends stops with a clear line, and can be started again", ignore },
  async () => {
    await using network = await makeNetwork();
    const kme = await network.start(1, { program });
    await eventually(async () => await stockOf(network) === 100);
    const master = network.client(11);
    const [key] = keysOf(await master.encKeys(12));
    kme.signal("SIGUSR2");
    const { code } = await kme.exited;
    assert.equal(code, 1);
    assert.ok(
      kme.lines.some((line) =>
        /the thread of the database has ended: .*broken for a test.*stopping/.test(line)
      ),
      kme.lines.join("\n"),
    );
    const ledger = ledgerOf(network.kme(1));
    assert.equal(ledger.blocks.size, 99);

    const again = await network.start(1);
    await eventually(async () => await stockOf(network) === 99);
    assert.equal(keysOf(await network.client(12).decKeys(11, key!.key_ID))[0]!.key, key!.key);
    assert.equal(await again.stop(), 0);
  },
);

Deno.test(
  { name: "a KME whose database hangs answers 503 within seconds, status at once, and recovers", ignore },
  async () => {
    await using network = await makeNetwork();
    const kme = await network.start(1, { program });
    await eventually(async () => await stockOf(network) === 100);
    const master = network.client(11);
    kme.signal("SIGUSR1");
    const begin = performance.now();
    // Requests that arrive before it hangs are served.
    await eventually(async () => (await master.encKeys(12)).status === 503, { interval: 0 });
    assert.ok(performance.now() - begin < 10_000);
    const during = await stockOf(network);
    kme.signal("SIGUSR1");
    const response = await eventually(async () => {
      const response = await master.encKeys(12);
      return response.status === 200 && response;
    });
    assert.equal(keysOf(response).length, 1);
    // The request that was answered with 503 may have been executed; no SAE has its key.
    assert.ok(await stockOf(network) >= during - 2);
    assert.equal(await kme.stop(), 0);
  },
);
