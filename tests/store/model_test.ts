/** Random sequences of operations against a model of the ledger. */
import assert from "node:assert/strict";
import fc from "fast-check";
import {
  audit,
  closeOnce,
  hex,
  type Ledger,
  type LedgerKind,
  ledgerTest,
  OWN,
  PEER,
} from "./store_fixture.ts";
import { Model, stepsWith } from "./model.ts";
import { BlockState } from "../../src/store/table_schema.ts";

/** Longest sequence of operations. */
const LENGTH = 60;

interface Trial {
  /** Sequences that are tried; more with `KME_TEST_RUNS`. Where each has a thread started for it, as few as on a file. */
  readonly runs: Readonly<Record<LedgerKind, number>>;
  /** Keys in a delivery. */
  readonly numbers: fc.Arbitrary<number>;
  /** Blocks in each pool at the beginning of a sequence. */
  readonly stock: number;
}

const SMALL: Trial = {
  runs: { memory: 400, sqlite: 25, postgres: 15, mariadb: 15 },
  numbers: fc.integer({ min: 1, max: 4 }),
  stock: 0,
};

/** As the bench asks: from a stock that does not end, up to as many keys as a request may ask for. */
const LARGE: Trial = {
  runs: { memory: 8, sqlite: 3, postgres: 2, mariadb: 2 },
  numbers: fc.constantFrom(1, 10, 128),
  stock: 5000,
};

/** Every block is where the model has it, every key readable by its slaves, each once, and by no other SAE. */
async function compare(ledger: Ledger, model: Model): Promise<void> {
  const rows = await ledger.tables.selectFrom("blocks").select(["block_id", "state"])
    .where("state", "!=", BlockState.key).execute();
  const stored = new Map(
    rows.map((row) => [hex(row.block_id), row.state === BlockState.free ? "free" : "reserved"]),
  );
  const imported = await ledger.tables.selectFrom("seen_blocks").select("block_id").execute();
  if (ledger.kind === "memory") assert.equal(imported.length, model.blocks.size);
  const states = { free: 0, reserved: 0, key: 0, gone: 0 };
  for (const [id, block] of model.blocks) {
    states[block.state]++;
    assert.equal(
      stored.get(id),
      block.state === "free" || block.state === "reserved" ? block.state : undefined,
    );
  }
  assert.equal(states.free + states.reserved + states.key + states.gone, model.blocks.size);
  const keys = await ledger.tables.selectFrom("blocks").select(["key_id", "bits"])
    .where("state", "=", BlockState.key).execute();
  assert.deepEqual(
    keys.filter((key) => key.bits !== null).map((key) => hex(key.key_id!)).sort(),
    [...model.keys.values()].filter((key) => key.readable && !key.erased).map((key) => key.id).sort(),
  );
  for (const master of ["11", "21"]) {
    const waiting = [...model.keys.values()].filter((key) =>
      key.readable && key.master === master && key.expiresAt > model.now &&
      ![...key.slaves.values()].every(Boolean)
    );
    assert.equal(await model.store.keysWaiting(master), waiting.length);
  }
  for (const key of model.keys.values()) {
    for (const caller of ["12", "13", "12 ", "21", "11"]) {
      for (let time = 0; time < 2; time++) {
        const read = await model.store.collect({
          caller,
          master: key.master,
          ids: [Uint8Array.fromHex(key.id)],
        });
        if (!key.slaves.has(caller)) assert.equal(read.kind, "foreign");
        else if (key.readable && !key.slaves.get(caller) && key.expiresAt > model.now) {
          assert.ok(read.kind === "keys" && hex(read.keys[0]!.bits) === key.bits);
          key.slaves.set(caller, { at: model.now });
        } else assert.equal(read.kind, "missing");
      }
    }
  }
  await audit(ledger);
}

async function agrees(ledger: Ledger, trial: Trial): Promise<void> {
  let sequences = 0;
  let operations = 0;
  const numRuns = Number(Deno.env.get("KME_TEST_RUNS") ?? trial.runs[ledger.thread ? "sqlite" : ledger.kind]);
  const steps = fc.commands(stepsWith(trial.numbers), { maxCommands: LENGTH, size: "max" });
  await fc.assert(
    fc.asyncProperty(steps, async (commands) => {
      // On servers and files one database serves all sequences of a test: each begins with what is left of the last.
      if (ledger.kind !== "memory") await empty(ledger);
      let now = () => 0;
      const store = await ledger.open({ now: () => now() });
      const model = new Model((clock) => {
        now = clock;
        return store;
      });
      try {
        if (trial.stock > 0) {
          for (const { text } of [OWN, PEER]) await model.add(text, trial.stock, false);
        }
        await fc.asyncModelRun(() => ({ model, real: model }), commands);
        await compare(ledger, model);
      } finally {
        sequences++;
        operations += model.steps;
        await closeOnce(store);
      }
    }),
    { numRuns, endOnFailure: ledger.kind !== "memory" },
  );
  console.log(`    ${ledger.kind}: ${sequences} sequences, ${operations} operations`);
}

ledgerTest("random operations do what the model of the ledger says", (ledger) => agrees(ledger, SMALL));

ledgerTest(
  "random operations on a large stock, with up to 128 keys in a request, do what the model says",
  (ledger) => agrees(ledger, LARGE),
);

async function empty(ledger: Ledger): Promise<void> {
  if (!ledger.shared) {
    for (const end of ["", "-wal", "-shm"]) {
      await Deno.remove(`${(ledger.database as { path: string }).path}${end}`).catch(() => {});
    }
    return;
  }
  const { tables } = ledger;
  const exists = (await tables.introspection.getTables()).some((table) => table.name === "blocks");
  if (!exists) return;
  for (
    const name of [
      "key_reads",
      "kept_keys",
      "blocks",
      "delivery_slaves",
      "deliveries",
      "reservations",
      "seen_blocks",
      "voided_transactions",
    ] as const
  ) {
    await tables.deleteFrom(name).execute();
  }
  await tables.updateTable("stock").set({ free: 0 }).execute();
}
