import assert from "node:assert/strict";
import { readMarker } from "../../src/rollback_guard/marker.ts";
import { databaseTest } from "../harness/databases.ts";
import { startChild } from "../harness/child_process.ts";
import { PROJECT_ROOT, runKme } from "../harness/kme_process.ts";
import { blockIdsOf } from "../harness/key_files.ts";
import { ledgerOf } from "../harness/ledger_queries.ts";
import { makeTestNetwork, type TestNetwork } from "../harness/test_network.ts";
import { keyIdsOf } from "../harness/sae_client.ts";
import { eventually } from "../harness/eventually.ts";

/** A program that ought to refuse; one that runs on instead is killed. */
async function refusedStart(configPath: string): Promise<string> {
  const child = startChild(Deno.execPath(), {
    args: ["run", "-A", "--config", `${PROJECT_ROOT}deno.json`, `${PROJECT_ROOT}src/main.ts`, configPath],
  });
  const ready = child.waitForLine(/\bready\b/, 20_000).then(() => true, () => false);
  if (await ready) {
    await child.end("SIGKILL");
    assert.fail("the KME started");
  }
  assert.equal((await child.exited).code, 1);
  return child.lines.join("\n");
}

async function stock(network: TestNetwork, sae: number, slave: number): Promise<number> {
  return (await network.client(sae).status(slave)).json.stored_key_count;
}

async function backup(network: TestNetwork): Promise<() => Promise<void>> {
  const path = `${network.kme(1).directory}/kme.db`;
  await Deno.copyFile(path, `${network.directory}/backup.db`);
  return async () => {
    await Deno.copyFile(`${network.directory}/backup.db`, path);
    // A log of the newer database would make the older one new again.
    await Deno.remove(`${path}-wal`).catch(() => {});
  };
}

Deno.test("an old backup is refused, and used again only after all of it was burnt", async (t) => {
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, saes: [1, 2], database: "sqlite", options: { delete_key_file_after_read: false } }],
  });
  const { configPath } = network.kme(1);
  await network.writeKeyFile(1, 1, 20, { name: "a.cor" });
  const first = await network.start(1);
  await eventually(async () => await stock(network, 1, 2) === 20);
  assert.equal(await first.stop(), 0);
  const restore = await backup(network);

  const second = await network.start(1);
  const given = blockIdsOf(await network.client(1).encKeys(2, { number: 3 }));
  // Taken up after the backup, and its file stays.
  const later = await network.writeKeyFile(1, 1, 5, { name: "b.cor" });
  await eventually(async () => await stock(network, 1, 2) === 22);
  // As a crash ends it: the guard has not had its last word.
  await second.kill();
  await restore();

  await t.step("it does not start", async () => {
    assert.match(await refusedStart(configPath), /the database is older than it was at .*kme burn /);
  });

  await t.step("check reports the reason", async () => {
    const check = await runKme(["check", configPath, "--json"]);
    assert.equal(check.code, 1);
    assert.match(check.stdout, /age of the database/);
  });

  await t.step("without --yes nothing is burnt", async () => {
    const asked = await runKme(["burn", configPath]);
    assert.equal(asked.code, 0);
    assert.match(asked.stdout, /to be burnt: 20 blocks, 0 keys/);
    assert.match(asked.stderr, /nothing was burnt/);
    assert.equal(ledgerOf(network.kme(1)).blocks.size, 20);
  });

  await t.step("everything is burnt, key files too", async () => {
    const burnt = await runKme(["burn", configPath, "--yes"]);
    assert.equal(burnt.code, 0, burnt.stderr);
    assert.match(burnt.stdout, /^burnt: 25 blocks, 0 keys/m);
    const ledger = ledgerOf(network.kme(1));
    assert.equal(ledger.blocks.size, 0);
    assert.equal(ledger.stock.get("1"), 0);
    for (const id of [...given, ...later]) assert.ok(ledger.seen.has(id));
  });

  await t.step("after a restart only new files give keys", async () => {
    await network.start(1);
    const fresh = await network.writeKeyFile(1, 1, 2, { name: "c.cor" });
    await eventually(async () => await stock(network, 1, 2) === 2);
    const ids = blockIdsOf(await network.client(1).encKeys(2, { number: 2 }));
    assert.deepEqual(ids.toSorted(), fresh.toSorted());
    assert.equal((await network.client(1).encKeys(2)).status, 503);
  });

  await t.step("the keys of a running KME are not burnt", async () => {
    const running = await runKme(["burn", configPath, "--yes"]);
    assert.equal(running.code, 1);
    assert.match(running.stderr, /in use by another process/);
  });
});

