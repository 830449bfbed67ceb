/** A KME whose log goes to a pipe that nothing reads. */
import assert from "node:assert/strict";
import { runKme } from "../harness/kme_process.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { eventually } from "../harness/eventually.ts";
import { startUnreadKme } from "../harness/unread_kme.ts";

/** As many lines of events and more; the buffer holds 10,000. */
const BLOCKS = 15_000;

Deno.test("a KME goes on when its stderr is not read, and says afterwards how many lines were dropped", async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1, 2], console: true }] });
  await network.writeKeyFile(1, 1, BLOCKS);
  const { configPath, consolePort } = network.kme(1);
  using unread = startUnreadKme(configPath);
  const { child } = unread;
  const client = network.client(1, { timeout: 10_000 });
  await eventually(async () => (await client.status(2)).json.stored_key_count === BLOCKS, {
    timeout: 60_000,
  });
  // Each key is an event with a line of its own: more lines than the pipe and the buffer hold.
  for (let i = 0; i < BLOCKS / 120; i++) {
    assert.equal((await client.encKeys(2, { number: 120 })).status, 200);
  }
  const metrics = await (await fetch(`http://127.0.0.1:${consolePort}/metrics`)).text();
  const dropped = Number(/^kme_log_lines_dropped_total (\d+)/m.exec(metrics)?.[1]);
  assert.ok(dropped > 0);
  let text = "";
  const reading = (async () => {
    for await (const part of child.stderr.pipeThrough(new TextDecoderStream())) text += part;
  })();
  await eventually(() => text.includes(`${dropped} log lines were dropped`));
  child.kill("SIGTERM");
  assert.equal((await child.status).code, 0);
  await reading;
  assert.match(text, /stopped$/m);
});

Deno.test("the last lines of a program that ends are written", async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1] }] });
  const { configPath } = network.kme(1);
  const kme = await network.start(1);
  const refused = await runKme([configPath]);
  assert.equal(refused.code, 1);
  await kme.stop();
  assert.match(kme.lines.join("\n"), /stopped$/m);
});
