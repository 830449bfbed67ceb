/** Two processes of one KME on one database agree with the other end of a link on what it shares with them. */
import assert from "node:assert/strict";
import { makeReplica } from "../durability/replicas.ts";
import { databaseTest } from "../harness/databases.ts";
import { eventually } from "../harness/eventually.ts";
import { keyIdsOf } from "../harness/sae_client.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { stockOf } from "../sae_api/api_fixture.ts";
import { put, random } from "./stock_network.ts";

const SHARED = 30;
const STRAYS = 50;

databaseTest(
  "postgres",
  "two replicas whose stock differs from that of the other end",
  async (uri, server) => {
    await using network = await makeTestNetwork({
      kmes: [
        { id: "1", saes: ["1"], database: uri },
        { id: "2", saes: ["3"], database: await server.createDatabase() },
      ],
    });
    const replica = await makeReplica(network);
    const late = random(STRAYS);
    await put(network, 1, "late.cor", late);
    const shared = random(SHARED);
    for (const kme of [1, 2] as const) await put(network, kme, "shared.cor", shared);
    const [first] = await network.startAll();
    await using second = await replica.start();
    const clients = [network.client(1), network.client(1, { port: replica.saesPort })];
    const slave = network.client(3);

    const offered = async (count: number) => {
      await eventually(async () => {
        const stocks = await Promise.all([...clients.map((client) => stockOf(client, 3)), stockOf(slave, 1)]);
        assert.deepEqual(stocks, [count, count, count]);
        return true;
      }, { what: `${count} blocks at both replicas and at the other end`, timeout: 120_000 });
    };
    await offered(SHARED);
    // Each process compares by itself, and says so.
    for (const process of [first!, second]) {
      await process.waitForLine(/the ends of the link with KME 2 have different blocks: late\.cor/, 60_000);
    }
    const take = async (count: number) => {
      for (let i = 0; i < count; i++) {
        const answer = await clients[i % 2]!.encKeys(3);
        assert.equal(answer.status, 200, answer.text);
        assert.equal((await slave.decKeys(1, keyIdsOf(answer)[0]!)).status, 200);
      }
    };
    await take(SHARED);
    for (const client of clients) assert.equal((await client.encKeys(3)).status, 503);

    await put(network, 2, "late.cor", late);
    await offered(STRAYS);
    await take(STRAYS);
    for (const process of [first!, second]) {
      await process.waitForLine(/both ends of the link with KME 2 have the same blocks again/, 60_000);
    }
  },
);
