/** The database server goes away under load and comes back: calls fail within seconds, and every block is accounted for. */
import assert from "node:assert/strict";
import { StoreUnavailable } from "../../src/domain/store_errors.ts";
import type { ReservationOutcome } from "../../src/store/operations/finish_reservation.ts";
import type { Store } from "../../src/store/store.ts";
import { eventually } from "../harness/eventually.ts";
import { audit, delivery, fill, freshId, hex, type Ledger, ledgerTest, OWN, PEER } from "./store_fixture.ts";
import { hasProcessTree } from "../harness/process_tree.ts";
import { type Outage, OUTAGES } from "./outage.ts";

const WORKERS = 32;
const BLOCKS = 8000;
/** Milliseconds: a turn of at most five seconds, then four for the server; more on a busy machine. */
const LIMIT_MS = 40_000;

/** What the callers saw. */
class Load {
  readonly #store: Store;
  readonly #ended: Promise<unknown>;
  #going = true;
  done = 0;
  failed = 0;
  slowest = 0;
  burnt = 0;
  /** Keys that a caller got, bits by key_ID; and those that were read. */
  readonly delivered = new Map<string, string>();
  readonly read = new Set<string>();
  readonly unexpected: unknown[] = [];
  /** Callers that failed in this outage. */
  readonly failedCallers = new Set<number>();
  readonly servedCallers = new Set<number>();

  constructor(store: Store) {
    this.#store = store;
    this.#ended = Promise.all(Array.from({ length: WORKERS }, (_, i) => this.#work(i)));
  }

  async stop(): Promise<void> {
    this.#going = false;
    await this.#ended;
  }

