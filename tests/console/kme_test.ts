/** The console of a real KME. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { kmeStatusSchema } from "../../src/metrics/kme_status.ts";
import { eventually } from "../harness/eventually.ts";
import { runKme } from "../harness/kme_process.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { follow } from "./served.ts";

Deno.test("the console shows the lifecycle of keys, and never their bits", async () => {
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, nickname: "Alice", saes: [1], console: true }, { id: 2, saes: [3], console: true }],
  });
  await network.writeKeyFile(1, 2, 20);
  await network.startAll();
  const [origin, peer] = [1, 2].map((id) => `http://127.0.0.1:${network.kme(id).consolePort}`) as [
    string,
    string,
  ];
  const stop = new AbortController();
  const stream = follow(origin, stop.signal);
  const seen: unknown[] = [(await stream.next()).value];

  const delivered = await network.client(1).encKeys(3, { number: 2 });
  assert.equal(delivered.status, 200, delivered.text);
  const keys: { key_ID: string; key: string }[] = delivered.json.keys;
  const waiting = async (base: string, count: number) => {
    const { keysWaiting } = kmeStatusSchema.parse(await (await fetch(`${base}/status`)).json());
    return keysWaiting === count;
  };
  await eventually(() => waiting(peer, 2), { what: "two keys wait", timeout: 30_000 });
  const fetched = await network.client(3).decKeys(1, [keys[0]!.key_ID]);
  assert.equal(fetched.status, 200, fetched.text);
  await eventually(() => waiting(peer, 1), { what: "one key waits", timeout: 30_000 });
  while (JSON.stringify(seen).split("activated between").length < 3) seen.push((await stream.next()).value);
  stop.abort();

  const status = kmeStatusSchema.parse(await (await fetch(`${origin}/status`)).json());
  assert.deepEqual([status.ready, status.keysWaiting, status.peers[0]!.up], [true, 0, true]);
  assert.deepEqual(status.links.map(({ kme, free }) => [kme, free]), [["1", 0], ["2", 18]]);
  assert.equal(status.links[1]!.lastIngestion!.file, "keys-000001.cor");
  const messages = await (await fetch(`${origin}/messages`)).json();
  assert.deepEqual(messages.map(({ message }: { message: string }) => message), [
    "[Alice] SAE 1 requested a key to communicate with 3",
    "[Alice] As SAE 3 belongs to KME 2, activating it through inter KMEs network",
    ...keys.map(({ key_ID }) => `[Alice] Key ${key_ID} activated between SAEs 1 and 3`),
  ]);

  const told = [JSON.stringify(seen)];
  for (const base of [origin, peer]) {
    for (const path of ["/messages", "/status", "/metrics"]) {
      told.push(await (await fetch(`${base}${path}`)).text());
    }
  }
  for (const { key } of keys) {
    const bits = Buffer.from(key, "base64");
    for (const form of [key, bits.toString("base64url"), bits.toString("hex"), [...bits].join()]) {
      assert.ok(told.every((text) => !text.includes(form)), "a key's bits are on the console");
    }
  }
});

Deno.test("a KME that stops ends the streams of pages at once", async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1], console: true }] });
  const kme = await network.start(1);
  const stream = follow(`http://127.0.0.1:${network.kme(1).consolePort}`);
  await stream.next();
  kme.signal("SIGTERM");
  for await (const _ of stream) { /* until it ends */ }
  assert.equal((await kme.exited).code, 0);
});

Deno.test("a console that other hosts can reach is a warning, one for this host is not", async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1], console: true }] });
  const { consolePort } = network.kme(1);
  const quiet = await network.start(1);
  assert.equal(quiet.lines.some((line) => /can be reached/.test(line)), false);
  await quiet.stop();
  await network.writeConfig(1, (config) => {
    config.this_kme.debugging_http_interface = `0.0.0.0:${consolePort}`;
  });
  const open = await network.start(1);
  const line = await open.waitForLine(/can be reached from other hosts/);
  assert.match(line, new RegExp(`WARNING.*0\\.0\\.0\\.0:${consolePort}`));
});

Deno.test("without the member there is no console", async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1], console: true }] });
  await network.writeConfig(1, (config) => {
    delete config.this_kme.debugging_http_interface;
  });
  await network.writeKeyFile(1, 1, 5);
  await network.start(1);
  await assert.rejects(Deno.connect({ hostname: "127.0.0.1", port: network.kme(1).consolePort }));
  await eventually(async () => (await network.client(1).encKeys(1)).status === 200);
});

Deno.test("if the port of the console is in use, the start ends with code 1 and one line", async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1], console: true }] });
  const { consolePort, configPath } = network.kme(1);
  using _taken = Deno.listen({ hostname: "127.0.0.1", port: consolePort });
  const { code, stderr } = await runKme([configPath]);
  assert.equal(code, 1);
  assert.match(stderr, new RegExp(`console: cannot listen on 127\\.0\\.0\\.1:${consolePort}: `));
});
