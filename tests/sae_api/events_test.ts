/** Events in the log of both KMEs: word for word, once a key, and never with a key's bits. */
import assert from "node:assert/strict";
import type { KmeProcess } from "../harness/kme_process.ts";
import { keyIdsOf, keysOf } from "../harness/sae_client.ts";
import { assertProblem, startNetwork, twoKmes } from "./api_fixture.ts";

/** Events in their order, without what the log puts in front. */
function events(process: KmeProcess, nickname: string): string[] {
  return process.lines.flatMap((line) => {
    const start = line.indexOf(`[${nickname}] `);
    return start < 0 ? [] : [line.slice(start)];
  });
}

async function stopped(processes: readonly KmeProcess[]): Promise<void> {
  for (const process of processes) assert.equal(await process.stop(), 0);
}

Deno.test("both KMEs report a key between them, each its part", async () => {
  await using network = await startNetwork(twoKmes, [1, 2, 5]);
  const [id] = keyIdsOf(await network.client(1).encKeys(3));
  keysOf(await network.client(3).decKeys(1, id!));
  await stopped(network.processes);
  assert.deepEqual(events(network.processes[0]!, "Alice"), [
    "[Alice] SAE 1 requested a key to communicate with 3",
    "[Alice] As SAE 3 belongs to KME 2, activating it through inter KMEs network",
    `[Alice] Key ${id} activated between SAEs 1 and 3`,
  ]);
  assert.deepEqual(events(network.processes[1]!, "Bob"), [
    `[Bob] Key ${id} activated between SAEs 1 and 3`,
    `[Bob] SAE 3 requested key ${id} (from 1)`,
  ]);
});

Deno.test("several keys of one request are reported one by one", async () => {
  await using network = await startNetwork(twoKmes, [1, 2, 30]);
  const ids = keyIdsOf(await network.client(3).encKeys(2, { number: 25 }));
  keysOf(await network.client(2).decKeys(3, ids));
  await stopped(network.processes);
  const activated = ids.map((id) => `Key ${id} activated between SAEs 3 and 2`);
  assert.deepEqual(
    events(network.processes[1]!, "Bob").toSorted(),
    [
      "[Bob] SAE 3 requested a key to communicate with 2",
      "[Bob] As SAE 2 belongs to KME 1, activating it through inter KMEs network",
      ...activated.map((text) => `[Bob] ${text}`),
    ].toSorted(),
  );
  assert.deepEqual(
    events(network.processes[0]!, "Alice").toSorted(),
    [
      ...activated.map((text) => `[Alice] ${text}`),
      ...ids.map((id) => `[Alice] SAE 2 requested key ${id} (from 3)`),
    ].toSorted(),
  );
});

Deno.test("a key inside one KME needs no network between KMEs", async () => {
  await using network = await startNetwork({ kmes: [{ id: 7, saes: [1, 2] }] }, [7, 7, 3]);
  const [id] = keyIdsOf(await network.client(1).encKeys(2));
  keysOf(await network.client(2).decKeys(1, id!));
  await stopped(network.processes);
  assert.deepEqual(events(network.processes[0]!, "KME 7"), [
    "[KME 7] SAE 1 requested a key to communicate with 2",
    `[KME 7] Key ${id} activated between SAEs 1 and 2`,
    `[KME 7] SAE 2 requested key ${id} (from 1)`,
  ]);
});

Deno.test("a refused message is not reported as done", async () => {
  await using network = await startNetwork(twoKmes, [1, 2, 1]);
  assertProblem(await network.client(1).encKeys(3, { number: 2 }), 503);
  const [id] = keyIdsOf(await network.client(1).encKeys(3));
  assertProblem(await network.client(3).decKeys(2, id!), 400);
  assertProblem(await network.client(2).decKeys(1, id!), 401);
  keysOf(await network.client(3).decKeys(1, id!));
  assertProblem(await network.client(3).decKeys(1, id!), 400);
  await stopped(network.processes);
  const count = (nickname: string, process: KmeProcess, pattern: RegExp) =>
    events(process, nickname).filter((text) => pattern.test(text)).length;
  const [alice, bob] = network.processes;
  assert.equal(count("Alice", alice!, /activated between/), 1);
  assert.equal(count("Bob", bob!, /activated between/), 1);
  assert.equal(count("Alice", alice!, /requested key/), 0);
  assert.equal(count("Bob", bob!, /requested key/), 1);
});

Deno.test("no log at any level holds a key's bits", async () => {
  await using network = await startNetwork(twoKmes);
  await stopped(network.processes);
  await network.writeKeyFile(1, 2, 20);
  await network.writeKeyFile(1, 1, 5);
  const processes = await network.startAll({ env: { LOG_LEVEL: "trace" } });
  const given = [
    await network.client(1).encKeys(3, { number: 12 }),
    await network.client(3).encKeys(1, { number: 2 }),
    await network.client(1).encKeys(2, { number: 3 }),
  ];
  keysOf(await network.client(3).decKeys(1, keyIdsOf(given[0]!)));
  assertProblem(await network.client(3).decKeys(1, keyIdsOf(given[0]!)), 400);
  assertProblem(await network.client(1).encKeys(2, { number: 100 }), 503);
  await stopped(processes);
  const log = processes.flatMap((process) => process.lines).join("\n");
  assert.match(log, /activated between/);
  for (const key of given.flatMap(keysOf)) {
    const bits = Uint8Array.fromBase64(key.key);
    const forms = [
      key.key,
      key.key.slice(4, 24),
      bits.toHex().slice(8, 32),
      [...bits.subarray(2, 10)].join(","),
      [...bits.subarray(2, 10)].join(", "),
    ];
    assert.ok(forms.every((form) => !log.toLowerCase().includes(form.toLowerCase())), "the log holds a key");
  }
});
