/** KMEs under load while the database server of one of them goes away and comes back. */
import assert from "node:assert/strict";
import { databaseTest, type TestDatabaseServer } from "../harness/databases.ts";
import { eventually } from "../harness/eventually.ts";
import { makeTestNetwork, type TestNetwork } from "../harness/test_network.ts";
import { keysOf, type SaeClient } from "../harness/sae_client.ts";
import { hex } from "./store_fixture.ts";
import { type Outage, OUTAGES } from "./outage.ts";
import { openDialect } from "../../src/store/dialects/open.ts";
import { Kysely } from "kysely";
import mysql from "mysql2/promise";
import type { Schema } from "../../src/store/table_schema.ts";

const BLOCKS = 6000;
/** Milliseconds in which every request is answered. */
const ANSWER_MS = 40_000;

interface Delivered {
  readonly key: string;
  readonly slave: number;
}

/** Requests of SAE 11 for slaves here (12) and at the other KME (21), one after the other on each line. */
class Load {
  readonly delivered = new Map<string, Delivered>();
  /** key_IDs whose reading was answered, or may have been. */
  readonly asked = new Set<string>();
  readonly statuses = new Map<number, number>();
  readonly wrong: string[] = [];
  readonly failedLines = new Set<number>();
  readonly servedLines = new Set<number>();
  slowest = 0;
  #going = true;
  readonly #ended: Promise<unknown>;

  constructor(readonly network: TestNetwork, lines: number) {
    this.#ended = Promise.all(Array.from({ length: lines }, (_, line) => this.#run(line)));
  }

  async stop(): Promise<void> {
    this.#going = false;
    await this.#ended;
  }

  async #run(line: number): Promise<void> {
    const slave = line % 2 === 0 ? 12 : 21;
    const master = this.network.client(11);
    const reader = this.network.client(slave);
    while (this.#going) {
      const begin = performance.now();
      try {
        const ok = await this.#exchange(master, reader, slave);
        (ok ? this.servedLines : this.failedLines).add(line);
      } catch (error) {
        this.wrong.push(String(error));
      }
      this.slowest = Math.max(this.slowest, performance.now() - begin);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async #exchange(master: SaeClient, reader: SaeClient, slave: number): Promise<boolean> {
    const response = await master.encKeys(slave, { number: 2 });
    this.#count(response.status);
    if (response.status !== 200) return false;
    const keys = keysOf(response);
    for (const { key_ID, key } of keys) {
      assert.ok(!this.delivered.has(key_ID), "a key twice");
      this.delivered.set(key_ID, { key, slave });
    }
    const read = await reader.decKeys(11, keys.map(({ key_ID }) => key_ID));
    this.#count(read.status);
    // Where it failed its commit may be done all the same.
    for (const { key_ID } of keys) this.asked.add(key_ID);
    if (read.status !== 200) return false;
    for (const { key_ID, key } of keysOf(read)) {
      assert.ok(this.delivered.get(key_ID)?.key === key, "other bits");
    }
    return true;
  }

  #count(status: number): void {
    this.statuses.set(status, (this.statuses.get(status) ?? 0) + 1);
    if (status !== 200 && status !== 503) this.wrong.push(`status ${status}`);
  }
}

