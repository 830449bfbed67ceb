/** Whether a neighbour is up is known before an SAE asks. */
import assert from "node:assert/strict";
import type { Incident } from "../../src/events/incidents.ts";
import { kmeStatusSchema } from "../../src/metrics/kme_status.ts";
import { eventually } from "../harness/eventually.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { scrape } from "./scrape.ts";

Deno.test("neighbours are probed: up and down are known without a request, and a probe is no refused request", async () => {
  // A busy machine may take long to answer; that is no failure of a neighbour.
  const options = { neighbour_probe_seconds: 1, inter_kme_timeout_seconds: 30 };
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, saes: [1], console: true, options }, { id: 2, saes: [3], console: true, options }],
  });
  const origin = (kme: number) => `http://127.0.0.1:${network.kme(kme).consolePort}`;
  const up = async () =>
    scrape(await (await fetch(`${origin(1)}/metrics`)).text()).of("kme_peer_up")['kme="2"'];
  const becomes = (value: number, what: string) =>
    eventually(async () => await up() === value, { what, timeout: 60_000 });
  const first = await network.start(1);
  assert.equal(await up(), 0);
  await first.waitForLine(/KME 2 is unreachable/);
  // The status may be half a second old.
  await eventually(async () => {
    const status = kmeStatusSchema.parse(await (await fetch(`${origin(1)}/status`)).json());
    return status.delivery.problems.some(({ what }) => what === "KME 2 does not answer: connection refused");
  }, { what: "the problem in the status", timeout: 60_000 });

  const second = await network.start(2);
  await becomes(1, "KME 2 is up");
  await second.stop();
  await becomes(0, "KME 2 is down");
  await network.start(2);
  await becomes(1, "KME 2 is up again");

  const reported: Incident[] = await (await fetch(`${origin(1)}/incidents`)).json();
  const ofNeighbour = reported.filter(({ kind }) => kind === "neighbour");
  assert.deepEqual([...new Set(ofNeighbour.map(({ severity }) => severity))].sort(), ["error", "info"]);
  for (const [kme, incidents] of [[1, reported], [2, await (await fetch(`${origin(2)}/incidents`)).json()]]) {
    const refused = incidents.filter(({ kind }: Incident) => kind.startsWith("refused"));
    assert.deepEqual(refused, [], `at KME ${kme}`);
    const metrics = scrape(await (await fetch(`${origin(kme)}/metrics`)).text());
    assert.deepEqual(metrics.of("kme_requests_refused_total"), {}, `at KME ${kme}`);
  }
});
