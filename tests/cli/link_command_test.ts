/** `kme link forget`, through the command line, with the KME at the other end running. */
import assert from "node:assert/strict";
import { databaseTest } from "../harness/databases.ts";
import { eventually } from "../harness/eventually.ts";
import { runKme } from "../harness/kme_process.ts";
import { ledgerOf } from "../harness/ledger_queries.ts";
import { makeTestNetwork, type TestNetwork } from "../harness/test_network.ts";
import { stockOf } from "../sae_api/api_fixture.ts";

const twoKmes = (database: string) =>
  makeTestNetwork({
    kmes: [{ id: 1, saes: [1], console: true, database }, { id: 2, saes: [3], console: true }],
  });

const random = (blocks: number) => crypto.getRandomValues(new Uint8Array(blocks * 32));

async function put(network: TestNetwork, kme: 1 | 2, name: string, bytes: Uint8Array): Promise<void> {
  const path = `${network.keyDirectory(kme, kme === 1 ? 2 : 1)}/${name}`;
  await Deno.writeFile(`${path}.part`, bytes);
  await Deno.rename(`${path}.part`, path);
}

async function linkStatus(network: TestNetwork, kme: 1 | 2) {
  const { links } = await (await fetch(`http://127.0.0.1:${network.kme(kme).consolePort}/status`)).json();
  return links.find((link: { kme: string }) => link.kme === String(kme === 1 ? 2 : 1));
}

/** Both ends have `b.cor` of 20 blocks, KME 1 alone has `a.cor` of 40. */
async function differ(network: TestNetwork): Promise<void> {
  await put(network, 1, "a.cor", random(40));
  const shared = random(20);
  for (const kme of [1, 2] as const) await put(network, kme, "b.cor", shared);
  await eventually(async () => (await linkStatus(network, 1)).unmatched === 40, { timeout: 30_000 });
  await eventually(async () => (await linkStatus(network, 2)).unmatchedFiles?.[0]?.there === 40, {
    timeout: 30_000,
  });
}

/** Gives KME 1 one more file: once both ends have noticed it they have compared their stocks, and nothing else may differ. */
async function onlyDiffersBy(network: TestNetwork, name: string): Promise<void> {
  await put(network, 1, name, random(1));
  for (const kme of [1, 2] as const) {
    await eventually(async () => {
      const { unmatchedFiles = [] } = await linkStatus(network, kme);
      return unmatchedFiles.some((file: { name: string }) => file.name === name);
    }, { timeout: 60_000 });
    const { unmatchedFiles } = await linkStatus(network, kme);
    assert.deepEqual(unmatchedFiles, [{ name, here: kme === 1 ? 1 : 0, there: kme === 2 ? 1 : 0 }]);
  }
}

