/** What the configuration allows an SAE as a master: with whom, how much, and how much of the stock. */
import assert from "node:assert/strict";
import { databaseTest } from "../harness/databases.ts";
import { makeReplica } from "../durability/replicas.ts";
import { eventually } from "../harness/eventually.ts";
import { allIngested } from "../harness/key_files.ts";
import { keyIdsOf, type SaeClient, type SaeResponse } from "../harness/sae_client.ts";
import { type ConfigFile, makeTestNetwork, type TestNetwork } from "../harness/test_network.ts";
import { assertActivated, assertRefused, KmeCaller, RustKme, startFirst } from "../inter_kme/rust_kme.ts";
import { assertProblem, stockOf } from "../sae_api/api_fixture.ts";
import { chain, withOptions } from "./test_networks.ts";

/** KME 1 with the SAEs 1 and 2, KME 2 with SAE 3, 100 blocks on their link and 100 for SAEs of KME 1. */
async function limited(edit: (config: ConfigFile, kme: string) => void): Promise<TestNetwork> {
  const options = { max_key_count: 200, neighbour_probe_seconds: 1 };
  const network = await makeTestNetwork({
    kmes: [
      { id: 1, saes: [1, 2], console: true, database: "sqlite", options },
      { id: 2, saes: [3], database: "sqlite", options },
    ],
    edit,
  });
  await network.writeKeyFile(1, 2, 100);
  await network.writeKeyFile(1, 1, 100);
  await network.startAll();
  await eventually(async () => await stockOf(network.client(3), 1) === 100, { timeout: 30_000 });
  return network;
}

const saeIn = (config: ConfigFile, id: number) => config.saes.find((sae) => sae.id === id)!;

function assertLimit(response: SaeResponse, limit: string, retryAfter: (seconds: number) => boolean): void {
  assertProblem(
    response,
    503,
    limit === "reserve_share" ? /is kept for other SAEs/ : new RegExp(`limit ${limit}$`),
    [
      { limit },
    ],
  );
  const after = response.headers["retry-after"];
  assert.ok(retryAfter(Number(after)), `Retry-After: ${after}`);
}

const limitedCount = async (network: TestNetwork, sae: number, limit: string) => {
  const text = await (await fetch(`http://127.0.0.1:${network.kme(1).consolePort}/metrics`)).text();
  const found = new RegExp(`^kme_limited_requests_total\\{sae="${sae}",limit="${limit}"\\} (\\d+)$`, "m")
    .exec(text);
  return Number(found?.[1] ?? 0);
};

Deno.test("a master gets keys only with the SAEs that it may reach, and its status says the same", async () => {
  await using network = await limited((config, kme) => {
    if (kme === "1") saeIn(config, 1).may_reach = [2];
  });
  const one = network.client(1);
  const refused = /^SAE 1 may not have keys with SAE 3$/;
  assertProblem(await one.encKeys(3), 401, refused);
  assertProblem(await one.encKeys(2, { additional_slave_SAE_IDs: ["3"] }), 401, refused);
  assertProblem(await one.status(3), 401, refused);
  assert.equal((await one.encKeys(2)).status, 200);
  assert.equal((await network.client(2).encKeys(3)).status, 200);
  // It is about masters: SAE 1 may be a slave of SAE 3.
  const [key] = keyIdsOf(await network.client(3).encKeys(1));
  assert.equal((await one.decKeys(3, key!)).status, 200);
  assert.equal(await stockOf(network.client(2), 3), 98);
});

Deno.test("the slave's KME checks whom a master may reach, and no keys are consumed", async () => {
  await using network = await limited((config, kme) => {
    if (kme === "2") saeIn(config, 1).may_reach = [];
  });
  assertProblem(await network.client(1).encKeys(3), 503, undefined, [
    { peer: "KME 2: SAE 1 may not have keys with SAE 3" },
  ]);
  assert.equal((await network.client(2).encKeys(3)).status, 200);
  assert.equal(await stockOf(network.client(1), 3), 99);
  assert.equal(await stockOf(network.client(3), 1), 99);
});

