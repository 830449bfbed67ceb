/** A peer that knows `/keys/activate` only does not say which blocks it has: they are found among those that it has not. */
import assert from "node:assert/strict";
import { assertProblem, stockOf } from "../sae_api/api_fixture.ts";
import { eventually } from "../harness/eventually.ts";
import { keyIdsOf } from "../harness/sae_client.ts";
import type { NetworkSpec } from "../harness/test_network.ts";
import { scrape } from "../metrics/scrape.ts";
import { RustKme, startFirst } from "./rust_kme.ts";

const spec = (options: Record<string, unknown> = {}): NetworkSpec => ({
  kmes: [{ id: 1, saes: [1], console: true, options }, { id: 2, saes: [3] }],
});

/** Requests that deliver nothing before shared blocks are found. */
const FEW = 5;

for (
  const [where, sizes] of Object.entries({
    "behind those": [24, 300],
    "far behind those": [6400, 300],
    "in the middle of those": [3000, 300, 3000],
    "before those": [300, 3000],
  })
) {
  Deno.test(`blocks that the peer has are delivered from ${where} that it has not`, async () => {
    await using network = await startFirst(
      spec(),
      ...sizes.map((size) => [1, 2, size] as [number, number, number]),
    );
    const shared = network.blockIds[sizes.indexOf(300)]!;
    await using peer = await RustKme.start(network, 2, shared);
    const client = network.client(1);
    const given: string[] = [];
    let failures = 0;
    while (given.length < shared.length && failures <= FEW) {
      const answer = await client.encKeys(3);
      if (answer.status === 200) given.push(...keyIdsOf(answer));
      else {
        assertProblem(answer, 503);
        failures++;
      }
    }
    assert.deepEqual(given.toSorted(), shared.toSorted());
    assert.equal(peer.free.size, 0);
    await network.process.waitForLine(
      /KME 2 refused \d+ blocks, which are tried again later: blocks of [\w.-]+\.cor/,
    );
    const console = `http://127.0.0.1:${network.kme(1).consolePort}`;
    const metrics = scrape(await (await fetch(`${console}/metrics`)).text());
    assert.ok(metrics.of("kme_peer_refused_blocks_total")['kme="2"']! > 0);
    const incidents: { message: string }[] = await (await fetch(`${console}/incidents`)).json();
    assert.ok(incidents.some(({ message }) => /^KME 2 refused \d+ blocks.*\.cor/.test(message)));
  });
}

Deno.test("blocks that come to the peer after it refused them are delivered", async () => {
  const options = { inter_kme_timeout_seconds: 1, key_lifetime_seconds: 60 };
  await using network = await startFirst(spec(options), [1, 2, 10], [1, 2, 40]);
  const [early, late] = network.blockIds as [string[], string[]];
  await using peer = await RustKme.start(network, 2, [early[3]!, early[7]!]);
  const client = network.client(1);
  const given: string[] = [];
  for (let i = 0; i < 2; i++) given.push(...keyIdsOf(await client.encKeys(3)));
  assert.deepEqual(given.toSorted(), [early[3]!, early[7]!].toSorted());
  assertProblem(await client.encKeys(3), 503);
  assert.ok(await stockOf(client, 3) < 48, "nothing was set aside");
  for (const id of late) peer.free.add(id);
  await eventually(async () => {
    const answer = await client.encKeys(3);
    if (answer.status === 200) given.push(...keyIdsOf(answer));
    return given.length === 42;
  }, { timeout: 60_000, interval: 20, what: "the late blocks" });
  assert.deepEqual(given.slice(2).toSorted(), late.toSorted());
});

Deno.test("a peer that has none of the blocks is asked less and less often", async () => {
  await using network = await startFirst(spec(), [1, 2, 500]);
  await using peer = await RustKme.start(network, 2, []);
  const client = network.client(1);
  for (let i = 0; i < 9; i++) assertProblem(await client.encKeys(3), 503);
  const before = peer.requests.length;
  for (let i = 0; i < 5; i++) assertProblem(await client.encKeys(3), 503);
  assert.ok(peer.requests.length - before <= 5 * 8 + 64, `${peer.requests.length - before} messages`);
  assert.equal(await stockOf(client, 3), 500);
});
