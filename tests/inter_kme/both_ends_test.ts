/** Both ends of a link take from one pool at the same moment. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { assertProblem, type RunningNetwork, startNetwork, stockOf } from "../sae_api/api_fixture.ts";
import { ledgerOf } from "../harness/ledger_queries.ts";
import type { NetworkSpec } from "../harness/test_network.ts";
import { type DeliveredKey, keysOf, type SaeResponse } from "../harness/sae_client.ts";

const spec: NetworkSpec = {
  kmes: [{ id: 1, saes: [1], database: "sqlite" }, { id: 2, saes: [3], database: "sqlite" }],
};

interface Given {
  readonly master: number;
  readonly slave: number;
  readonly keyId: string;
  /** Of the key, so that no failure prints one. */
  readonly digest: string;
}

const digest = (key: DeliveredKey) => createHash("sha256").update(key.key, "base64").digest("hex");

/** So many requests from each end, all at once. */
async function askFromBothEnds(network: RunningNetwork, perEnd: number, number: number) {
  const given: Given[] = [];
  const refused: SaeResponse[] = [];
  const ask = async (master: number, slave: number) => {
    const response = await network.client(master, { maxSockets: 1 }).encKeys(slave, { number });
    if (response.status !== 200) return void refused.push(response);
    const keys = keysOf(response);
    assert.equal(keys.length, number);
    for (const key of keys) given.push({ master, slave, keyId: key.key_ID, digest: digest(key) });
  };
  await Promise.all(Array.from({ length: perEnd }, () => [ask(1, 3), ask(3, 1)]).flat());
  for (const response of refused) assertProblem(response, 503);
  return { given, refused };
}

/** Each slave reads each of its keys, once; the bits are those that the master got. */
async function readAll(network: RunningNetwork, given: readonly Given[]): Promise<void> {
  const clients = new Map([1, 3].map((sae) => [sae, network.client(sae, { maxSockets: 16 })]));
  await Promise.all(given.map(async ({ master, slave, keyId, digest: expected }) => {
    const [key] = keysOf(await clients.get(slave)!.decKeys(master, keyId));
    assert.equal(key!.key_ID, keyId);
    assert.equal(digest(key!), expected, `key ${keyId} has other bits`);
    assertProblem(await clients.get(slave)!.decKeys(master, keyId), 400);
  }));
}

function assertNoneTwice(given: readonly Given[]): void {
  assert.equal(new Set(given.map(({ keyId }) => keyId)).size, given.length, "a key_ID twice");
  assert.equal(new Set(given.map(({ digest }) => digest)).size, given.length, "bits twice");
}

async function assertNothingLeft(network: RunningNetwork): Promise<void> {
  assert.equal(await stockOf(network.client(1), 3), 0);
  assert.equal(await stockOf(network.client(3), 1), 0);
  for (const [index, process] of network.processes.entries()) {
    assert.equal(await process.stop(), 0);
    const ledger = ledgerOf(network.kme(index + 1));
    assert.equal(ledger.blocks.size, 0);
    assert.deepEqual(ledger.keys.filter((key) => key.hasBits), []);
  }
}

Deno.test("200 requests from both ends share 200 keys: each is given once, none is lost", async () => {
  await using network = await startNetwork(spec, [1, 2, 200]);
  const { given, refused } = await askFromBothEnds(network, 100, 1);
  assertNoneTwice(given);
  assert.equal(refused.length, 0);
  assert.equal(given.length, 200);
  await readAll(network, given);
  await assertNothingLeft(network);
});

Deno.test("200 requests from both ends for 150 keys use all of them and no more", async () => {
  await using network = await startNetwork(spec, [1, 2, 150]);
  const { given, refused } = await askFromBothEnds(network, 100, 1);
  assertNoneTwice(given);
  assert.equal(given.length, 150);
  assert.equal(refused.length, 50);
  await readAll(network, given);
  await assertNothingLeft(network);
});

Deno.test("several keys a request: all or none of each, none twice, and what is left can be had", async () => {
  await using network = await startNetwork(spec, [1, 2, 150]);
  const { given, refused } = await askFromBothEnds(network, 30, 7);
  assertNoneTwice(given);
  assert.equal(given.length % 7, 0);
  assert.equal(given.length + 7 * refused.length, 60 * 7);
  // A block that one end was refused and the other then did not use can be had at the other end only.
  const rest: Given[] = [];
  for (const [master, slave] of [[1, 3], [3, 1]] as const) {
    while (await stockOf(network.client(master), slave) > 0) {
      const [key] = keysOf(await network.client(master).encKeys(slave));
      rest.push({ master, slave, keyId: key!.key_ID, digest: digest(key!) });
    }
  }
  assertNoneTwice([...given, ...rest]);
  assert.equal(given.length + rest.length, 150);
  await readAll(network, [...given, ...rest]);
  await assertNothingLeft(network);
});

Deno.test("one end may use the whole pool", async () => {
  await using network = await startNetwork(spec, [1, 2, 120]);
  const client = network.client(3, { maxSockets: 16 });
  const answers = await Promise.all(Array.from({ length: 120 }, () => client.encKeys(1)));
  const given = answers.flatMap(keysOf).map((key): Given => ({
    master: 3,
    slave: 1,
    keyId: key.key_ID,
    digest: digest(key),
  }));
  assert.equal(given.length, 120);
  assertNoneTwice(given);
  await readAll(network, given);
  await assertNothingLeft(network);
});