Deno.test("a restored key is not read a second time, and the marker survives the burning", async () => {
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, saes: [1, 2], database: "sqlite" }],
  });
  await network.writeKeyFile(1, 1, 4);
  const first = await network.start(1);
  await eventually(async () => await stock(network, 1, 2) === 4);
  const [id] = keyIdsOf(await network.client(1).encKeys(2));
  await first.stop();
  const restore = await backup(network);
  const second = await network.start(1);
  assert.equal((await network.client(2).decKeys(1, id!)).status, 200);
  await second.stop();
  await restore();
  const marker = `${network.kme(1).directory}/kme.db.generation`;
  const before = await readMarker(marker);
  const burnt = await runKme(["burn", network.kme(1).configPath, "--yes"]);
  assert.match(burnt.stdout, /^burnt: 3 blocks, 1 keys/m);
  assert.ok((await readMarker(marker))!.generation > before!.generation);
  await network.start(1);
  assert.equal((await network.client(2).decKeys(1, id!)).status, 400);
});

Deno.test("a neighbour burns the blocks of one link only", async () => {
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, saes: [1, 2], database: "sqlite" }, { id: 2, saes: [3] }],
  });
  await network.writeKeyFile(1, 1, 4);
  await network.writeKeyFile(1, 2, 6);
  const first = await network.start(1);
  await eventually(async () => await stock(network, 1, 2) === 4 && await stock(network, 1, 3) === 6);
  await first.stop();
  const { configPath } = network.kme(1);
  const unknown = await runKme(["burn", configPath, "--link", "9", "--yes"]);
  assert.equal(unknown.code, 2);
  assert.match(unknown.stderr, /no KME 9 is configured/);
  const burnt = await runKme(["burn", configPath, "--link", "2", "--yes"]);
  assert.equal(burnt.code, 0, burnt.stderr);
  assert.match(burnt.stdout, /^burnt: 6 blocks, 0 keys/m);
  const ledger = ledgerOf(network.kme(1));
  assert.deepEqual([ledger.stock.get("1"), ledger.stock.get("2")], [4, 0]);
  const all = await runKme(["burn", configPath, "--yes"]);
  assert.match(all.stdout, /Run there \(KME 2\).*\n.*--link 1 --yes/);
});

Deno.test("nothing is burnt while a key file is still being written", async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1, 2], database: "sqlite" }] });
  await network.writeKeyFile(1, 1, 4);
  const { configPath } = network.kme(1);
  await (await network.start(1)).stop();
  const left = `${network.keyDirectory(1, 1)}/growing.cor`;
  const growing = await Deno.open(left, { create: true, write: true });
  const write = setInterval(() => growing.writeSync(crypto.getRandomValues(new Uint8Array(32))), 20);
  const refused = await runKme(["burn", configPath, "--yes"]);
  clearInterval(write);
  growing.close();
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /nothing was burnt: .*growing\.cor/);
  assert.equal(ledgerOf(network.kme(1)).blocks.size, 4);
  await Deno.remove(left);
  const burnt = await runKme(["burn", configPath, "--yes"]);
  assert.equal(burnt.code, 0, burnt.stderr);
});

