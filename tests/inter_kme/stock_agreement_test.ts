/** The stock of a link is what both ends have, whatever was copied wrongly, late, or to one end only. */
import assert from "node:assert/strict";
import { blockKeyId, formatKeyId } from "../../src/domain/block.ts";
import { tap, traceOf } from "../delivery/tap.ts";
import { eventually } from "../harness/eventually.ts";
import { runKme } from "../harness/kme_process.ts";
import { keyIdsOf, type SaeClient } from "../harness/sae_client.ts";
import { makeTestNetwork, type TestNetwork } from "../harness/test_network.ts";
import { scrape } from "../metrics/scrape.ts";
import { agreeOn, put, random, statusOf, two } from "./stock_network.ts";

/** Waits until the status of a link has these members: what is offered changes before what is shown. */
async function shows(network: TestNetwork, kme: 1 | 2, members: Record<string, unknown>): Promise<void> {
  await eventually(async () => {
    const link = await statusOf(network, kme);
    const shown = Object.fromEntries(Object.keys(members).map((name) => [name, link[name]]));
    assert.deepEqual(shown, members);
    return true;
  }, { what: "the status of the link", timeout: 60_000 });
}

/** Takes keys one by one until none is left, alternately at both ends; each must be readable at the other. */
async function takeAll(network: TestNetwork, count: number): Promise<void> {
  const ends: [SaeClient, number, SaeClient, number][] = [
    [network.client(1), 3, network.client(3), 1],
    [network.client(3), 1, network.client(1), 3],
  ];
  for (let i = 0; i < count; i++) {
    const [master, slaveId, slave, masterId] = ends[i % 2]!;
    const answer = await master.encKeys(slaveId);
    assert.equal(answer.status, 200, `request ${i}: ${JSON.stringify(answer.json)}`);
    assert.equal((await slave.decKeys(masterId, keyIdsOf(answer)[0]!)).status, 200);
  }
}

Deno.test("one file of different contents at the two ends: no stock, no 503 before, and everything shows it", async () => {
  await using network = await makeTestNetwork(two());
  await put(network, 1, "a.cor", random(100));
  await put(network, 2, "a.cor", random(100));
  const shared = random(20);
  await put(network, 1, "b.cor", shared);
  await put(network, 2, "b.cor", shared);
  const [first] = await network.startAll();
  await agreeOn(network, 20);
  await takeAll(network, 20);
  assert.equal((await network.client(1).encKeys(3)).status, 503);
  await shows(network, 1, { unmatched: 100, unmatchedFiles: [{ name: "a.cor", here: 100, there: 100 }] });
  const metrics = scrape(
    await (await fetch(`http://127.0.0.1:${network.kme(1).consolePort}/metrics`)).text(),
  );
  assert.equal(metrics.of("kme_link_unmatched_blocks")['kme="2"'], 100);
  assert.ok(metrics.of("kme_link_unmatched_since_seconds")['kme="2"']! > 0);
  await first!.waitForLine(/the ends of the link with KME 2 have different blocks: a\.cor/);
});

Deno.test("one file of three is missing at one end: its blocks wait, and count as soon as it comes", async () => {
  await using network = await makeTestNetwork(two());
  const files = [random(30), random(40), random(50)];
  for (const [i, bytes] of files.entries()) {
    await put(network, 1, `${i}.cor`, bytes);
    if (i !== 1) await put(network, 2, `${i}.cor`, bytes);
  }
  const [first] = await network.startAll();
  await agreeOn(network, 80);
  await takeAll(network, 40);
  await shows(network, 1, { unmatchedFiles: [{ name: "1.cor", here: 40, there: 0 }] });
  await shows(network, 2, { unmatchedFiles: [{ name: "1.cor", here: 0, there: 40 }] });
  await put(network, 2, "1.cor", files[1]!);
  await agreeOn(network, 80);
  await first!.waitForLine(/both ends of the link with KME 2 have the same blocks again/);
  await shows(network, 1, { unmatchedSince: null });
  await takeAll(network, 80);
});

Deno.test("many blocks that only one end has do not hide the shared ones behind them", async () => {
  await using network = await makeTestNetwork(two());
  await put(network, 1, "a.cor", random(6400));
  const shared = random(300);
  await put(network, 1, "b.cor", shared);
  await put(network, 2, "b.cor", shared);
  await network.startAll();
  // At once, before the two ends have compared their stocks.
  await takeAll(network, 300);
  await agreeOn(network, 0);
});

