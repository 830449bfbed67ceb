/** Several processes of a KME on one database share the QKD device of a link: no key is there twice, and none is lost by that. */
import assert from "node:assert/strict";
import { blockKeyId } from "../../src/domain/block.ts";
import { BlockPresence } from "../../src/domain/stock_questions.ts";
import { formatDeviceKeysQuestion, readDeviceKeysAnswer } from "../../src/inter_kme/device_key_messages.ts";
import { readLedger } from "../durability/delivery_record.ts";
import { makeReplica, type Replica } from "../durability/replicas.ts";
import { databaseTest, queryDatabase, type TestDatabaseServer } from "../harness/databases.ts";
import { type DeviceNetworkOptions, makeDeviceNetwork } from "../harness/device_network.ts";
import { eventually } from "../harness/eventually.ts";
import type { KmeProcess } from "../harness/kme_process.ts";
import { assertSameKeys, type DeliveredKey, keyIdsOf, type SaeClient } from "../harness/sae_client.ts";
import { type Misbehaviour, startTestDevices, type TestDevices } from "../harness/test_device.ts";
import type { TestNetwork } from "../harness/test_network.ts";
import { KmeCaller } from "../inter_kme/rust_kme.ts";
import { scrape } from "../metrics/scrape.ts";
import { stockOf } from "../sae_api/api_fixture.ts";
import { isCall, TIMEOUT } from "./device_site.ts";

/** Keys that the devices can give in all. */
const AT_DEVICES = 100_000;

type ProcessName = "1" | "1b" | "2" | "2b";

interface Site extends AsyncDisposable {
  readonly devices: TestDevices;
  readonly network: TestNetwork;
  readonly uris: readonly [string, string];
  readonly replicas: readonly [Replica, Replica];
  /** Keys that device 1 gave. */
  readonly given: number;
  /** Starts the first (`1`) or the second process (`1b`) of a KME. */
  start(name: ProcessName): Promise<KmeProcess>;
  /** A client of SAE 1 or 2 at one process of its KME. */
  client(name: ProcessName): SaeClient;
  lost(name: ProcessName): Promise<Record<string, number>>;
  /** Blocks that this process has requested from the device and that came into stock. */
  requested(name: ProcessName): Promise<number>;
  /** Waits until all these processes offer so many blocks, and nothing is unsettled. */
  untilStocked(blocks: () => number, ...names: ProcessName[]): Promise<void>;
}

