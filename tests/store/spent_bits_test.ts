/** Bits of keys that all slaves have read are in no file of the database any more, while the KME runs. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { buffer } from "../../src/domain/bytes.ts";
import { eventually } from "../harness/eventually.ts";
import { keysOf } from "../harness/sae_client.ts";
import { makeTestNetwork } from "../harness/test_network.ts";

/** Files of the database in which one of the bit strings is found, with their number. */
async function filesWith(directory: string, bits: readonly Uint8Array[]): Promise<Record<string, number>> {
  const found: Record<string, number> = {};
  for await (const { name } of Deno.readDir(directory)) {
    if (!/\.db(-|$)/.test(name)) continue;
    const content = Buffer.from(await Deno.readFile(`${directory}/${name}`));
    const count = bits.filter((part) => content.includes(buffer(part))).length;
    if (count > 0) found[name] = count;
  }
  return found;
}

for (
  const [name, options] of [
    ["spent bits leave the database file and its log within a minute", {}],
    ["so do bits that were kept to repeat an answer", { answer_repeat_seconds: 5 }],
  ] as const
) Deno.test(`sqlite: ${name}`, () => leaveTheFiles(options));

async function leaveTheFiles(options: Record<string, unknown>): Promise<void> {
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, saes: [11, 12], database: "sqlite", options }],
  });
  const { directory } = network.kme(1);
  await network.writeKeyFile(1, 1, 2000);
  const [kme] = await network.startAll();
  const master = network.client(11);
  const slave = network.client(12);
  await eventually(async () => (await master.status(12)).json.stored_key_count === 2000);
  const spent: Uint8Array[] = [];
  const waiting: Uint8Array[] = [];
  // Whole blocks, keys of several blocks, and parts of a block.
  for (const [size, rounds, number] of [[256, 8, 40], [512, 4, 40], [4096, 2, 20], [128, 4, 40]] as const) {
    for (let round = 0; round < rounds; round++) {
      const keys = keysOf(await master.encKeys(12, { number, size }));
      const read = keys.slice(0, -1);
      assert.equal((await slave.decKeys(11, read.map((key) => key.key_ID))).status, 200);
      // What is searched for is at most a block, or the part of it that was used.
      const parts = (key: { key: string }) => Uint8Array.fromBase64(key.key).subarray(0, 32);
      spent.push(...read.map(parts));
      waiting.push(...keys.slice(-1).map(parts));
    }
  }
  assert.equal(Object.values(await filesWith(directory, waiting)).some((count) => count > 0), true);
  await eventually(async () => Object.keys(await filesWith(directory, spent)).length === 0, {
    timeout: 60_000,
    what: "spent bits gone from the files",
  });
  // The log may have them too, until it is truncated again.
  assert.equal((await filesWith(directory, waiting))["kme.db"], waiting.length);
  assert.equal(await kme!.stop(), 0);
}