Deno.test("a link in steady use, whose files come to the other end later: no request fails while common stock is left", async () => {
  const each = 40;
  const files = Array.from({ length: 5 }, () => random(each));
  await using network = await makeTestNetwork(two());
  await network.startAll();
  for (const [round, bytes] of files.entries()) {
    // Only this end has it, while the SAE takes what both ends have of the file before.
    await put(network, 1, `${round}.cor`, bytes);
    await eventually(async () => {
      const { files } = await statusOf(network, 1);
      return files.some(({ file, complete }: Record<string, unknown>) => file === `${round}.cor` && complete);
    }, { what: "the file at this end", timeout: 60_000 });
    if (round > 0) await takeAll(network, each);
    assert.equal((await network.client(1).encKeys(3)).status, 503, "a block that only one end has");
    // All of its blocks are usable once the other end has it too, without a restart.
    await put(network, 2, `${round}.cor`, bytes);
    await agreeOn(network, each, 120_000);
  }
  await takeAll(network, each);
});

Deno.test("a link in steady use, whose files come to the other end two files later: all is delivered, nothing differs for long", async () => {
  const [each, count, delay] = [40, 8, 2];
  const files = Array.from({ length: count }, () => random(each));
  await using network = await makeTestNetwork(two());
  await network.startAll();
  // An SAE that polls from the first file on; each of its keys must be readable at the other end.
  const statuses: number[] = [];
  const delivered = () => statuses.filter((status) => status === 200).length;
  let polling = true;
  const poll = async () => {
    while (polling) {
      const answer = await network.client(1).encKeys(3);
      if (answer.status === 200) {
        assert.equal((await network.client(3).decKeys(1, keyIdsOf(answer)[0]!)).status, 200);
      }
      statuses.push(answer.status);
    }
  };
  const came: number[] = [];
  const supply = async () => {
    for (let step = 0; step < count + delay; step++) {
      came.push(Date.now());
      if (step < count) await put(network, 1, `${step}.cor`, files[step]!);
      if (step < delay) continue;
      await put(network, 2, `${step - delay}.cor`, files[step - delay]!);
      // Before the next file comes: one step after the file is at both ends, so within two delays.
      await eventually(() => delivered() === each * (step - delay + 1), {
        what: `all blocks of file ${step - delay}`,
        timeout: 60_000,
      });
      // Files differ one after the other, but none for as long as the link has been in use.
      await eventually(async () => {
        const { unmatchedSince } = await statusOf(network, 1);
        return unmatchedSince === null || Date.parse(unmatchedSince) >= came[step - delay + 1]!;
      }, { what: "no file that differs for longer than its delay", timeout: 60_000 });
    }
  };
  const polled = poll();
  // The poll ends only by a failure before all is delivered.
  await Promise.race([polled, supply()]);
  polling = false;
  await polled;
  const runs = statuses.map((status) => status === 200 ? "+" : "-").join("").split(/-+/).filter(Boolean);
  // A refusal among them would be one while common stock is left.
  assert.deepEqual(runs.map((run) => run.length), files.map(() => each));
  assert.deepEqual([...new Set(statuses)].sort(), [200, 503]);
  await shows(network, 1, { unmatched: 0, unmatchedSince: null });
});

Deno.test("a file that differs is told although another one has differed for longer", async () => {
  await using network = await makeTestNetwork(two());
  await put(network, 1, "early.cor", random(30));
  const [first] = await network.startAll();
  await first!.waitForLine(/the ends of the link with KME 2 have different blocks: early\.cor/, 60_000);
  await put(network, 1, "late.cor", random(20));
  const line = await first!.waitForLine(
    /the ends of the link with KME 2 have different blocks: late\.cor/,
    60_000,
  );
  assert.match(line, /late\.cor \(20 here, 0 there only\), early\.cor \(30 here, 0 there only\)$/);
});

