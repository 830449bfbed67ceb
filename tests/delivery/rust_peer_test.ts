/** A peer that knows only `/keys/activate`: whole 256-bit blocks for one slave work, all else is refused. */
import assert from "node:assert/strict";
import { once } from "node:events";
import https from "node:https";
import type { NetworkSpec, TestNetwork } from "../harness/test_network.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { eventually } from "../harness/eventually.ts";
import { keyIdsOf } from "../harness/sae_client.ts";
import { assertProblem, stockOf } from "../sae_api/api_fixture.ts";
import { assertEachReadsOnce, bitsOf } from "./test_networks.ts";

/** KME 2 is the foreign one; KME 3 is ours, KME 4 is only reached through the foreign one. */
const spec: NetworkSpec = {
  kmes: [{ id: 1, saes: [1, 11] }, { id: 2, saes: [2, 22] }, { id: 3, saes: [3] }, { id: 4, saes: [4] }],
  links: [[1, 2], [1, 3], [2, 4]],
  reachedThrough: [{ kme: 1, other: 4, through: 2 }, { kme: 4, other: 1, through: 2 }],
};

interface Activation {
  readonly key_IDs_list: string[];
  readonly origin_SAE_ID: number;
  readonly remote_SAE_ID: number;
}

interface ForeignKme extends AsyncDisposable {
  readonly activations: Activation[];
  /** Paths that it does not know. */
  readonly unknown: string[];
}