  async #work(caller: number): Promise<void> {
    while (this.#going) {
      const begin = performance.now();
      try {
        await (caller % 2 === 0 ? this.#deliverAndRead() : this.#reserveAndFinish());
        this.done++;
        this.servedCallers.add(caller);
      } catch (error) {
        this.failed++;
        this.failedCallers.add(caller);
        if (!(error instanceof StoreUnavailable)) this.unexpected.push(error);
      }
      this.slowest = Math.max(this.slowest, performance.now() - begin);
      // A load that the pool lasts for.
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async #deliverAndRead(): Promise<void> {
    const [key] = (await this.#store.deliver(delivery(this.#store)))!;
    this.delivered.set(hex(key!.id), hex(key!.bits));
    const read = await this.#store.collect({ caller: "12", master: "11", ids: [key!.id] });
    assert.ok(read.kind === "keys" && hex(read.keys[0]!.bits) === hex(key!.bits));
    this.read.add(hex(key!.id));
  }

  async #reserveAndFinish(): Promise<void> {
    const reservation = freshId();
    const link = this.#store.link(PEER.text)!;
    let ids: Uint8Array[];
    try {
      const parts = await this.#store.reserve({ reservation, claims: [{ link, blocks: 2 }] });
      ids = parts![0]!.map((block) => block.id);
    } catch (error) {
      this.#later({ reservation, releaseRest: true });
      throw error;
    }
    const keys = ids.map((id) => ({
      id,
      origin: OWN.text,
      master: "11",
      slaves: ["21"],
      expiresAt: Date.now() + 3_600_000,
    }));
    try {
      assert.ok((await this.#store.finishReservation({ reservation, spend: ids, keys })).ok);
    } catch (error) {
      this.#later({ reservation, burn: ids });
      throw error;
    }
  }

  readonly late = new Set<ReservationOutcome>();

  #later(outcome: ReservationOutcome): void {
    this.late.add(outcome);
  }

  async retryLate(): Promise<void> {
    for (const outcome of this.late) {
      const finished = await this.#store.finishReservation(outcome);
      assert.ok(finished.ok);
      this.burnt += finished.burnt;
    }
    this.late.clear();
  }
}

async function survive(ledger: Ledger, outages: readonly Outage[]): Promise<void> {
  const failures: unknown[] = [];
  const store = await ledger.open({
    statementLimitMs: undefined,
    onFailure: (error) => failures.push(error),
  });
  await fill(store, BLOCKS);
  await fill(store, BLOCKS, PEER.text);
  const load = new Load(store);
  try {
    for (const outage of outages) {
      const before = load.done;
      await eventually(() => load.done > before + 200, { timeout: 60_000, what: "the load" });
      load.failedCallers.clear();
      load.slowest = 0;
      await outage.begin(ledger.server!);
      try {
        await eventually(() => load.failedCallers.size === WORKERS, {
          timeout: 60_000,
          what: "failure of every caller",
        });
        // Reads fail too, and in time.
        const begin = performance.now();
        await assert.rejects(store.fileProgress(OWN.text, ["a.cor"]), StoreUnavailable);
        assert.ok(performance.now() - begin < LIMIT_MS);
      } finally {
        await outage.end(ledger.server!);
      }
      load.servedCallers.clear();
      await eventually(() => load.servedCallers.size === WORKERS, {
        timeout: 60_000,
        what: "service after the outage",
      });
      assert.ok(load.slowest < LIMIT_MS, `the server ${outage.name}: a call took ${load.slowest} ms`);
      // While others work, as it would be.
      await load.retryLate();
    }
  } finally {
    await load.stop();
  }
  await load.retryLate();
  assert.deepEqual(load.unexpected, []);

  const counts = await audit(ledger);
  assert.equal(counts.reserved, 0);
  assert.equal(counts.reservations, 0);
  assert.equal(counts.free + counts.keys + load.burnt, 2 * BLOCKS);
  const keys = await ledger.tables.selectFrom("blocks").select("key_id").where("state", "=", 3)
    .execute();
  const recorded = new Set(keys.map((row) => hex(row.key_id!)));
  for (const id of load.delivered.keys()) {
    assert.ok(recorded.has(id), "a key that was handed out is not recorded");
  }
  // What was handed out and not read is readable; what was read is not.
  for (const [id, bits] of load.delivered) {
    const ids = [Uint8Array.fromHex(id)];
    const result = await store.collect({ caller: "12", master: "11", ids });
    if (load.read.has(id)) assert.equal(result.kind, "missing");
    else if (result.kind === "keys") assert.equal(hex(result.keys[0]!.bits), bits);
    // Otherwise the answer to its reader's commit was lost.
  }
  console.log(
    `    ${load.done} calls served, ${load.failed} failed, ${load.delivered.size} keys handed out, ` +
      `${counts.keys} recorded, ${load.burnt} blocks burnt, failures: ${
        [...new Set(failures.map(named))].join("; ")
      }`,
  );
}

function named(error: unknown): string {
  const { code, message } = error as { code?: string; message?: string };
  return `${code ?? ""} ${message ?? error}`.trim().slice(0, 80);
}

for (const outage of OUTAGES) {
  ledgerTest(
    `the server ${outage.name} under load`,
    (ledger) => survive(ledger, [outage]),
    ["postgres", "mariadb"],
    { stopsServer: true },
  );
}

if (hasProcessTree) {
  ledgerTest(
    "while the server hangs, a limited number of calls wait for it and the others are refused at once",
    async (ledger) => {
      // So long that no call ends before the server goes on.
      const store = await ledger.open({ statementLimitMs: 300_000 });
      await fill(store, 1000);
      const server = ledger.server!;
      server.pause();
      const waiting: Promise<unknown>[] = [];
      let refused: unknown;
      try {
        const refusal = Promise.withResolvers<unknown>();
        const call = () => {
          const key = store.deliver(delivery(store));
          waiting.push(key.catch(refusal.resolve));
        };
        for (let i = 0; i < 300; i++) call();
        const timer = setInterval(call, 100);
        refused = await refusal.promise;
        clearInterval(timer);
        await assert.rejects(store.fileProgress(OWN.text, ["a.cor"]), refusedUnsent);
      } finally {
        server.resume();
      }
      assert.ok(refusedUnsent(refused));
      const keys = (await Promise.all(waiting)).filter((keys) => Array.isArray(keys));
      assert.ok(keys.length >= 300, "those that waited are served");
      assert.equal((await store.deliver(delivery(store)))?.length, 1);
    },
    ["postgres", "mariadb"],
    { stopsServer: true },
  );
}

function refusedUnsent(error: unknown): boolean {
  return error instanceof StoreUnavailable && error.nothingDone && /calls wait/.test(String(error.cause));
}
