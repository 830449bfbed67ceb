/** Parts of the console by themselves. */
import assert from "node:assert/strict";
import { EventStreams, formatEvent } from "../../src/console/event_stream.ts";
import { History, RateMeter } from "../../src/console/history.ts";
import { patiently } from "../../src/console/patience.ts";
import type { KmeStatus } from "../../src/metrics/kme_status.ts";

Deno.test("a question is not asked again while it is under way", async () => {
  let asked = 0;
  let answer = (_: number) => {};
  const question = patiently(() => {
    asked++;
    return new Promise<number>((resolve) => answer = resolve);
  }, { timeout: 10 });
  assert.deepEqual(await Promise.all([question(), question(), question()]), [null, null, null]);
  assert.equal(asked, 1);
  const late = question();
  answer(7);
  assert.equal(await late, 7);
  assert.equal(asked, 1);
  assert.equal(await question(), null);
  assert.equal(asked, 2);
  answer(8);
});

Deno.test("an answer that was dear is good for longer", async () => {
  let asked = 0;
  const question = patiently(() => {
    const begin = performance.now();
    while (performance.now() - begin < 5) { /* dear */ }
    return Promise.resolve(++asked);
  }, { timeout: 1000, rest: 1e6 });
  assert.equal(await question(), 1);
  assert.equal(await question(), 1);
});

Deno.test("a question that fails has no answer, and is asked again", async () => {
  let fails = true;
  const question = patiently(() => {
    if (fails) throw new Error("away");
    return Promise.resolve(1);
  }, { timeout: 1000, rest: 1e6 });
  assert.equal(await question(), null);
  fails = false;
  assert.equal(await question(), 1);
});

Deno.test("rates are those of the last looks", () => {
  const meter = new RateMeter(2);
  const look = (at: number, delivered: number) => meter.look(at, { delivered, collected: 0, takenUp: 0 });
  assert.equal(meter.rates.delivered, 0);
  look(0, 0);
  assert.equal(meter.rates.delivered, 0);
  look(1000, 50);
  assert.equal(meter.rates.delivered, 50);
  look(2000, 51);
  assert.equal(meter.rates.delivered, 26);
  look(3000, 51);
  assert.equal(meter.rates.delivered, 0.5);
  look(4000, 51);
  assert.deepEqual(meter.rates, { delivered: 0, collected: 0, takenUp: 0 });
});

Deno.test("the history is bounded", () => {
  const history = new History(3);
  const rates = { delivered: 0, collected: 0, takenUp: 0 };
  for (let at = 0; at < 10; at++) {
    history.add(at, { links: [{ free: at }, { free: null }] } as unknown as KmeStatus, rates);
  }
  assert.deepEqual(history.points.map(({ at, free }) => [at, ...free]), [[7, 7, null], [8, 8, null], [
    9,
    9,
    null,
  ]]);
});

Deno.test("no text can end an event or begin another one", () => {
  const text = new TextDecoder().decode(
    formatEvent("messages", { message: "a\n\nevent: status\ndata: {}\r\r\u2028" }),
  );
  assert.equal(text.split("\n").length, 4);
  assert.ok(text.endsWith("\n\n") && !text.includes("\r"));
});

Deno.test("streams that ended are not told anything", async () => {
  const streams = new EventStreams(1);
  const body = streams.open(formatEvent("begin", {}))!;
  await body.cancel();
  assert.equal(streams.clients, 0);
  streams.send(formatEvent("status", {}));
  streams.close();
  assert.equal(streams.open(formatEvent("begin", {})), undefined);
});
