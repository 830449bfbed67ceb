/** Whether a neighbour is up is known before an SAE asks. */
import assert from "node:assert/strict";
import { kmeStatusSchema } from "../../src/metrics/kme_status.ts";
import { eventually } from "../harness/eventually.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { scrape } from "./scrape.ts";

Deno.test("neighbours are probed: up and down are known without a request, and a probe is no refused request", async () => {
  const options = { neighbour_probe_seconds: 1 };
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, saes: [1], console: true, options }, { id: 2, saes: [3], console: true, options }],
  });
  const origin = (kme: number) => `http://127.0.0.1:${network.kme(kme).consolePort}`;
  const up = async () =>
    scrape(await (await fetch(`${origin(1)}/metrics`)).text()).of("kme_peer_up")['kme="2"'];
  const first = await network.start(1);
  assert.equal(await up(), 0);
  await first.waitForLine(/KME 2 is unreachable/);
  const status = kmeStatusSchema.parse(await (await fetch(`${origin(1)}/status`)).json());
  assert.match(status.delivery.problems[0]!.what, /^KME 2 does not answer: connection refused$/);

  const second = await network.start(2);
  await eventually(async () => await up() === 1, { what: "KME 2 is up" });
  await second.stop();
  await eventually(async () => await up() === 0, { what: "KME 2 is down" });
  await network.start(2);
  await eventually(async () => await up() === 1, { what: "KME 2 is up again" });

  const incidents = await (await fetch(`${origin(1)}/incidents`)).json();
  assert.deepEqual(
    [...new Set(incidents.map(({ kind, severity }: Record<string, string>) => `${kind} ${severity}`))].sort(),
    ["neighbour error", "neighbour info"],
  );
  const refused = scrape(await (await fetch(`${origin(2)}/metrics`)).text()).of("kme_requests_refused_total");
  assert.deepEqual(refused, {});
});
