/** The disk of an SQLite file is full, and has room again. */
import assert from "node:assert/strict";
import { runChild } from "../harness/child_process.ts";
import { runKme } from "../harness/kme_process.ts";
import { Kysely } from "kysely";
import { openDialect } from "../../src/store/dialects/open.ts";
import { StoreUnavailable } from "../../src/domain/store_errors.ts";
import type { Schema } from "../../src/store/table_schema.ts";
import { Store } from "../../src/store/store.ts";
import { eventually } from "../harness/eventually.ts";
import { scrape } from "../metrics/scrape.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { keysOf } from "../harness/sae_client.ts";
import { fullDiskTest } from "./full_disk.ts";
import {
  audit,
  delivery,
  fill,
  freshBlocks,
  hex,
  type Ledger,
  OWN,
  PEER,
  TEST_DIGEST,
} from "./store_fixture.ts";
import { TestWorker } from "./test_worker.ts";

for (const thread of [false, true]) {
  fullDiskTest(
    `sqlite${
      thread ? " in a thread" : ""
    }: a full disk fails operations, loses nothing, and is forgotten when there is room`,
    4,
    async (disk) => {
      const failures: { code?: string }[] = [];
      const database = { kind: "sqlite", path: `${disk.path}/kme.db` } as const;
      using worker = new TestWorker();
      const dialect = thread ? undefined : openDialect(database, () => {});
      const store = await Store.open({
        database,
        dialect,
        worker: thread ? worker.start : undefined,
        thisKme: OWN,
        neighbours: [PEER],
        onFailure: (error) => failures.push(error as { code?: string }),
      });
      const ledger = {
        kind: "sqlite",
        tables: new Kysely<Schema>({ dialect: dialect?.kysely ?? worker.tables }),
      } as unknown as Ledger;
      try {
        await fill(store, 1000);
        const [first] = (await store.deliver(delivery(store)))!;
        await disk.fill();
        // Some more may fit into what the file has already.
        const delivered = [first!];
        let failed = 0;
        for (let i = 0; i < 500 && failed < 20; i++) {
          try {
            delivered.push(...(await store.deliver(delivery(store)))!);
          } catch (error) {
            assert.ok(error instanceof StoreUnavailable);
            failed++;
          }
        }
        assert.equal(failed, 20, "the disk is not full");
        const blocks = freshBlocks(500);
        const add = () =>
          store.addBlocks({
            link: OWN.text,
            blocks,
            maxFree: 10_000,
            file: { name: "a", size: 16_000, digest: TEST_DIGEST, offset: 0 },
          });
        await assert.rejects(add(), StoreUnavailable);
        await assert.rejects(
          Promise.all(Array.from({ length: 32 }, () => store.deliver(delivery(store)))),
          StoreUnavailable,
        );
        const codes = new Set(failures.map(({ code }) => code));
        assert.ok(
          [...codes].every((code) => /^SQLITE_(FULL|IOERR)/.test(code ?? "")),
          `the reason is hidden: ${[...codes]}`,
        );
        // Reading goes on.
        assert.equal(await store.freeBlocks(OWN.text), 1000 - delivered.length);

        await disk.empty();
        assert.deepEqual(await add(), { stored: 500, known: 0, taken: 500 });
        const counts = await audit(ledger);
        assert.deepEqual(counts, {
          seen: 1500,
          free: 1500 - delivered.length,
          reserved: 0,
          keys: delivered.length,
          waiting: delivered.length,
          reservations: 0,
        });
        for (const key of delivered) {
          const read = await store.collect({ caller: "12", master: "11", ids: [key.id] });
          assert.ok(read.kind === "keys" && hex(read.keys[0]!.bits) === hex(key.bits));
        }
        console.log(`    ${failures.length} failures (${[...codes]}), ${delivered.length} keys delivered`);
      } finally {
        await store.close();
      }
    },
  );
}

fullDiskTest(
  "a KME whose disk is full answers 503, lives, and serves again when there is room",
  4,
  async (disk) => {
    await using network = await makeTestNetwork({
      kmes: [{ id: 1, saes: [11, 12], database: `sqlite://${disk.path}/kme.db`, console: true }],
    });
    await network.writeKeyFile(1, 1, 2000);
    const kme = await network.start(1);
    const master = network.client(11);
    const slave = network.client(12);
    const status = async () => (await master.status(12)).json.stored_key_count as number;
    await eventually(async () => await status() === 2000);
    const origin = `http://127.0.0.1:${network.kme(1).consolePort}`;
    const ready = async () => await (await fetch(`${origin}/health/ready`)).json();
    assert.equal((await ready()).ready, true);
    await disk.fill();
    await eventually(async () => (await ready()).reason === "the disk of the database is full");
    let served = 0;
    await eventually(async () => {
      const response = await master.encKeys(12, { number: 5 });
      if (response.status === 503) return true;
      served += keysOf(response).length;
      return false;
    }, { interval: 0 });
    const incidents = await (await fetch(`${origin}/incidents`)).json();
    const failure = incidents.find(({ kind }: { kind: string }) => kind === "database");
    assert.match(failure.message, /^the database failed: SQLITE_FULL/);
    const full = "the disk of the database is full";
    await kme.waitForLine(new RegExp(`ERROR.* no keys can be handed out: ${full}`));
    const metrics = scrape(await (await fetch(`${origin}/metrics`)).text());
    assert.equal(metrics.value("kme_ready"), 0);
    assert.ok(metrics.value("kme_database_errors_total")! > 0);
    const { delivery } = await (await fetch(`${origin}/status`)).json();
    assert.deepEqual([delivery.links, delivery.problems[0].what], ["none", full]);
    const before = await status();
    assert.equal(before, 2000 - served);
    for (let i = 0; i < 10; i++) assert.equal((await master.encKeys(12, { number: 5 })).status, 503);
    assert.equal(await status(), before);
    await disk.empty();
    const response = await eventually(async () => {
      const response = await master.encKeys(12);
      return response.status === 200 && response;
    });
    const [key] = keysOf(response);
    await eventually(async () => (await ready()).ready, { what: "ready again" });
    assert.equal(keysOf(await slave.decKeys(11, key!.key_ID))[0]!.key, key!.key);
    assert.equal(await status(), before - 1);
    assert.equal(await kme.stop(), 0);
  },
);

fullDiskTest(
  "a KME on a disk that is mounted read-only does not start, and says why in one line",
  4,
  async (disk) => {
    await using network = await makeTestNetwork({
      kmes: [{ id: 1, saes: [11, 12], database: `sqlite://${disk.path}/kme.db` }],
    });
    const { configPath } = network.kme(1);
    for (const is of ["absent", "there"]) {
      if (is === "there") assert.equal(await (await network.start(1)).stop(), 0);
      await remount(disk.path, "ro");
      const { code, stderr } = await runKme([configPath]);
      await remount(disk.path, "rw");
      assert.equal(code, 1, stderr);
      const said = stderr.trimEnd().split("\n").filter((line) => !line.includes("[WARNING]"));
      assert.equal(said.length, 1, stderr);
      assert.match(said[0]!, /kme\.db: .*read-only file system/i);
    }
    assert.equal(await (await network.start(1)).stop(), 0);
  },
);

async function remount(path: string, mode: "ro" | "rw"): Promise<void> {
  const { code, stderr } = await runChild("mount", { args: ["-o", `remount,${mode}`, path] });
  assert.equal(code, 0, stderr);
}
