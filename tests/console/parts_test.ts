/** Single parts of the console. */
import assert from "node:assert/strict";
import { EventStreams, formatEvent } from "../../src/console/event_stream.ts";
import { History, type Point, Sampler } from "../../src/console/history.ts";
import { merge, RANGES, Series } from "../../src/console/page/series.js";
import { limitQuestion } from "../../src/console/limited_question.ts";
import { Incidents } from "../../src/events/incidents.ts";
import { DURATION_BOUNDS, Histogram } from "../../src/metrics/histogram.ts";
import { Watch } from "../../src/metrics/watch.ts";
import type { KmeStatus } from "../../src/metrics/kme_status.ts";

Deno.test("a question is not asked again while it is being answered", async () => {
  let asked = 0;
  let answer = (_: number) => {};
  const question = limitQuestion(() => {
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

Deno.test("an answer that took long is reused for longer", async () => {
  let asked = 0;
  const question = limitQuestion(() => {
    const begin = performance.now();
    while (performance.now() - begin < 5) { /* a slow question */ }
    return Promise.resolve(++asked);
  }, { timeout: 1000, rest: 1e6 });
  assert.equal(await question(), 1);
  assert.equal(await question(), 1);
});

Deno.test("a question that fails has no answer, and is asked again", async () => {
  let fails = true;
  const question = limitQuestion(() => {
    if (fails) throw new Error("away");
    return Promise.resolve(1);
  }, { timeout: 1000, rest: 1e6 });
  assert.equal(await question(), null);
  fails = false;
  assert.equal(await question(), 1);
});

Deno.test("a sample has what was counted since the previous one", () => {
  const watch = new Watch(["1", "2"], new Incidents());
  const sampler = new Sampler(watch.counts, 1000);
  watch.keys.delivered("2", 10);
  watch.requests("sae").answered("enc_keys", 2.5);
  watch.requests("sae").refused({
    status: 503,
    reason: "out_of_keys",
    caller: "SAE 1",
    request: "GET /",
    message: "for a test",
  });
  const links = [{ kme: "2", free: 7 }] as KmeStatus["links"];
  const point = sampler.sample(3000, 99, links);
  const bucket = DURATION_BOUNDS.findIndex((bound) => bound >= 0.0025);
  assert.deepEqual(point, {
    at: 99,
    seconds: 2,
    free: { 2: 7 },
    delivered: 10,
    collected: 0,
    ingested: 0,
    burnt: 0,
    refused: { "sae out_of_keys": 1 },
    durations: { enc_keys: [[bucket, 1]], dec_keys: [], activation: [] },
  });
  watch.keys.delivered("2", 1);
  const next = sampler.sample(4000, 100);
  assert.deepEqual([next.delivered, next.refused, next.durations.enc_keys], [1, {}, []]);
});

Deno.test("the history is bounded, and its coarse points have all counts of the fine ones", () => {
  const history = new History({ fine: 4, coarse: 2, ticksPerFine: 2, finePerCoarse: 3 });
  const tick = (at: number): Point => ({
    at,
    seconds: 1,
    free: { 2: at },
    delivered: 1,
    collected: 0,
    ingested: 0,
    burnt: 0,
    refused: { "sae http": 2 },
    durations: { enc_keys: [[3, 1]], dec_keys: [], activation: [] },
  });
  for (let at = 0; at < 100; at++) history.add(tick(at));
  assert.equal(history.fine.length, 4);
  assert.equal(history.coarse.length, 2);
  assert.equal(history.fine.at(-1)!.delivered, 2);
  const coarse = history.coarse.at(-1)!;
  assert.deepEqual([coarse.delivered, coarse.refused, coarse.durations.enc_keys], [6, { "sae http": 12 }, [[
    3,
    6,
  ]]]);
  assert.equal(history.live!.delivered, 2);
});

Deno.test("the page shows a day from coarse points, and the newest fine ones after them", () => {
  const point = (at: number, delivered: number, buckets: [number, number][] = []) => ({
    at,
    seconds: 10,
    free: { 2: at },
    delivered,
    collected: 0,
    ingested: 0,
    burnt: 0,
    refused: {},
    durations: { enc_keys: buckets, dec_keys: [], activation: [] },
  });
  const series = new Series();
  series.begin({
    fine: [point(9000, 1), point(11_000, 2), point(12_000, 4)],
    coarse: [point(5000, 8), point(10_000, 16)],
    bounds: [1, 2, 4],
  });
  const [quarter, hour, day] = RANGES.map(({ milliseconds }) => milliseconds);
  const delivered = (milliseconds: number, now: number) =>
    series.points(milliseconds, now).map(({ delivered, at }: Point) => [at, delivered]);
  assert.deepEqual(delivered(day!, 12_000), [[5000, 8], [10_000, 16], [12_000, 6]]);
  assert.deepEqual(delivered(hour!, 12_000), [[9000, 1], [11_000, 2], [12_000, 4]]);
  assert.deepEqual(delivered(quarter!, 11_500 + quarter!), [[12_000, 4]]);
  series.add({ fine: point(13_000, 32), coarse: point(13_000, 38) });
  assert.deepEqual(delivered(day!, 13_000), [[5000, 8], [10_000, 16], [13_000, 38]]);
  // Interpolated within a bucket: half of the ten durations are below the middle of the second one.
  assert.equal(series.quantile(0.5, [[1, 10]]), 1.5);
  assert.equal(series.quantile(0.99, [[0, 1], [3, 1]]), 4);
  assert.equal(series.quantile(0.5, []), null);
  assert.equal(merge([]).delivered, 0);
});

Deno.test("a histogram puts a duration into the first bucket that holds it", () => {
  const histogram = new Histogram();
  const durations = [0, DURATION_BOUNDS[0]!, DURATION_BOUNDS[5]!, DURATION_BOUNDS[5]! + 1e-9, 1e9];
  for (const seconds of durations) histogram.record(seconds);
  const filled = histogram.buckets.flatMap((count, i) => count > 0 ? [[i, count]] : []);
  assert.deepEqual(filled, [[0, 2], [5, 1], [6, 1], [DURATION_BOUNDS.length, 1]]);
  assert.equal(histogram.count, 5);
});

Deno.test("incidents are bounded, and repeated ones are counted instead of listed", () => {
  const incidents = new Incidents();
  const report = (message: string, same?: string) =>
    incidents.report({ kind: "neighbour", severity: "error", message, same });
  for (let i = 0; i < 1000; i++) report(`message ${i}`);
  assert.equal(incidents.since().length, 200);
  const { number } = incidents;
  report("first", "one");
  report("second", "one");
  assert.deepEqual(incidents.since(number).map(({ message, count }) => [message, count]), [["second", 2]]);
});

Deno.test("no text in an event can end it or start another one", () => {
  const text = new TextDecoder().decode(
    formatEvent("messages", { message: "a\n\nevent: status\ndata: {}\r\r\u2028" }),
  );
  assert.equal(text.split("\n").length, 4);
  assert.ok(text.endsWith("\n\n") && !text.includes("\r"));
});

Deno.test("streams that ended get nothing", async () => {
  const streams = new EventStreams(1);
  const body = streams.open(formatEvent("begin", {}))!;
  await body.cancel();
  assert.equal(streams.clients, 0);
  streams.send(formatEvent("status", {}));
  streams.close();
  assert.equal(streams.open(formatEvent("begin", {})), undefined);
});
