/** With `answer_repeat_seconds`, a fetch is recorded as repeated only if an earlier one is recorded. */
import assert from "node:assert/strict";
import { formatKeyId } from "../../src/domain/block.ts";
import { NotRecorded } from "../../src/domain/refusals.ts";
import { Delivery } from "../../src/delivery/delivery.ts";
import { Directory } from "../../src/delivery/directory.ts";
import { type FetchedKeys, type KeyRecords, noKeyRecords } from "../../src/delivery/key_records.ts";
import { UnrecordedReads } from "../../src/delivery/unrecorded_reads.ts";
import { Events } from "../../src/events/events.ts";
import { loadConfig } from "../../src/config/load.ts";
import { Store } from "../../src/store/store.ts";
import type { ConnectedClient } from "../../src/x509/client_identity.ts";
import { right } from "../config/config_fixture.ts";
import { eventually } from "../harness/eventually.ts";
import { allIngested } from "../harness/key_files.ts";
import { keyIdsOf, keysOf } from "../harness/sae_client.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { oneKmeWith } from "../sae_api/api_fixture.ts";
import { fill } from "../store/store_fixture.ts";
import { fileOf, linesIn } from "./audit_fixture.ts";

Deno.test("a repeated fetch after a kill is not called repeated where the first one has no record", async () => {
  const options = { answer_repeat_seconds: 300, audit_log: { directory: "audit" } };
  await using network = await makeTestNetwork(oneKmeWith(options, "sqlite"));
  const directory = `${network.kme(1).directory}/audit`;
  const file = `${directory}/audit-1-000001.jsonl`;
  await Deno.mkdir(directory);
  await network.writeKeyFile(1, 1, 2);
  const first = await network.start(1);
  await allIngested(network.kme(1).keyDirectories.values());
  const [key] = keysOf(await network.client(1).encKeys(2));
  const slave = network.client(2);
  assert.deepEqual(keyIdsOf(await slave.decKeys(1, key!.key_ID)), [key!.key_ID]);
  await first.kill();
  // As it is when the kill comes after the database has the read, and before the log has it.
  const lines = linesIn(await Deno.readFile(file));
  const fetch = lines.findIndex((line) => JSON.parse(line).kind === "fetch");
  assert.ok(fetch > 0);
  await Deno.writeFile(file, fileOf(lines.slice(0, fetch)));

  const second = await network.start(1);
  for (let i = 0; i < 2; i++) {
    assert.ok(keysOf(await slave.decKeys(1, key!.key_ID))[0]!.key === key!.key, "another key");
  }
  assert.equal(await second.stop(), 0);
  const outcomes = linesIn(await Deno.readFile(file)).map((line) => JSON.parse(line))
    .filter(({ kind }) => kind === "fetch").map(({ outcome }) => outcome);
  assert.deepEqual(outcomes, ["perhaps repeated", "perhaps repeated"]);
});

Deno.test("a repeated fetch is not called repeated where the first one could not be recorded, or is not yet", async () => {
  await using network = await makeTestNetwork(oneKmeWith({ answer_repeat_seconds: 300 }));
  const { config } = right(await loadConfig(network.kme(1).configPath));
  const store = await Store.open({
    database: { kind: "memory" },
    thisKme: config.thisKme.id,
    neighbours: [],
  });
  await using _closed = { [Symbol.asyncDispose]: () => store.close() };
  await fill(store, 3);
  const fetched: [string[], string][] = [];
  let record: () => Promise<void> = () => Promise.resolve();
  const records: KeyRecords = {
    ...noKeyRecords,
    fetched: ({ ids, outcome }: FetchedKeys) => {
      fetched.push([ids.map(formatKeyId), outcome]);
      return record();
    },
  };
  const directory = new Directory(config);
  const delivery = new Delivery({
    config,
    directory,
    store,
    peers: new Map(),
    events: new Events("test"),
    records,
  });
  const [master, slave] = [directory.sae("1")!, directory.sae("2")!];
  const client = { identity: { fingerprint: "ab".repeat(32) } } as ConnectedClient;
  const keys = await delivery.getKeys(master, "2", { number: 3, size: 256, additionalSlaves: [] }, client);
  const [failed, slow, other] = keys.map(({ id }) => id);
  const get = (...ids: Uint8Array[]) => delivery.getKeysWithIds(slave, "1", ids, client);
  const last = () => fetched.splice(0).map(([ids, outcome]) => [outcome, ...ids]);
  const text = (id: Uint8Array) => formatKeyId(id);

  record = () => Promise.reject(new NotRecorded("the disk is full"));
  await assert.rejects(get(failed!), NotRecorded);
  await assert.rejects(get(failed!), NotRecorded);
  assert.deepEqual(last(), [["first", text(failed!)], ["perhaps repeated", text(failed!)]]);

  const written = Promise.withResolvers<void>();
  record = () => written.promise;
  const waiting = get(slow!);
  await eventually(() => fetched.length > 0);
  record = () => Promise.resolve();
  await get(failed!, slow!, other!);
  assert.deepEqual(last(), [
    ["first", text(slow!)],
    ["perhaps repeated", text(failed!), text(slow!)],
    ["first", text(other!)],
  ]);
  written.resolve();
  await waiting;
  await get(failed!, slow!, other!);
  assert.deepEqual(last(), [["repeated", text(failed!), text(slow!), text(other!)]]);
  await delivery.close();
});

Deno.test("reads without a record are remembered for as long as they may be repeated", () => {
  let now = 0;
  const reads = new UnrecordedReads(1000, () => now);
  const [a, b, c] = [1, 2, 3].map((byte) => new Uint8Array(16).fill(byte));
  reads.add("2", [a!, b!]);
  reads.remove("2", [b!]);
  now = 999;
  reads.add("2", [c!]);
  assert.deepEqual([a, b, c].map((id) => reads.has("2", id!)), [true, false, true]);
  assert.equal(reads.has("3", a!), false);
  now = 1000;
  reads.add("3", [a!]);
  assert.deepEqual([a, c].map((id) => reads.has("2", id!)), [false, true]);
  const none = new UnrecordedReads(0, () => now);
  none.add("2", [a!]);
  assert.equal(none.has("2", a!), false);
});