Deno.test("the blocks of a file that never arrives at the other end are dropped, and the ends agree again", async (t) => {
  await using network = await twoKmes("sqlite");
  const { configPath } = network.kme(1);
  const [first] = await network.startAll();
  await differ(network);
  const forget = (...args: string[]) => runKme(["link", "forget", configPath, ...args]);

  await t.step("not while the KME runs", async () => {
    for (const yes of [[], ["--yes"]]) {
      const running = await forget("2", "--file", "a.cor", ...yes);
      assert.equal(running.code, 1);
      assert.match(running.stderr, /in use by another process; stop the KME/);
    }
  });
  assert.equal(await first!.stop(), 0);

  await t.step("only of a link and a file that are there", async () => {
    const noLink = await forget("9", "--file", "a.cor");
    assert.equal(noLink.code, 2);
    assert.match(noLink.stderr, /no link with KME 9 is configured/);
    const noFile = await forget("2", "--file", "b.cor", "--yes");
    assert.equal(noFile.code, 2);
    assert.match(noFile.stderr, /KME 2 has all blocks of b\.cor .*: a\.cor \(40 blocks\)/);
    for (const args of [[], ["forget"], ["forget", configPath], ["frobnicate", configPath, "2"]]) {
      const wrong = await runKme(["link", ...args]);
      assert.equal(wrong.code, 2);
      assert.match(wrong.stderr, /^Usage: kme link forget CONFIG LINK --file NAME/m);
    }
  });

  await t.step("without --yes nothing is dropped", async () => {
    const asked = await forget("2", "--file", "a.cor");
    assert.equal(asked.code, 0, asked.stderr);
    assert.match(asked.stdout, /^to be dropped: 40 blocks of a\.cor that KME 2 does not have$/m);
    assert.match(asked.stderr, /nothing was dropped; add --yes/);
    assert.equal(ledgerOf(network.kme(1)).blocks.size, 60);
  });

  await t.step("with --yes they are", async () => {
    const dropped = await forget("2", "--file", "a.cor", "--yes");
    assert.equal(dropped.code, 0, dropped.stderr);
    assert.match(dropped.stdout, /^dropped: 40 blocks of a\.cor that KME 2 does not have$/m);
    const ledger = ledgerOf(network.kme(1));
    assert.equal(ledger.blocks.size, 20);
    assert.equal(ledger.seen.size, 60);
    assert.equal(ledger.stock.get("2"), 20);
    assert.equal((await forget("2", "--file", "a.cor", "--yes")).code, 2);
  });

  await t.step("both ends agree again", async () => {
    await network.start(1);
    await onlyDiffersBy(network, "c.cor");
    assert.equal(await stockOf(network.client(1), 3), 20);
  });
});

Deno.test("blocks that the other end burnt are dropped, and neither end misses the file", async () => {
  await using network = await makeTestNetwork({
    kmes: [
      { id: 1, saes: [1], console: true, database: "sqlite" },
      { id: 2, saes: [3], console: true, database: "sqlite" },
    ],
  });
  const shared = random(30);
  for (const kme of [1, 2] as const) await put(network, kme, "a.cor", shared);
  const [first, second] = await network.startAll();
  await eventually(async () => await stockOf(network.client(1), 3) === 30);
  await eventually(async () => await stockOf(network.client(3), 1) === 30);
  assert.equal(await second!.stop(), 0);
  const burnt = await runKme(["burn", network.kme(2).configPath, "--link", "1", "--yes"]);
  assert.equal(burnt.code, 0, burnt.stderr);
  await network.start(2);
  await eventually(async () => (await linkStatus(network, 1)).unmatched === 30, { timeout: 60_000 });
  const { configPath } = network.kme(1);
  assert.equal(await first!.stop(), 0);
  const dropped = await runKme(["link", "forget", configPath, "2", "--file", "a.cor", "--yes"]);
  assert.equal(dropped.code, 0, dropped.stderr);
  await network.start(1);
  await onlyDiffersBy(network, "c.cor");
});

for (const kind of ["postgres", "mariadb"] as const) {
  databaseTest(
    kind,
    "blocks are dropped from a database server, but not under a running KME",
    async (uri) => {
      await using network = await twoKmes(uri);
      const { configPath } = network.kme(1);
      const [first] = await network.startAll();
      await differ(network);
      const forget = ["link", "forget", configPath, "2", "--file", "a.cor"];
      for (const yes of [[], ["--yes"]]) {
        const running = await runKme([...forget, ...yes]);
        assert.equal(running.code, 1);
        assert.match(running.stderr, /1 process of this KME still uses the database/);
      }
      assert.equal(await first!.stop(), 0);
      assert.match((await runKme(forget)).stdout, /^to be dropped: 40 blocks of a\.cor/m);
      const dropped = await runKme([...forget, "--yes"]);
      assert.match(dropped.stdout, /^dropped: 40 blocks of a\.cor/m);
      assert.ok(!dropped.stdout.includes(new URL(uri).password));
    },
  );
}
