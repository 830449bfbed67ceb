/** Refused requests of SAEs and peers are reported: a log line, a count, an incident. */
import assert from "node:assert/strict";
import { RateLimitedLog } from "../../src/rate_limited_log.ts";
import { eventually } from "../harness/eventually.ts";
import { KmeCaller } from "../inter_kme/rust_kme.ts";
import { recordLog } from "../inter_kme/test_peer.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { scrape } from "./scrape.ts";

Deno.test("a refused request is a structured log line, an incident and a count", async () => {
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, saes: [1], console: true }, { id: 2, saes: [3], console: true }],
  });
  const [kme, neighbour] = await network.startAll({ env: { LOG_FORMAT: "json" } });
  const origin = `http://127.0.0.1:${network.kme(1).consolePort}`;

  assert.equal((await network.client(1).encKeys(3)).status, 503);
  const line = JSON.parse(await kme!.waitForLine(/"reason":"out_of_keys"/));
  assert.equal(line.level, "WARN");
  assert.deepEqual(
    [line.listener, line.caller, line.request, line.status, line.reason, line.answer],
    ["SAE", "SAE 1", "GET /api/v1/keys/3/enc_keys", 503, "out_of_keys", "not enough keys are in stock"],
  );
  const incidents = await (await fetch(`${origin}/incidents`)).json();
  const incident = incidents.find(({ kind }: { kind: string }) => kind === "refused request");
  assert.equal(incident.message, "SAE 1: GET /api/v1/keys/3/enc_keys: 503 not enough keys are in stock");
  assert.equal(incident.count, 1);

  // Of a peer: a message that is not one.
  using peer = new KmeCaller(network, 2, network.kme(1).interKmeClient);
  assert.equal((await peer.activate("no JSON")).status, 400);
  const refused = JSON.parse(await neighbour!.waitForLine(/"listener":"inter-KME"/));
  assert.deepEqual([refused.caller, refused.request, refused.status, refused.reason], [
    "KME 1",
    "POST /keys/activate",
    400,
    "invalid",
  ]);
  const metrics = await (await fetch(`http://127.0.0.1:${network.kme(2).consolePort}/metrics`)).text();
  assert.equal(
    scrape(metrics).of("kme_requests_refused_total")['listener="kme",status="400",reason="invalid"'],
    1,
  );
});

Deno.test("many lines of one kind are limited, and those left out are counted", async () => {
  await using recorded = await recordLog();
  const { lines } = recorded;
  const limited = new RateLimitedLog("http", { lines: 3, periodMs: 50 });
  for (let i = 0; i < 100; i++) limited.warn("one", "line {i}", { i });
  limited.warn("other", "another kind");
  assert.equal(lines.length, 4);
  await eventually(() => lines.length === 5);
  assert.equal(lines[4], "warning: 97 more lines of the kind one were left out within 0.05 s");
  limited.warn("one", "again");
  assert.equal(lines.length, 6);
});
