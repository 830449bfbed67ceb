/** What an agreement of stocks costs follows the difference between the two ends, and not the size of the pool. */
import assert from "node:assert/strict";
import { tap } from "../delivery/tap.ts";
import { eventually } from "../harness/eventually.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { agreeOn, put, random, statusOf, two } from "./stock_network.ts";

/** Bytes for an exchange in which the two ends find that they agree: 100 kB is promised for 10^6 blocks. */
const EXCHANGE = 100_000;

/** Bytes on the wire for a key_ID, with its answer. */
const ID = 32;

const NEW = 100;

/** Comparisons that there may be after a file has come to both ends. */
const EXCHANGES = 5;

for (const pool of [1000, 40_000]) {
  Deno.test(`with ${pool} blocks at both ends, an exchange costs as little`, async () => {
    await using network = await makeTestNetwork(two());
    const files = Array.from({ length: 4 }, () => random(pool / 4));
    for (const [i, bytes] of files.entries()) {
      for (const kme of [1, 2] as const) await put(network, kme, `${i}.cor`, bytes);
    }
    await using wire = await tap(network, 1, 2);
    await network.startAll();
    // Two databases that are new to each other compare all of their blocks once.
    await agreeOn(network, pool, 180_000);
    const comparedAt = async () => (await statusOf(network, 1)).comparedAt;
    const first = await eventually(comparedAt, { what: "the first comparison", timeout: 180_000 });
    const before = wire.received().length + wire.answered().length;

    const more = random(NEW);
    for (const kme of [1, 2] as const) await put(network, kme, "new.cor", more);
    await agreeOn(network, pool + NEW, 180_000);
    await eventually(async () => await comparedAt() !== first, { what: "a comparison", timeout: 180_000 });
    const bytes = wire.received().length + wire.answered().length - before;
    assert.ok(bytes < EXCHANGES * (EXCHANGE + NEW * ID), `${bytes} bytes`);
  });
}

Deno.test("blocks that only one end has are found at the cost of their key_IDs", async () => {
  const strays = 10_000;
  const pool = 5000;
  await using network = await makeTestNetwork(two());
  await using wire = await tap(network, 1, 2);
  const shared = random(pool);
  for (const kme of [1, 2] as const) await put(network, kme, "shared.cor", shared);
  await network.startAll();
  await agreeOn(network, pool, 180_000);
  const before = wire.received().length + wire.answered().length;
  await put(network, 1, "only.cor", random(strays));
  await eventually(async () => (await statusOf(network, 1)).unmatched === strays, {
    what: "the difference",
    // A minute is promised for ten times as many; this machine may be busy.
    timeout: 180_000,
  });
  await agreeOn(network, pool, 180_000);
  const bytes = wire.received().length + wire.answered().length - before;
  // Each is asked for when its file is ingested, some twice while the file is being ingested.
  assert.ok(bytes < 4 * strays * ID + EXCHANGES * EXCHANGE, `${bytes} bytes`);
});
