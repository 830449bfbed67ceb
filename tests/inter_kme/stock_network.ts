/** Two KMEs with one link, for tests of the agreement of their stocks. */
import assert from "node:assert/strict";
import { eventually } from "../harness/eventually.ts";
import type { NetworkSpec, TestNetwork } from "../harness/test_network.ts";
import { stockOf } from "../sae_api/api_fixture.ts";

/** KMEs 1 and 2 with SAEs 1 and 3. */
export const two = (options: Record<string, unknown> = {}, database = ":memory:"): NetworkSpec => ({
  kmes: [
    { id: 1, saes: [1], console: true, database, options },
    { id: 2, saes: [3], console: true, database, options },
  ],
});

/** A key file of this many blocks; in parts, since the runtime makes at most 64 KiB of random bytes at once. */
export function random(blocks: number): Uint8Array {
  const bytes = new Uint8Array(blocks * 32);
  for (let at = 0; at < bytes.length; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
  return bytes;
}

/** Puts a file into the directory of one end, complete when it appears. */
export async function put(network: TestNetwork, kme: 1 | 2, name: string, bytes: Uint8Array): Promise<void> {
  const path = `${network.keyDirectory(kme, kme === 1 ? 2 : 1)}/${name}`;
  await Deno.writeFile(`${path}.part`, bytes);
  await Deno.rename(`${path}.part`, path);
}

/** The link with the other KME in the status; half a second old at most. */
export async function statusOf(network: TestNetwork, kme: 1 | 2) {
  const status = await (await fetch(`http://127.0.0.1:${network.kme(kme).consolePort}/status`)).json();
  return status.links.find((link: { kme: string }) => link.kme === String(kme === 1 ? 2 : 1));
}

/** Of both ends, as SAEs are told. */
export const stocks = async (network: TestNetwork) =>
  await Promise.all([stockOf(network.client(1), 3), stockOf(network.client(3), 1)]);

/** Waits until both ends offer so many blocks. */
export async function agreeOn(network: TestNetwork, blocks: number, timeout = 30_000): Promise<void> {
  await eventually(async () => {
    assert.deepEqual(await stocks(network), [blocks, blocks]);
    return true;
  }, { timeout });
}