Deno.test("a reload that forbids a master keeps its keys from the slave", async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1, 2, 4], database: "sqlite" }] });
  await network.writeKeyFile(1, 1, 10);
  const process = await network.start(1);
  const [key] = keyIdsOf(await network.client(1).encKeys(2));
  await network.writeConfig(1, (config) => saeIn(config, 1).may_reach = [4]);
  process.signal("SIGHUP");
  await process.waitForLine(/was reloaded/);
  assertProblem(await network.client(2).decKeys(1, key!), 401, /^SAE 1 may not have keys with SAE 2$/);
  assertProblem(await network.client(1).encKeys(2), 401);
  // Also with a mistake elsewhere in the file.
  await network.writeConfig(1, (config) => {
    saeIn(config, 1).may_reach = [];
    config.this_kme.max_key_count = "many";
  });
  process.signal("SIGHUP");
  await process.waitForLine(/applied in spite of the mistakes: the certificates or limits of SAE 1/);
  assertProblem(await network.client(1).encKeys(4), 401);
  await network.writeConfig(1, (config) => {
    delete saeIn(config, 1).may_reach;
    delete config.this_kme.max_key_count;
  });
  process.signal("SIGHUP");
  await eventually(async () => (await network.client(1).encKeys(2)).status === 200, { timeout: 30_000 });
  assert.deepEqual(keyIdsOf(await network.client(2).decKeys(1, key!)), [key]);
});

Deno.test("a master gets no more bits in a second than it may, whatever the size of its requests", async () => {
  await using network = await limited((config, kme) => {
    if (kme === "1") saeIn(config, 1).max_bits_per_second = 1;
  });
  const one = network.client(1);
  // What is refused for another reason does not count.
  assertProblem(await one.encKeys(3, { number: 101 }), 503, /not enough keys/);
  assert.equal((await one.encKeys(3, { number: 2, size: 128 })).status, 200);
  const wait = (seconds: number) => seconds > 200 && seconds <= 256;
  assertLimit(await one.encKeys(3), "max_bits_per_second", wait);
  assertLimit(await one.encKeys(2, { size: 64 }), "max_bits_per_second", wait);
  assert.equal((await network.client(2).encKeys(3, { number: 50 })).status, 200);
  assert.equal(await stockOf(network.client(2), 3), 48);
  assert.equal(await limitedCount(network, 1, "max_bits_per_second"), 2);
  assert.equal(await limitedCount(network, 2, "max_bits_per_second"), 0);
});

Deno.test("the number of a master's waiting keys is limited, here and at the slave's KME", async (t) => {
  await using network = await limited((config) => saeIn(config, 1).max_waiting_keys = 3);
  const one = network.client(1);
  for (const [what, slave] of [["an SAE of the same KME", 2], ["an SAE of another KME", 3]] as const) {
    await t.step(what, async () => {
      const before = await stockOf(one, slave);
      const first = keyIdsOf(await one.encKeys(slave, { number: 2 }));
      assertLimit(await one.encKeys(slave, { number: 2 }), "max_waiting_keys", (seconds) => seconds === 5);
      const third = keyIdsOf(await one.encKeys(slave));
      const many = await Promise.all(Array.from({ length: 10 }, () => one.encKeys(slave)));
      for (const response of many) assertLimit(response, "max_waiting_keys", (seconds) => seconds === 5);
      assert.equal(await stockOf(one, slave), before - 3);
      assert.equal((await network.client(slave).decKeys(1, first)).status, 200);
      const fourth = keyIdsOf(await one.encKeys(slave, { number: 2 }));
      assert.equal((await network.client(slave).decKeys(1, [...third, ...fourth])).status, 200);
    });
  }
  assert.equal(await limitedCount(network, 1, "max_waiting_keys"), 22);
});

Deno.test("a key for several slaves waits until the last of them has fetched it", async () => {
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, saes: [1, 2, 4], database: "sqlite" }],
    edit: (config) => saeIn(config, 1).max_waiting_keys = 2,
  });
  await network.writeKeyFile(1, 1, 10);
  await network.start(1);
  const one = network.client(1);
  const ids = keyIdsOf(await one.encKeys(2, { number: 2, additional_slave_SAE_IDs: ["4"] }));
  const limited = async () => assertLimit(await one.encKeys(2), "max_waiting_keys", (after) => after === 5);
  assert.equal((await network.client(2).decKeys(1, ids)).status, 200);
  await limited();
  // A key_ID that is named twice is one key.
  assert.equal((await network.client(4).decKeys(1, [ids[0]!, ids[0]!])).status, 200);
  assert.equal((await one.encKeys(2)).status, 200);
  await limited();
});