async function survive(uri: string, server: TestDatabaseServer, outage: Outage): Promise<void> {
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, saes: [11, 12], database: uri }, { id: 2, saes: [21] }],
  });
  await network.writeKeyFile(1, 1, BLOCKS);
  await network.writeKeyFile(1, 2, BLOCKS);
  const [kme1] = await network.startAll();
  const kme = kme1!;
  const status = network.client(11);
  const stored = async (slave: number) => (await status.status(slave)).json.stored_key_count as number;
  await eventually(async () => await stored(12) === BLOCKS && await stored(21) === BLOCKS, {
    timeout: 30_000,
  });

  const load = new Load(network, 8);
  try {
    await eventually(() => load.servedLines.size === 8, { timeout: 20_000, what: "the load" });
    load.slowest = 0;
    load.failedLines.clear();
    await outage.begin(server);
    try {
      await eventually(() => load.failedLines.size === 8, { timeout: 40_000, what: "503 on every line" });
      assert.equal((await status.status(12)).status, 503);
    } finally {
      await outage.end(server);
    }
    load.servedLines.clear();
    await eventually(() => load.servedLines.size === 8, {
      timeout: 40_000,
      what: "service after the outage",
    });
  } finally {
    await load.stop();
  }
  assert.deepEqual(load.wrong, []);
  assert.ok(load.slowest < ANSWER_MS, `an exchange took ${load.slowest} ms`);

  // Nothing stays reserved.
  const db = new Kysely<Schema>({ dialect: openDialect(databaseOf(uri), () => {}).kysely });
  try {
    const count = async (table: "blocks" | "reservations", state: "state" | "phase", value: number) =>
      (await db.selectFrom(table).select((e) => e.fn.countAll<number>().as("n")).where(
        state as never,
        "=",
        value as never,
      )
        .executeTakeFirstOrThrow()).n;
    await eventually(
      async () =>
        Number(await count("reservations", "phase", 0)) + Number(await count("reservations", "phase", 1)) ===
          0,
      {
        timeout: 20_000,
        what: "the end of reservations",
      },
    );
    for (const [id, { key, slave }] of load.delivered) {
      const read = await network.client(slave).decKeys(11, id);
      if (!load.asked.has(id)) assert.ok(keysOf(read)[0]!.key === key);
      else if (read.status === 200) assert.ok(keysOf(read)[0]!.key === key, "other bits");
      else assert.equal(read.status, 400);
      assert.equal((await network.client(slave).decKeys(11, id)).status, 400);
    }
    const keys = await db.selectFrom("blocks").select("key_id").where("state", "=", 3)
      .execute();
    const recorded = new Set(keys.map((row) => hex(row.key_id!)));
    for (const id of load.delivered.keys()) {
      assert.ok(recorded.has(id.replaceAll("-", "")), "a key that is not recorded");
    }
    const free = Number(await count("blocks", "state", 0));
    const reserved = Number(await count("blocks", "state", 1));
    const burnt = 2 * BLOCKS - free - reserved - recorded.size;
    // At most what eight requests of two keys had under way.
    assert.ok(burnt >= 0 && burnt <= 16, `${burnt} blocks burnt`);
    assert.ok(reserved <= 16, `${reserved} blocks set aside`);
    const failed = load.statuses.get(503) ?? 0;
    console.log(
      `    ${load.delivered.size} keys delivered, ${recorded.size} recorded, ${burnt} burnt, ${reserved} set aside, ` +
        `${failed} answers 503, slowest exchange ${Math.round(load.slowest)} ms`,
    );
  } finally {
    await db.destroy();
  }
  assert.equal(await kme.stop(), 0);
}

function databaseOf(uri: string) {
  return { kind: uri.startsWith("postgres") ? "postgres" : "mysql", uri } as const;
}

for (const kind of ["postgres", "mariadb"] as const) {
  for (const outage of OUTAGES) {
    databaseTest(
      kind,
      `KMEs live on while the server ${outage.name} under load`,
      (uri, server) => survive(uri, server, outage),
      { stopsServer: true },
    );
  }
}

databaseTest(
  "mariadb",
  "connections that the server closes are replaced, as after its wait_timeout",
  async (uri) => {
    await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [11, 12], database: uri }] });
    await network.writeKeyFile(1, 1, 50);
    await network.start(1);
    const master = network.client(11);
    await eventually(async () => (await master.status(12)).json.stored_key_count === 50);
    const connection = await mysql.createConnection(uri);
    try {
      for (let i = 0; i < 5; i++) {
        assert.equal(keysOf(await master.encKeys(12)).length, 1);
        const [rows] = await connection.query(
          "select id from information_schema.processlist where db = database() and id <> connection_id()",
        );
        const ids = (rows as { id: number }[]).map(({ id }) => id);
        assert.ok(ids.length > 0);
        // One that ends by itself meanwhile cannot be closed.
        for (const id of ids) await connection.query(`kill ${Number(id)}`).catch(() => {});
        const made = await eventually(async () => {
          const response = await master.encKeys(12);
          assert.ok([200, 503].includes(response.status), response.text);
          return response.status === 200 && response;
        });
        assert.equal((await network.client(12).decKeys(11, keysOf(made)[0]!.key_ID)).status, 200);
      }
    } finally {
      await connection.end();
    }
  },
);