Deno.test("comparing stocks sends no bits of a block, and logs no key_IDs", async () => {
  await using network = await makeTestNetwork(two());
  const [shared, only] = [random(40), random(60)];
  await put(network, 1, "only.cor", only);
  for (const kme of [1, 2] as const) await put(network, kme, "shared.cor", shared);
  await using there = await tap(network, 1, 2);
  await using back = await tap(network, 2, 1);
  const kmes = await network.startAll({ env: { LOG_LEVEL: "debug" } });
  await agreeOn(network, 40);
  await kmes[0]!.waitForLine(/have different blocks: only\.cor/, 60_000);
  const wire = [there, back].flatMap((each) => [each.received(), each.answered()]);
  const lines = kmes.flatMap((kme) => kme.lines).join("\n");
  const blocks = [shared, only].flatMap((file) =>
    Array.from({ length: file.length / 32 }, (_, i) => file.slice(32 * i, 32 * (i + 1)))
  );
  let named = 0;
  for (const block of blocks) {
    const id = blockKeyId(block);
    if (wire.some((bytes) => traceOf(id, bytes) !== undefined)) named++;
    assert.ok(wire.every((bytes) => traceOf(block, bytes) === undefined), "bits are on the wire");
    assert.ok(!lines.includes(formatKeyId(id)) && !lines.includes(id.toHex()), "a key_ID is in the log");
  }
  assert.ok(named >= 60, `the wire names ${named} blocks`);
});

Deno.test("an end with a new empty database does not offer blocks that the other has used", async () => {
  await using network = await makeTestNetwork(two({ delete_key_file_after_read: false }));
  await network.writeKeyFile(1, 2, random(1000), { name: "a.cor" });
  const [first] = await network.startAll();
  await agreeOn(network, 1000);
  const client = network.client(1);
  for (let i = 0; i < 4; i++) assert.equal((await client.encKeys(3, { number: 100 })).status, 200);
  await first!.stop();
  await network.start(1);
  await agreeOn(network, 600);
  await takeAll(network, 60);
  // The other way round.
  await agreeOn(network, 540);
});

Deno.test("after a restart with a database file both ends agree at once", async () => {
  await using network = await makeTestNetwork(two({}, "sqlite"));
  await network.writeKeyFile(1, 2, 50, { name: "a.cor" });
  await put(network, 1, "only.cor", random(10));
  const [, second] = await network.startAll();
  await agreeOn(network, 50);
  await takeAll(network, 20);
  await second!.kill();
  await network.start(2);
  await agreeOn(network, 30);
  await takeAll(network, 30);
});

Deno.test("files that a KME finds at its start, and has not ingested yet, are no difference", async () => {
  await using network = await makeTestNetwork(two());
  const shared = random(100);
  await put(network, 2, "a.cor", shared);
  const second = await network.start(2);
  // Changed just now, so that it is not read at once.
  await put(network, 1, "a.cor", shared);
  const first = await network.start(1);
  await agreeOn(network, 100);
  for (const { lines } of [first, second]) {
    assert.deepEqual(lines.filter((line) => /have different blocks/.test(line)), []);
  }
});

Deno.test("files come to each end in its own order and at its own pace", async () => {
  await using network = await makeTestNetwork(two({ delete_key_file_after_read: true }, "sqlite"));
  const files = Array.from({ length: 6 }, () => random(30));
  await network.startAll();
  for (const [i, bytes] of files.entries()) {
    await put(network, i % 2 === 0 ? 1 : 2, `${i}.cor`, bytes);
    if (i > 1) await put(network, i % 2 === 0 ? 1 : 2, `${i - 1}.cor`, files[i - 1]!);
  }
  await put(network, 2, "0.cor", files[0]!);
  await put(network, 1, "5.cor", files[5]!);
  await agreeOn(network, 180);
  await takeAll(network, 30);
});

Deno.test("an end that was put back to an older copy of its database does not offer used blocks", async () => {
  await using network = await makeTestNetwork(two({}, "sqlite"));
  await network.writeKeyFile(1, 2, 60, { name: "a.cor" });
  const [first] = await network.startAll();
  await agreeOn(network, 60);
  await first!.stop();
  const { directory, configPath } = network.kme(1);
  await Deno.copyFile(`${directory}/kme.db`, `${directory}/backup.db`);
  const again = await network.start(1);
  await agreeOn(network, 60);
  await takeAll(network, 20);
  await again.stop();
  await Deno.rename(`${directory}/backup.db`, `${directory}/kme.db`);
  // The guard against old backups refuses it; what it does not know any more is burnt, and fresh files fill the stock.
  const refused = await runKme([configPath]);
  assert.equal(refused.code, 1);
  assert.equal((await runKme(["burn", configPath, "--yes"])).code, 0);
  await network.start(1);
  // Two comparisons of idle ends, 15 s apart.
  await agreeOn(network, 0, 60_000);
  await network.writeKeyFile(1, 2, 40, { name: "b.cor" });
  await agreeOn(network, 40);
  await takeAll(network, 40);
});