Deno.test("requests at the same time do not exceed the keys that may wait", async () => {
  await using network = await limited((config) => saeIn(config, 1).max_waiting_keys = 7);
  const one = network.client(1);
  for (const slave of [2, 3]) {
    const answers = await Promise.all(Array.from({ length: 30 }, () => one.encKeys(slave, { number: 2 })));
    const delivered = answers.filter(({ status }) => status === 200).length;
    assert.ok(delivered >= 1 && delivered <= 3, `${delivered} of 30 requests for SAE ${slave}`);
    assert.equal(await stockOf(one, slave), 100 - 2 * delivered);
  }
});

Deno.test("keys that a qkd_kme_server activates count for the keys of its master that may wait", async () => {
  await using network = await startFirst({
    kmes: [{ id: 1, saes: [1, 2], console: true }, { id: 2, saes: [3, 5] }],
    edit: (config) => saeIn(config, 3).max_waiting_keys = 3,
  }, [1, 2, 40]);
  using caller = new KmeCaller(network, 1, network.kme(2).interKmeClient);
  const ids = network.blockIds[0]!;
  const activate = (from: number, to: number, origin = 3) =>
    caller.activate({ ids: ids.slice(from, to), origin, remote: 1 });
  assertActivated(await activate(0, 2));
  assertRefused(await activate(2, 4), "Bad request");
  assertActivated(await activate(2, 3));
  assertRefused(await activate(3, 4), "Bad request");
  // The same again brings no keys, and is answered as before.
  assertActivated(await activate(0, 2));
  // Another master has a limit of its own.
  assertActivated(await activate(3, 13, 5));
  const slave = network.client(1);
  assert.equal(await stockOf(slave, 3), 40 - 13);
  assert.equal(await limitedCount(network, 3, "max_waiting_keys"), 2);
  assert.equal((await slave.decKeys(3, ids.slice(0, 2))).status, 200);
  const many = await Promise.all(Array.from({ length: 20 }, (_, i) => activate(13 + i, 14 + i)));
  for (const answer of many) if (answer.status !== 200) assertRefused(answer, "Bad request");
  assert.equal(many.filter(({ status }) => status === 200).length, 2);
  assert.equal(await stockOf(slave, 3), 40 - 15);
});

databaseTest("postgres", "keys that wait are counted for all processes of a KME", async (uri) => {
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, saes: [1, 2], database: uri }],
    edit: (config) => saeIn(config, 1).max_waiting_keys = 4,
  });
  await network.writeKeyFile(1, 1, 20);
  const first = await network.start(1);
  assert.equal((await network.client(1).encKeys(2, { number: 3 })).status, 200);
  await first.stop();
  await network.start(1);
  assertLimit(
    await network.client(1).encKeys(2, { number: 2 }),
    "max_waiting_keys",
    (seconds) => seconds === 5,
  );
  assert.equal((await network.client(1).encKeys(2)).status, 200);
});

Deno.test("a share of a link's stock is kept for the SAEs that are named", async () => {
  await using network = await limited((config, kme) => {
    if (kme === "1") config.this_kme.reserve_share = [{ kme: 2, share: 0.4, saes: [1] }];
  });
  const [one, two] = [network.client(1), network.client(2)];
  // 80 of the 100 blocks are kept: 0.4 of max_key_count.
  assert.equal(await stockOf(two, 3), 20);
  assert.equal(await stockOf(one, 3), 100);
  assertLimit(await two.encKeys(3, { number: 21 }), "reserve_share", (seconds) => seconds === 30);
  const answers = await Promise.all(Array.from({ length: 30 }, () => two.encKeys(3, { size: 320 })));
  const delivered = answers.filter(({ status }) => status === 200).length;
  assert.ok(delivered >= 1 && delivered <= 10, String(delivered));
  for (const answer of answers) if (answer.status !== 200) assertLimit(answer, "reserve_share", () => true);
  assert.ok(await stockOf(one, 3) >= 80);
  while (await stockOf(two, 3) >= 2) assert.equal((await two.encKeys(3, { number: 2 })).status, 200);
  assertLimit(await two.encKeys(3), "reserve_share", () => true);
  assert.equal((await one.encKeys(3, { number: 80 })).status, 200);
  // Nothing is left that could be kept.
  assertProblem(await two.encKeys(3), 503, /^not enough keys are in stock$/);
  // The pool of the KME's own SAEs has no share.
  assert.equal((await two.encKeys(1, { number: 100 })).status, 200);
});

