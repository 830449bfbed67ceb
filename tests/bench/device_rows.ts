/** Keys of a pair of QKD devices, which are KMEs of this program on the same machine, against a fixed rate. */
import { addressesOf, DEVICES, makeDeviceNetwork } from "../harness/device_network.ts";
import { eventually } from "../harness/eventually.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { withOptions } from "../delivery/test_networks.ts";
import { POOL, ROUNDS } from "./options.ts";
import { type Row, rowOf } from "./row.ts";

/** What users of QKD devices need at most: 256 kbit/s. */
const BLOCKS_PER_SECOND = 1000;

export async function devices(): Promise<Row[]> {
  const rates: number[] = [];
  for (let i = 0; i < ROUNDS; i++) rates.push(await measure(POOL / 5));
  return [
    rowOf(
      "keys from two QKD devices, in stock at both ends, against a fixed rate",
      "blocks/s",
      rates,
      rates.map(() => BLOCKS_PER_SECOND),
      { atLeast: 1 },
    ),
  ];
}

/** Blocks per second, from the first in stock until both ends have so many. */
async function measure(blocks: number): Promise<number> {
  await using pair = await makeTestNetwork(withOptions(DEVICES, { max_key_per_request: 1000 }, "sqlite"));
  await pair.writeKeyFile(101, 102, blocks + 1000);
  await pair.startAll({ discardOutput: true });
  await using network = await makeDeviceNetwork({
    devices: addressesOf(pair),
    source: { keys_per_request: 500, target_stock: blocks, low_stock: blocks },
  });
  await network.startAll({ discardOutput: true });
  const stocks = async () =>
    Math.min(
      ...await Promise.all(
        ([[1, 2], [2, 1]] as const).map(async ([sae, slave]) =>
          (await network.client(sae).status(slave)).json.stored_key_count
        ),
      ),
    );
  const before = await eventually(stocks, { timeout: 60_000 });
  const begin = performance.now();
  await eventually(async () => await stocks() >= blocks, { timeout: 600_000 });
  return (blocks - before) * 1000 / (performance.now() - begin);
}
