/** Links that get their keys from a pair of QKD devices, which here are KMEs of this program. */
import assert from "node:assert/strict";
import { addressesOf, DEVICES, makeDeviceNetwork } from "../harness/device_network.ts";
import { eventually } from "../harness/eventually.ts";
import { makeTestNetwork, type TestNetwork } from "../harness/test_network.ts";
import { assertSameKeys, keyIdsOf } from "../harness/sae_client.ts";
import { stockOf } from "../sae_api/api_fixture.ts";

async function startDevices(blocks: number): Promise<TestNetwork> {
  const devices = await makeTestNetwork(DEVICES);
  await devices.writeKeyFile(101, 102, blocks);
  await devices.startAll();
  return devices;
}

/** Waits until both ends of the link have so many free blocks. */
async function untilStocked(network: TestNetwork, blocks: number): Promise<void> {
  for (const [sae, slave] of [[1, 2], [2, 1]] as const) {
    await eventually(async () => await stockOf(network.client(sae), slave) === blocks, {
      what: `${blocks} blocks for SAE ${sae}`,
      timeout: 60_000,
    });
  }
}

// deno-lint-ignore no-explicit-any
async function deviceOf(network: TestNetwork, kme: number): Promise<any> {
  const status = await (await fetch(`http://127.0.0.1:${network.kme(kme).consolePort}/status`)).json();
  return status.links[1].device;
}

Deno.test("a link is filled from the devices to its target, and keys of it agree at both ends", async () => {
  await using devices = await startDevices(1000);
  await using network = await makeDeviceNetwork({ devices: addressesOf(devices) });
  await network.startAll();
  await untilStocked(network, 200);
  for (const [master, slave] of [[1, 2], [2, 1]] as const) {
    const enc = await network.client(master).encKeys(slave, { number: 60 });
    assertSameKeys(await network.client(slave).decKeys(master, keyIdsOf(enc)), enc);
  }
  // 80 are left, which is below low_stock.
  await untilStocked(network, 200);
  await eventually(async () => (await deviceOf(network, 1)).stock === 1000 - 320, { timeout: 60_000 });
  const [one, two] = [await deviceOf(network, 1), await deviceOf(network, 2)];
  assert.deepEqual([one.asks, two.asks], [true, false]);
  assert.deepEqual([one.up, two.up], [true, true]);
  assert.deepEqual([one.problem, two.problem], [null, null]);
  assert.equal(one.unconfirmed, 0);
});