/** A KME that answers as `qkd_kme_server` does, and holds every block free. */
async function foreignKme(network: TestNetwork): Promise<ForeignKme> {
  const { cert, key } = await network.interKmeCa.server({ commonName: "foreign KME" });
  const activations: Activation[] = [];
  const unknown: string[] = [];
  const server = https.createServer(
    { cert, key, ca: network.interKmeCa.ca, requestCert: true, rejectUnauthorized: true },
    async (request, response) => {
      let body = "";
      for await (const chunk of request) body += chunk;
      if (request.url === "/keys/activate" && request.method === "POST") {
        activations.push(JSON.parse(body));
        response.end("OK");
        return;
      }
      unknown.push(request.url!);
      response.writeHead(404, { "content-type": "text/plain" }).end("Not found");
    },
  );
  server.listen(network.kme(2).kmesPort, "127.0.0.1");
  await once(server, "listening");
  return {
    activations,
    unknown,
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

Deno.test("a KME of another program works with keys of 256 bits for one slave", async () => {
  await using network = await makeTestNetwork(spec);
  const stored = await network.writeKeyFile(1, 2, 30);
  await using foreign = await foreignKme(network);
  await network.start(1);
  const client = network.client(1);
  await eventually(async () => await stockOf(client, 2) === 30);
  for (const request of [{}, { number: 12 }, { size: 256 }, { additional_slave_SAE_IDs: [] }]) {
    const enc = await client.encKeys(2, request);
    assert.equal(enc.status, 200, enc.status === 200 ? "" : enc.text);
    assert.ok(bitsOf(enc).every((bits) => bits.length === 32));
    const ids = keyIdsOf(enc);
    const told = foreign.activations.splice(0);
    assert.deepEqual(told.flatMap((message) => message.key_IDs_list).toSorted(), ids.toSorted());
    assert.ok(ids.every((id) => stored.includes(id)), "a key_ID that is no block's");
    for (const message of told) {
      assert.ok(message.key_IDs_list.length <= 10);
      assert.deepEqual([message.origin_SAE_ID, message.remote_SAE_ID], [1, 2]);
    }
  }
  const young = { extension_mandatory: [{ kme_max_age_seconds: 3600 }] };
  assert.equal((await client.encKeys(2, young)).status, 200);
  assert.equal(await stockOf(client, 2), 14);
  // Its abilities are queried once; the others are probes.
  assert.equal(new Set(foreign.unknown).size, 1);
  assert.ok(foreign.unknown.length <= 3, `${foreign.unknown.length} messages that it does not know`);
});

Deno.test("any other request is 503 with a reason, and consumes no keys", async () => {
  await using network = await makeTestNetwork(spec);
  for (const [a, b] of [[1, 1], [1, 2], [1, 3]] as const) await network.writeKeyFile(a, b, 20);
  await using foreign = await foreignKme(network);
  await network.start(1);
  await network.start(3);
  const client = network.client(1);
  for (const slave of [11, 2, 3]) await eventually(async () => await stockOf(client, slave) === 20);
  const wishes = [
    { slave: 2, size: 64 },
    { slave: 2, size: 264 },
    { slave: 2, size: 512 },
    { slave: 2, additional_slave_SAE_IDs: ["22"] },
    { slave: 2, additional_slave_SAE_IDs: ["11"] },
    { slave: 2, additional_slave_SAE_IDs: ["3"] },
    { slave: 3, additional_slave_SAE_IDs: ["2"] },
    { slave: 11, additional_slave_SAE_IDs: ["2"] },
    { slave: 4 },
    { slave: 3, additional_slave_SAE_IDs: ["4"] },
  ];
  for (const { slave, ...request } of wishes) {
    const response = await client.encKeys(slave, request);
    assertProblem(response, 503);
    assert.match(response.json.details[0].peer, /\bKME 2\b/, "the reason does not say whose it is");
  }
  assert.deepEqual(foreign.activations, []);
  for (const slave of [11, 2, 3]) assert.equal(await stockOf(client, slave), 20);
  // Elsewhere all of it is served.
  const enc = await client.encKeys(3, { size: 1000, additional_slave_SAE_IDs: ["11"] });
  await assertEachReadsOnce(network, enc, 1, [3, 11]);
});

Deno.test("Status shows what such a KME supports, once that is known", async () => {
  await using network = await makeTestNetwork(spec);
  for (const [a, b] of [[1, 1], [1, 2]] as const) await network.writeKeyFile(a, b, 5);
  await using _foreign = await foreignKme(network);
  await network.start(1);
  const client = network.client(1);
  await eventually(async () => (await client.status(2)).json.max_key_size === 256);
  const facts = async (slave: number) => {
    const { min_key_size, key_size, max_key_size, max_SAE_ID_count, stored_key_count } =
      (await client.status(slave)).json;
    return [min_key_size, key_size, max_key_size, max_SAE_ID_count, stored_key_count];
  };
  assert.deepEqual(await facts(2), [256, 256, 256, 0, 5]);
  assert.deepEqual(await facts(4), [256, 256, 256, 0, 0]);
  assert.deepEqual(await facts(11), [8, 256, 65_536, 8, 5]);
});

Deno.test("its activation is accepted: the slave of this KME fetches the key", async () => {
  await using network = await makeTestNetwork(spec);
  const [first, second] = await network.writeKeyFile(1, 2, 2);
  await network.start(1);
  await eventually(async () => await stockOf(network.client(1), 2) === 2);
  const { cert, key } = network.kme(2).interKmeClient;
  const activate = (body: unknown) =>
    new Promise<[number, string]>((resolve, reject) => {
      const request = https.request({
        host: "127.0.0.1",
        port: network.kme(1).kmesPort,
        path: "/keys/activate",
        method: "POST",
        cert,
        key,
        ca: network.interKmeCa.ca,
        agent: false,
      }, async (response) => {
        let text = "";
        for await (const chunk of response) text += chunk;
        resolve([response.statusCode!, text]);
      });
      request.on("error", reject);
      request.end(JSON.stringify(body));
    });
  const message = { key_IDs_list: [first], origin_SAE_ID: 2, remote_SAE_ID: 1 };
  assert.deepEqual(await activate(message), [200, "OK"]);
  assert.deepEqual(await activate({ ...message, remote_SAE_ID: 3, key_IDs_list: [second] }), [
    404,
    "Not found",
  ]);
  assert.deepEqual(keyIdsOf(await network.client(1).decKeys(2, first!)), [first]);
  assert.equal(await stockOf(network.client(1), 2), 1);
});
