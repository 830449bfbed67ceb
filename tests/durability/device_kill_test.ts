/** KMEs and their QKD devices killed at any moment while keys are fetched and delivered: both ends always have the same keys. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { addressesOf, DEVICES, makeDeviceNetwork } from "../harness/device_network.ts";
import { eventually } from "../harness/eventually.ts";
import type { KmeProcess } from "../harness/kme_process.ts";
import { makeTestNetwork, type TestNetwork } from "../harness/test_network.ts";
import type { DeliveredKey, SaeResponse } from "../harness/sae_client.ts";
import { databaseOf, pause } from "./ledger_audit.ts";
import { readLedger } from "./delivery_record.ts";
import { Random } from "./random.ts";

const KILLS = 20;

const KMES = ["1", "2"] as const;

const digest = ({ key }: DeliveredKey) =>
  createHash("sha256").update(Buffer.from(key, "base64")).digest("hex");

Deno.test("SIGKILL of KMEs and of their devices at random moments", async () => {
  const random = new Random();
  await using devices = await makeTestNetwork(DEVICES);
  await devices.writeKeyFile(101, 102, 40_000);
  await using network = await makeDeviceNetwork({
    devices: addressesOf(devices),
    // Keys are fetched nearly all the time.
    source: { keys_per_request: 25, target_stock: 120, low_stock: 119 },
    options: { inter_kme_timeout_seconds: 2, lease_seconds: 3 },
  });
  const running = new Map<string, KmeProcess>();
  const ownerOf = (kme: string): TestNetwork => kme.length > 1 ? devices : network;
  const start = async (kme: string) => running.set(kme, await ownerOf(kme).start(kme));
  for (const kme of ["101", "102"]) await start(kme);
  await Promise.all(KMES.map(start));

  const given = new Set<string>();
  const figures = { delivered: 0, read: 0, lostReadings: 0, refused: 0 };
  const failures: string[] = [];
  let stopping = false;

  const read = async (slave: string, master: string, key: DeliveredKey) => {
    let cut = false;
    for (const end = Date.now() + 60_000; Date.now() < end; await pause(50)) {
      let answer: SaeResponse | undefined;
      try {
        answer = await network.client(slave).decKeys(master, key.key_ID);
      } catch {
        cut = true;
      }
      if (answer?.status === 200) {
        figures.read++;
        if (digest(answer.json.keys[0]) !== digest(key)) failures.push(`key ${key.key_ID} has other bits`);
        return;
      }
      // It was read, and the answer was lost with the process.
      if (answer?.status === 400 && cut) return void figures.lostReadings++;
      if (answer !== undefined && answer.status !== 503) {
        return void failures.push(`dec_keys of ${key.key_ID}: ${answer.status} ${answer.text}`);
      }
    }
    failures.push(`key ${key.key_ID} cannot be read within a minute`);
  };
  const work = async (master: string, slave: string) => {
    while (!stopping && failures.length === 0) {
      let answer: SaeResponse | undefined;
      try {
        answer = await network.client(master).encKeys(slave, { number: random.between(1, 4) });
      } catch {
        // The KME was killed.
      }
      if (answer?.status !== 200) {
        figures.refused++;
        await pause(random.between(20, 100));
        continue;
      }
      for (const key of answer.json.keys as DeliveredKey[]) {
        figures.delivered++;
        if (given.has(digest(key))) failures.push(`key ${key.key_ID} was given twice`);
        given.add(digest(key));
        await read(slave, master, key);
      }
      await pause(random.between(0, 30));
    }
  };
  const load = [["1", "2"], ["2", "1"], ["11", "22"], ["22", "11"]].map(([master, slave]) =>
    work(master!, slave!)
  );

  const untilDelivered = (more: number) => {
    const goal = figures.delivered + more;
    return eventually(() => figures.delivered >= goal || failures.length > 0, {
      what: `${more} more keys`,
      timeout: 90_000,
    });
  };
  await untilDelivered(50);
  for (let kill = 0; kill < KILLS && failures.length === 0; kill++) {
    const victim = (["1", "2", "101", "102"] as const)[kill % 4]!;
    await pause(random.between(0, 300));
    await running.get(victim)!.kill();
    await start(victim);
    await untilDelivered(random.between(5, 40));
  }
  stopping = true;
  await Promise.all(load);
  assert.deepEqual(failures.slice(0, 10), [], `KME_TEST_SEED=${random.seed}`);

  const stocks = () =>
    Promise.all([["1", "2"], ["2", "1"]].map(async ([sae, slave]) => {
      const { links } = await (await fetch(`http://127.0.0.1:${network.kme(sae!).consolePort}/status`))
        .json();
      const { json } = await network.client(sae!).status(slave!);
      return { free: json.stored_key_count, unconfirmed: links[1].device.unconfirmed };
    }));
  await eventually(async () => {
    const [one, two] = await stocks();
    return one!.free > 0 && one!.free === two!.free && one!.unconfirmed + two!.unconfirmed === 0;
  }, { what: "the same stock at both ends", timeout: 60_000, interval: 250 });
  // A file can be read only when its KME has ended.
  for (let look = 1;; look++) {
    await Promise.all(KMES.map((kme) => running.get(kme)!.stop()));
    const [one, two] = await Promise.all(KMES.map((kme) => readLedger(databaseOf(network, kme))));
    const different = [...one!.blocks].filter(([id, block]) =>
      block.state !== "free" || two!.blocks.get(id)?.state !== "free"
    ).length + Math.abs(two!.blocks.size - one!.blocks.size);
    if (different === 0) {
      break;
    }
    assert.ok(look < 10, `${different} of ${one!.blocks.size} and ${two!.blocks.size} blocks differ`);
    await Promise.all(KMES.map(start));
    await pause(500 * look);
  }
  const { delivered, read: readings, lostReadings, refused } = figures;
  console.log(
    `${KILLS} kills, ${delivered} keys delivered, ${readings} read, ${lostReadings} readings lost on the way, ` +
      `${refused} requests refused (KME_TEST_SEED=${random.seed})`,
  );
});