Deno.test("burning does not create a database that does not exist", async (t) => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1, 2], database: "sqlite" }] });
  const { configPath, directory } = network.kme(1);
  const database = `${directory}/kme.db`;
  const exists = () => Deno.stat(database).then(() => true, () => false);
  await network.writeKeyFile(1, 1, 4);

  await t.step("refused", async () => {
    for (const args of [[], ["--yes"]]) {
      const refused = await runKme(["burn", configPath, ...args]);
      assert.equal(refused.code, 1);
      assert.ok(refused.stdout.includes(`database: ${database}`), refused.stdout);
      assert.match(
        refused.stderr,
        /there is no database .*kme\.db; run it in the working directory of the KME/,
      );
      assert.equal(await exists(), false);
    }
  });

  await t.step("unless its marker is there; without --yes nothing is made", async () => {
    await Deno.writeTextFile(`${database}.generation`, "7 2026-01-01T00:00:00.000Z\n");
    const asked = await runKme(["burn", configPath]);
    assert.equal(asked.code, 0);
    assert.equal(await exists(), false);
    const burnt = await runKme(["burn", configPath, "--yes"]);
    assert.match(burnt.stdout, /^burnt: 4 blocks/m);
    assert.equal(await (await network.start(1)).stop(), 0);
  });
});

Deno.test("more blocks than one transaction removes are burnt, of one link and of all", async () => {
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, saes: [1, 2], database: "sqlite" }, { id: 2, saes: [3] }],
  });
  await network.writeKeyFile(1, 1, 6000);
  await network.writeKeyFile(1, 2, 5001);
  const { configPath } = network.kme(1);
  await (await network.start(1)).stop();
  const link = await runKme(["burn", configPath, "--link", "2", "--yes"]);
  assert.match(link.stdout, /^burnt: 5001 blocks, 0 keys/m);
  const all = await runKme(["burn", configPath, "--yes"]);
  assert.match(all.stdout, /^burnt: 6000 blocks, 0 keys/m);
  const ledger = ledgerOf(network.kme(1));
  assert.equal(ledger.blocks.size, 0);
  assert.deepEqual([ledger.stock.get("1"), ledger.stock.get("2")], [0, 0]);
});

for (const kind of ["postgres", "mariadb"] as const) {
  databaseTest(
    kind,
    "an older database is refused until it is burnt, which a running KME prevents",
    async (uri) => {
      await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1, 2], database: uri }] });
      const { configPath } = network.kme(1);
      await network.writeKeyFile(1, 1, 3);
      const kme = await network.start(1);
      await eventually(async () => await stock(network, 1, 2) === 3);
      const running = await runKme(["burn", configPath, "--yes"]);
      assert.equal(running.code, 1);
      assert.match(running.stderr, /1 process of this KME still uses the database/);
      assert.equal(await kme.stop(), 0);
      const marker = `${network.keyDirectory(1, 1)}/kme.generation`;
      const { generation } = (await readMarker(marker))!;
      await Deno.writeTextFile(marker, `${generation + 1} 2026-01-01T00:00:00.000Z\n`);
      const refused = await runKme([configPath]);
      assert.equal(refused.code, 1);
      assert.match(refused.stderr, /older than it was/);
      const asked = await runKme(["burn", configPath]);
      assert.match(asked.stdout, /^to be burnt: 3 blocks, 0 keys/m);
      const burnt = await runKme(["burn", configPath, "--yes"]);
      assert.match(burnt.stdout, /^burnt: 3 blocks/m);
      const { username, password } = new URL(uri);
      assert.match(burnt.stdout, /^database: .* at 127\.0\.0\.1:/m);
      for (const secret of [username, password]) assert.ok(!burnt.stdout.includes(`${secret}@`));
      assert.ok(!burnt.stdout.includes(password));
      assert.equal(await (await network.start(1)).stop(), 0);
    },
  );
}