/** Nothing is started. The first process of KME 1 calls the first one of KME 2, the second one the second. */
async function makeSite(
  uri: string,
  server: TestDatabaseServer,
  misbehave?: Misbehaviour,
  options: Partial<DeviceNetworkOptions> = {},
): Promise<Site> {
  await using opened = new AsyncDisposableStack();
  const uris = [uri, await server.createDatabase()] as const;
  const devices = opened.use(await startTestDevices(AT_DEVICES));
  if (misbehave !== undefined) devices.misbehave = misbehave;
  const network = opened.use(
    await makeDeviceNetwork({ devices: devices.addresses, databases: uris, ...options }),
  );
  const second = await makeReplica(network, undefined, "2");
  const replicas = [await makeReplica(network, second.kmesPort), second] as const;
  const kept = opened.move();
  const replicaOf = (name: ProcessName) => name.length > 1 ? replicas[Number(name[0]) - 1]! : undefined;
  const client = (name: ProcessName) => {
    const replica = replicaOf(name);
    return network.client(Number(name[0]), replica === undefined ? {} : { port: replica.saesPort });
  };
  const metrics = async (name: ProcessName) => {
    const port = replicaOf(name)?.consolePort ?? network.kme(name).consolePort;
    return scrape(await (await fetch(`http://127.0.0.1:${port}/metrics`)).text());
  };
  return {
    devices,
    network,
    uris,
    replicas,
    get given() {
      return AT_DEVICES - devices.stock;
    },
    start: async (name) => {
      const replica = replicaOf(name);
      if (replica === undefined) return network.start(name);
      const process = await replica.start();
      kept.defer(() => process.kill());
      return process;
    },
    client,
    lost: async (name) =>
      Object.fromEntries(
        Object.entries((await metrics(name)).of("kme_device_lost_blocks_total")).filter(([, value]) =>
          value > 0
        ),
      ),
    requested: async (name) => {
      const samples = (await metrics(name)).of("kme_device_blocks_total");
      return Object.entries(samples).find(([labels]) => labels.includes('requested_by="this"'))![1];
    },
    untilStocked: async (blocks, ...names) => {
      await eventually(async () => {
        const stocks = await Promise.all(
          names.map((name) => stockOf(client(name), 3 - Number(name[0]))),
        );
        assert.deepEqual(stocks, names.map(() => blocks()));
        const open = await queryDatabase(uris[0], "select batch_id from device_batches");
        assert.equal(open.length, 0, "batches that are not settled");
        return true;
      }, { what: `the same stock at ${names}`, ...TIMEOUT });
      const [one, two] = await Promise.all(uris.map(readLedger));
      assert.deepEqual([...one!.blocks.keys()].sort(), [...two!.blocks.keys()].sort());
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

databaseTest("postgres", "one process requests keys, all of them deliver", async (uri, server) => {
  await using site = await makeSite(uri, server);
  const names = ["1", "1b", "2", "2b"] as const;
  await Promise.all(names.map((name) => site.start(name)));
  await site.untilStocked(() => {
    assert.ok(site.given >= 200);
    return site.given;
  }, ...names);
  const before = site.given;
  const clients = new Map(names.map((name) => [name, site.client(name)]));
  const delivered: DeliveredKey[] = [];
  for (const [master, slave] of [["1", "2b"], ["2", "1b"], ["1b", "2"], ["2b", "1"]] as const) {
    const enc = await eventually(async () => {
      const answer = await clients.get(master)!.encKeys(Number(slave[0]), { number: 40 });
      assert.equal(answer.status, 200, answer.text);
      return answer;
    }, TIMEOUT);
    assertSameKeys(await clients.get(slave)!.decKeys(Number(master[0]), keyIdsOf(enc)), enc);
    delivered.push(...enc.json.keys);
  }
  // 160 were used, so more are requested, whichever process has delivered them.
  await eventually(() => site.given > before, { what: "a request for more keys", ...TIMEOUT });
  await site.untilStocked(() => site.given - delivered.length, ...names);
  assert.equal(new Set(delivered.map(({ key }) => key)).size, delivered.length);
  for (const name of names) assert.deepEqual(await site.lost(name), {}, name);
  const requested = [await site.requested("1"), await site.requested("1b")].sort((a, b) => a - b);
  assert.ok(requested[0] === 0 && requested[1]! > 0, String(requested));
});

databaseTest(
  "postgres",
  "a process that waits for the device keeps its keys when another one begins to request keys",
  async (uri, server) => {
    const release = Promise.withResolvers<void>();
    const hold: Misbehaviour = async (request, right) => {
      if (isCall(0, "enc_keys")(request)) await release.promise;
      return right();
    };
    await using site = await makeSite(uri, server, hold, {
      source: { keys_per_request: 200 },
      options: { inter_kme_timeout_seconds: 60 },
    });
    const requests = () => site.devices.requests.filter(isCall(0, "enc_keys")).length;
    await Promise.all([site.start("1"), site.start("2")]);
    await eventually(() => requests() === 1, TIMEOUT);
    await Promise.all([site.start("1b"), site.start("2b")]);
    // As if the heartbeats of the first process had come late for a moment.
    await queryDatabase(
      uri,
      `update leases set process_id = (select process_id from processes where process_id not in
        (select process_id from leases)) where name = 'ingestion'`,
    );
    await eventually(() => requests() === 2, { what: "a request of the second process", ...TIMEOUT });
    release.resolve();
    await site.untilStocked(() => site.given, "1", "1b", "2", "2b");
    assert.equal(site.given, 400);
    for (const name of ["1", "1b", "2", "2b"] as const) assert.deepEqual(await site.lost(name), {}, name);
  },
);

databaseTest(
  "postgres",
  "what a process that ends has not confirmed, the other one confirms within a minute, however rarely it polls the device",
  async (uri, server) => {
    const release = Promise.withResolvers<void>();
    const hold: Misbehaviour = async (request, right) => {
      if (isCall(1, "dec_keys")(request)) await release.promise;
      return right();
    };
    await using site = await makeSite(uri, server, hold, {
      source: { keys_per_request: 200, poll_seconds: 3600 },
      options: { inter_kme_timeout_seconds: 60, lease_seconds: 3 },
    });
    const [first] = await Promise.all([site.start("1"), site.start("2"), site.start("2b")]);
    await eventually(() => site.devices.requests.some(isCall(1, "dec_keys")), TIMEOUT);
    await site.start("1b");
    await first.kill();
    release.resolve();
    await site.untilStocked(() => 200, "1b", "2", "2b");
    assert.equal(site.given, 200);
    for (const name of ["1b", "2", "2b"] as const) assert.deepEqual(await site.lost(name), {}, name);
  },
);

databaseTest(
  "postgres",
  "keys that one process is fetching are not lost because the device refuses them to another one",
  async (uri, server) => {
    const [asked, release] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const bits = crypto.getRandomValues(new Uint8Array(32));
    const key = { id: crypto.randomUUID(), blocks: [blockKeyId(bits)] };
    let fetching = false;
    await using site = await makeSite(uri, server, async ({ path }, right) => {
      if (!path.endsWith("/dec_keys")) return right();
      if (fetching) return { status: 400, json: { message: "not found" } };
      fetching = true;
      asked.resolve();
      await release.promise;
      return { status: 200, json: { keys: [{ key_ID: key.id, key: bits.toBase64() }] } };
    }, { options: { inter_kme_timeout_seconds: 60 } });
    await Promise.all([site.start("2"), site.start("2b")]);
    const ask = async (port?: number) => {
      using caller = new KmeCaller(site.network, 2, site.network.kme(1).interKmeClient, port);
      const body = formatDeviceKeysQuestion("1", { keys: [key] });
      const { status, text } = await caller.raw("POST", "/kme/v1/device-keys", body);
      assert.equal(status, 200, text);
      return readDeviceKeysAnswer(text)!.presence[0];
    };
    const first = ask();
    first.catch(() => {});
    await asked.promise;
    // Longer than a single process would wait before it believes the device.
    const begin = performance.now();
    const answers = new Set<number | undefined>();
    await eventually(async () => {
      answers.add(await ask(site.replicas[1].kmesPort));
      return performance.now() - begin > 5000;
    }, { ...TIMEOUT, interval: 500 });
    assert.deepEqual([...answers], [BlockPresence.absent]);
    release.resolve();
    assert.equal(await first, BlockPresence.held);
    assert.equal(await ask(site.replicas[1].kmesPort), BlockPresence.held);
    for (const name of ["2", "2b"] as const) assert.deepEqual(await site.lost(name), {}, name);
  },
);
