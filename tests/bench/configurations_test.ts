/**
 * The invariants with the settings of the bench: 32 connections, 1, 10 and 128 keys a request, a handshake per request, pools
 * of up to 10^5 blocks, in memory and on a file, one KME and two. Nothing is timed.
 */
import assert from "node:assert/strict";
import { blockKeyId, formatKeyId } from "../../src/domain/block.ts";
import { databaseOf } from "../durability/ledger_audit.ts";
import { readLedger } from "../durability/delivery_record.ts";
import { eventually } from "../harness/eventually.ts";
import type { TestNetwork } from "../harness/test_network.ts";
import { keysOf, type SaeClient } from "../harness/sae_client.ts";
import { EVENTS_OFF, makeBenchNetwork } from "./site.ts";

const CONNECTIONS = 32;
/** Keys in a request, by connection. */
const NUMBERS = [1, 10, 128, 1];
/** SAEs. */
const MASTER = "1";
const SLAVES = { local: "2", remote: "3" } as const;

type Slave = keyof typeof SLAVES;

/** Keys that came, by key_ID. */
type Keys = Map<string, string>;

for (
  const [database, slave, blocks] of [
    [":memory:", "local", 100_000],
    [":memory:", "remote", 10_000],
    ["sqlite", "local", 20_000],
    ["sqlite", "remote", 10_000],
  ] as const
) {
  Deno.test(`${database}, ${slave} slave: ${CONNECTIONS} connections use up ${blocks} blocks`, async () => {
    await using network = await makeBenchNetwork([database, database]);
    const processes = await network.startAll({ env: EVENTS_OFF });
    const link = slave === "local" ? "1" : "2";
    const ids = await network.writeKeyFile("1", link, blocks);
    await stored(network, slave, blocks);
    const keys: Keys = new Map();
    await drain(network, slave, keys);
    // Every block is in one key, and nothing else is.
    const used = new Set(
      [...keys.values()].map((key) => formatKeyId(blockKeyId(Uint8Array.fromBase64(key)))),
    );
    assert.ok(
      keys.size === blocks && ids.every((id) => used.has(id)),
      `${keys.size} keys of ${blocks} blocks`,
    );
    await readAll(network, slave, keys);
    if (database === ":memory:") return;
    for (const process of processes) await process.stop();
    for (const kme of new Set(["1", link])) {
      const ledger = await readLedger(databaseOf(network, kme));
      assert.equal(ledger.seen.size, blocks);
      const left = [ledger.blocks.size, ledger.waiting.size, ledger.reservations, ...ledger.stock.values()];
      assert.ok(left.every((count) => count === 0), `KME ${kme} still holds ${left}`);
    }
  });
}

/** Asks for keys until the stock is empty; a refused request consumes no keys. */
function drain(network: TestNetwork, slave: Slave, keys: Keys): Promise<void> {
  return atOnce(async (worker) => {
    // One in four has a handshake with every request.
    using client = network.client(MASTER, worker % 4 === 3 ? { agent: false } : { maxSockets: 1 });
    let number = NUMBERS[worker % 4]!;
    while (true) {
      const answer = await client.encKeys(SLAVES[slave], { number });
      if (answer.status === 503) {
        if (await stock(client, SLAVES[slave]) === 0) return;
        number = 1;
        continue;
      }
      const got = keysOf(answer);
      assert.equal(got.length, number);
      for (const { key_ID, key } of got) {
        assert.ok(!keys.has(key_ID), `key ${key_ID} came twice`);
        keys.set(key_ID, key);
      }
    }
  });
}

/** The slave reads all keys, once, with many in a request or one; others read none. */
async function readAll(network: TestNetwork, slave: Slave, keys: Keys): Promise<void> {
  const ids = [...keys.keys()];
  let next = 0;
  await atOnce(async (worker) => {
    using client = network.client(SLAVES[slave], { maxSockets: 2 });
    using otherSae = network.client(slave === "local" ? "3" : "2", { maxSockets: 1 });
    // Single keys until a few thousand are read, then the rest in large requests.
    while (next < ids.length) {
      const part = ids.slice(next, next += next < 2000 ? NUMBERS[worker % 4]! : 128);
      const refused = await otherSae.decKeys(MASTER, part[0]!);
      assert.ok([400, 401].includes(refused.status), `another SAE got ${refused.status}`);
      // At the same moment: one of them is too late.
      const answers = await Promise.all([client.decKeys(MASTER, part), client.decKeys(MASTER, part)]);
      assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 400]);
      const got = keysOf(answers.find(({ status }) => status === 200)!);
      assert.deepEqual(got.map(({ key_ID }) => key_ID), part);
      for (const { key_ID, key } of got) assert.ok(key === keys.get(key_ID), `key ${key_ID} has other bits`);
    }
  });
  // One by one: a request for many is refused whole, whatever became of each.
  const sample = ids.filter((_, i) => i % Math.ceil(ids.length / 500) === 0);
  await atOnce(async () => {
    using client = network.client(SLAVES[slave], { maxSockets: 1 });
    for (let id = sample.pop(); id !== undefined; id = sample.pop()) {
      assert.equal((await client.decKeys(MASTER, id)).status, 400, `key ${id} can be read again`);
    }
  });
}

async function atOnce(work: (worker: number) => Promise<void>): Promise<void> {
  await Promise.all(Array.from({ length: CONNECTIONS }, (_, worker) => work(worker)));
}

async function stock(master: SaeClient, slave: string): Promise<number> {
  return (await master.status(slave)).json.stored_key_count;
}

/** Resolves when all blocks of a file are in stock, at both ends of the link. */
async function stored(network: TestNetwork, slave: Slave, blocks: number): Promise<void> {
  const ends = slave === "local" ? [[MASTER, "2"]] as const : [[MASTER, "3"], ["3", MASTER]] as const;
  for (const [master, to] of ends) {
    using client = network.client(master);
    await eventually(async () => await stock(client, to) === blocks, {
      what: `${blocks} blocks in stock`,
      timeout: 60_000,
    });
  }
}
