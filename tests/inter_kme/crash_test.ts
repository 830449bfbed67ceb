/** A KME dies at any moment, under load, and comes back: no key is given twice, none is lost after it was given. */
import assert from "node:assert/strict";
import { blockKeyId, formatKeyId } from "../../src/domain/block.ts";
import { assertProblem, startNetwork, stockOf } from "../sae_api/api_fixture.ts";
import { eventually } from "../harness/eventually.ts";
import type { KmeProcess } from "../harness/kme_process.ts";
import { ledgerOf } from "../harness/ledger_queries.ts";
import type { NetworkSpec } from "../harness/test_network.ts";
import { type DeliveredKey, keysOf } from "../harness/sae_client.ts";

const BLOCKS = 2000;
const ROUNDS = 4;
/** Keys given out in a round until the KME is killed. */
const KEYS_A_ROUND = 60;

const options = { inter_kme_timeout_seconds: 1 };
const spec: NetworkSpec = {
  kmes: [
    { id: 1, nickname: "Alice", saes: [1, 2], database: "sqlite", options },
    { id: 2, nickname: "Bob", saes: [3], database: "sqlite", options },
  ],
};

/** The name of the block that a key of 256 bits is made of: a digest of its bits. */
const blockOf = (key: DeliveredKey) => formatKeyId(blockKeyId(Uint8Array.fromBase64(key.key)));

for (const [victim, other] of [[1, 2], [2, 1]] as const) {
  Deno.test(`KME ${victim} is killed under load, again and again`, async () => {
    await using network = await startNetwork(spec, [1, 2, BLOCKS], [1, 1, BLOCKS]);
    const processes = new Map<number, KmeProcess>([[1, network.processes[0]!], [2, network.processes[1]!]]);
    /** The block of every key that a master was given, by key_ID. */
    const given = new Map<string, string>();
    const unread = new Map<string, [master: number, slave: number]>();
    /** Keys whose reading was under way when a KME died: read or not. */
    const doubtful = new Set<string>();

    const load = async (master: number, slave: number, over: () => boolean) => {
      const asking = network.client(master, { maxSockets: 1 });
      const reading = network.client(slave, { maxSockets: 1 });
      for (let turn = 0; !over(); turn++) {
        let keys;
        try {
          const response = await asking.encKeys(slave, { number: 1 + turn % 3 });
          if (response.status !== 200) {
            assertProblem(response, 503);
            continue;
          }
          keys = keysOf(response);
        } catch (error) {
          assertConnectionLost(error);
          if (over()) return;
          await new Promise((resolve) => setTimeout(resolve, 20)); // the KME is away
          continue;
        }
        for (const key of keys) {
          assert.ok(!given.has(key.key_ID), `key ${key.key_ID} was given twice`);
          given.set(key.key_ID, blockOf(key));
          unread.set(key.key_ID, [master, slave]);
        }
        // Every other key is read while the load goes on.
        if (turn % 2 === 0) continue;
        for (const { key_ID } of keys) await read(reading, master, key_ID);
      }
    };
    const read = async (client: ReturnType<typeof network.client>, master: number, keyId: string) => {
      try {
        const response = await client.decKeys(master, keyId);
        if (response.status === 503) return;
        const [key] = keysOf(response);
        assert.equal(blockOf(key!), given.get(keyId), `key ${keyId} has other bits`);
        unread.delete(keyId);
      } catch (error) {
        assertConnectionLost(error);
        doubtful.add(keyId);
      }
    };

    for (let round = 0; round < ROUNDS; round++) {
      const target = given.size + KEYS_A_ROUND;
      let over = false;
      const loads = [[1, 3], [1, 3], [3, 1], [3, 2], [1, 2]].map(([master, slave]) =>
        load(master!, slave!, () => over)
      );
      const failed = Promise.race(loads).then(() => {
        if (!over) throw new Error("a load ended early");
      });
      await Promise.race([
        failed,
        eventually(() => given.size >= target, { timeout: 60_000, interval: 1 }),
      ]);
      await processes.get(victim)!.kill();
      over = true;
      await Promise.all(loads);
      processes.set(victim, await network.start(victim));
    }

    // What the dead processes left behind is settled once their lease, and the grace for refused blocks, have ended.
    await eventually(async () => {
      for (const process of processes.values()) assert.equal(await process.stop(), 0);
      const settled = [1, 2].every((id) => ledgerOf(network.kme(id)).reservations === 0);
      for (const id of [1, 2]) processes.set(id, await network.start(id));
      return settled;
    }, { what: "all reservations settled", timeout: 120_000, interval: 5000 });
    assert.equal(await stockOf(network.client(1), 3), await stockOf(network.client(3), 1));

    // Every key that a master was given is readable once by its slave.
    for (const [keyId, [master, slave]] of unread) {
      const client = network.client(slave, { maxSockets: 1 });
      const response = await client.decKeys(master, keyId);
      if (doubtful.has(keyId) && response.status === 400) continue;
      const [key] = keysOf(response);
      assert.equal(blockOf(key!), given.get(keyId), `key ${keyId} has other bits`);
      assertProblem(await client.decKeys(master, keyId), 400);
      client.close();
    }

    // The link still works in both directions, and gives nothing that was given before.
    for (const [master, slave] of [[1, 3], [3, 1]] as const) {
      for (const key of keysOf(await network.client(master).encKeys(slave, { number: 50 }))) {
        assert.ok(!given.has(key.key_ID), `key ${key.key_ID} was given twice`);
        given.set(key.key_ID, blockOf(key));
      }
    }
    assert.equal(new Set(given.values()).size, given.size, "bits twice");

    for (const process of processes.values()) assert.equal(await process.stop(), 0);
    const ledgers = new Map([1, 2].map((id) => [id, ledgerOf(network.kme(id))]));
    for (const [id, ledger] of ledgers) {
      const free = [...ledger.blocks].filter(([, block]) => block.state === "free");
      assert.equal(free.length, ledger.blocks.size, `a block of KME ${id} is stuck`);
      const used = new Set(given.values());
      assert.ok(free.every(([block]) => !used.has(block)), `KME ${id} keeps a block that was given`);
      for (const [link, count] of ledger.stock) {
        assert.equal(free.filter(([, block]) => block.link === link).length, count, `stock of KME ${id}`);
      }
    }
    const onLink = (id: number) =>
      [...ledgers.get(id)!.blocks].filter(([, block]) => block.link === String(3 - id)).map(([keyId]) =>
        keyId
      );
    assert.deepEqual(onLink(1).toSorted(), onLink(2).toSorted(), "blocks free at one end only");
    // Burnt are at most the requests that were under way.
    const givenOnLink = [...given.values()].filter((block) => ledgers.get(2)!.seen.has(block)).length;
    const burnt = BLOCKS - onLink(other).length - givenOnLink;
    assert.ok(burnt >= 0 && burnt <= ROUNDS * 4 * 3, `${burnt} blocks burnt`);
  });
}

/** While a KME is away, its clients see a connection that is refused or breaks, and nothing else. */
function assertConnectionLost(error: unknown): void {
  assert.ok(error instanceof Error);
  if (error instanceof assert.AssertionError) throw error;
}