Deno.test("a request that waits for its neighbour leaves what is kept, although keys come meanwhile", async () => {
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, saes: [1, 2], options: { max_key_count: 200, inter_kme_timeout_seconds: 60 } }, {
      id: 2,
      saes: [3],
    }],
    edit: (config, kme) => {
      if (kme === "1") config.this_kme.reserve_share = [{ kme: 2, share: 0.4, saes: [1] }];
    },
  });
  const ids = await network.writeKeyFile(1, 2, 50);
  await using peer = await RustKme.start(network, 2, ids);
  const held = Promise.withResolvers<void>();
  peer.react = async ({ path }) => {
    if (path !== "/keys/activate") await held.promise;
    return undefined;
  };
  const process = await network.start(1);
  await allIngested(network.kme(1).keyDirectories.values());
  // More than there is when it is admitted.
  const answer = network.client(2).encKeys(3, { number: 60 });
  await process.waitForLine(/SAE 2 requested a key to communicate with 3/);
  for (const id of await network.writeKeyFile(1, 2, 50)) peer.free.add(id);
  await allIngested(network.kme(1).keyDirectories.values());
  held.resolve();
  assertLimit(await answer, "reserve_share", (seconds) => seconds === 30);
  assert.equal((await network.client(2).encKeys(3, { number: 20 })).status, 200);
  assertLimit(await network.client(2).encKeys(3), "reserve_share", () => true);
  assert.equal((await network.client(1).encKeys(3, { number: 80 })).status, 200);
});

databaseTest(
  "postgres",
  "a share is kept whatever others ask of several processes at the same time",
  async (uri) => {
    await using network = await makeTestNetwork({
      kmes: [{ id: 1, saes: [1, 2], database: uri, options: { max_key_count: 200 } }, { id: 2, saes: [3] }],
      edit: (config, kme) => {
        if (kme !== "1") return;
        config.this_kme.reserve_share = [
          { kme: 1, share: 0.4, saes: [1] },
          { kme: 2, share: 0.4, saes: [1] },
        ];
      },
    });
    for (const other of [1, 2]) await network.writeKeyFile(1, other, 120);
    const replica = await makeReplica(network);
    await network.startAll();
    await using _second = await replica.start();
    const ports = [network.kme(1).saesPort, replica.saesPort];
    const [one, two] = [1, 2].map((sae) => ports.map((port) => network.client(sae, { port }))) as [
      SaeClient[],
      SaeClient[],
    ];
    for (const [slave, what] of [[1, "SAEs of this KME"], [3, "SAEs of another KME"]] as const) {
      for (const [client, other] of [[one[0]!, slave], [network.client(3), 1]] as const) {
        await eventually(async () => await stockOf(client, other) === 120, { timeout: 30_000 });
      }
      const answers = await Promise.all(
        Array.from({ length: 60 }, (_, i) => two[i % 2]!.encKeys(slave, { number: 3 })),
      );
      const delivered = answers.filter(({ status }) => status === 200).length;
      const left = await stockOf(one[0]!, slave);
      assert.equal(left, 120 - 3 * delivered, what);
      assert.ok(left >= 80, `${left} are left for the SAEs that are named, ${what}`);
    }
    // What the other end of the link uses is not limited here.
    const stock = await stockOf(one[0]!, 3);
    assert.equal((await network.client(3).encKeys(1, { number: 30 })).status, 200);
    assert.equal(await stockOf(one[0]!, 3), stock - 30);
    assertLimit(await two[1]!.encKeys(3), "reserve_share", () => true);
    assert.equal((await one[1]!.encKeys(3, { number: stock - 30 })).status, 200);
  },
);

Deno.test("keys that are passed on for masters of other KMEs leave what is kept", async () => {
  const spec = withOptions(chain, { max_key_count: 200 });
  await using network = await makeTestNetwork({
    ...spec,
    edit: (config, kme) => {
      if (kme === "2") config.this_kme.reserve_share = [{ kme: 3, share: 0.4, saes: [2] }];
    },
  });
  for (const [a, b] of [[1, 2], [2, 3]] as const) await network.writeKeyFile(a, b, 100);
  await network.startAll();
  for (const [sae, slave] of [[1, 2], [2, 3], [3, 2]] as const) {
    await eventually(async () => await stockOf(network.client(sae), slave) === 100, { timeout: 30_000 });
  }
  const one = network.client(1);
  assertProblem(await one.encKeys(3, { number: 21 }), 503, undefined, [
    { peer: "KME 2 cannot pass the keys on now" },
  ]);
  assert.equal((await one.encKeys(3, { number: 20 })).status, 200);
  assertProblem(await one.encKeys(3), 503);
  assert.equal(await stockOf(one, 2), 80);
  assert.equal((await network.client(2).encKeys(3, { number: 80 })).status, 200);
});
