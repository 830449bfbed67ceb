/** The load generator on KMEs. Nothing is timed: runs end by their number of requests. */
import assert from "node:assert/strict";
import { load } from "./load_process.ts";
import { Site } from "./site.ts";

Deno.test("a run of several kinds of requests has as many of each as their shares say, at a pace too", async () => {
  await using site = await Site.make([":memory:", ":memory:"]);
  await site.renewWith("remote", 500);
  const kinds = [
    { way: "enc+dec", slave: "remote", share: 8, connections: 1, pace: 10_000 },
    { way: "status", slave: "local", share: 1 },
    { way: "status", slave: "remote", share: 1, handshakes: true },
  ] as const;
  // The warm-up is a fifth of the requests.
  const job = site.job(kinds, { seconds: 60, warmup: 60, requests: 100 });
  for (const pace of [undefined, job.pace]) {
    const result = await load({ ...job, pace });
    assert.equal(result.firstFailure, undefined);
    assert.equal(result.ok, 80);
    assert.deepEqual(result.kinds.map(({ count }) => count), [64, 8, 8]);
    assert.ok(result.kinds.every(({ p50, p99 }) => p50 > 0 && p50 <= p99));
    assert.equal(result.keys, 80);
    assert.equal(await site.settle("remote", 80), 0);
  }
});

Deno.test("a run on a stock that is too small ends by itself, and a server that is away ends it too", async () => {
  await using site = await Site.make([":memory:", ":memory:"]);
  await site.renewWith("local", 1000);
  const times = { seconds: 60, warmup: 60 };
  const { ok, failed, keys } = await site.run({ way: "enc", slave: "local", keys: 2 }, times, 1000);
  // What is left for requests under way is not used.
  assert.deepEqual({ failed, keys }, { failed: 0, keys: 744 });
  assert.ok(ok > 0);
  const job = site.job([{ way: "enc", slave: "local" }], { ...times, requests: 100_000 });
  const empty = await load(job);
  assert.equal(empty.keys, 256);
  assert.match(empty.firstFailure!, /^503 /);
  const away = await load({ ...job, port: 1 });
  assert.equal(away.ok, 0);
  assert.ok(away.failed > 1000);
});
