import assert from "node:assert/strict";
import { FIRST_BLOCKS, TransactionSize } from "../../src/ingest/transaction_size.ts";

const QUICK_MS = 200;

function sized() {
  let now = 0;
  const size = new TransactionSize(QUICK_MS, () => now);
  return {
    size,
    /** @returns the pause, in milliseconds. */
    stored(milliseconds: number, requested: boolean, blocking = false): number {
      now += milliseconds;
      return size.stored({ milliseconds, requested, blocking });
    },
    wait: (milliseconds: number) => now += milliseconds,
  };
}

Deno.test("transactions grow without a pause while no request comes", () => {
  const { size, stored } = sized();
  for (let i = 0; i < 5; i++) assert.equal(stored(50, false), 0);
  assert.equal(size.blocks, 16_384);
  assert.equal(stored(3 * QUICK_MS, false), 0);
  assert.equal(size.blocks, FIRST_BLOCKS);
});

Deno.test("transactions do not grow where they would block the thread", () => {
  const { size, stored } = sized();
  for (let i = 0; i < 5; i++) stored(1, false, true);
  assert.equal(size.blocks, FIRST_BLOCKS);
});

Deno.test("while requests come, transactions become short, and requests get three times as much time as ingestion", () => {
  const { size, stored } = sized();
  for (let i = 0; i < 5; i++) stored(50, false);
  assert.equal(stored(100, true), 300);
  assert.equal(size.blocks, 1024);
  assert.equal(stored(100, true), 300);
  assert.equal(stored(100, true), 300);
  assert.equal(size.blocks, 256);
  stored(100, true);
  assert.equal(size.blocks, 256);
  // Short ones may be longer again, up to the size that the first one has.
  for (let i = 0; i < 9; i++) assert.equal(stored(1, true), 3);
  assert.equal(size.blocks, FIRST_BLOCKS);
  assert.equal(stored(5000, true), 500);
});

Deno.test("a transaction without a request grows only when no request has come for a second", () => {
  const { size, stored, wait } = sized();
  stored(100, true);
  assert.equal(stored(100, false), 300);
  assert.equal(size.blocks, 512);
  wait(1000);
  assert.equal(stored(100, false), 0);
  assert.equal(size.blocks, FIRST_BLOCKS);
});

Deno.test("after a failure a transaction is not larger than the first one", () => {
  const { size, stored } = sized();
  for (let i = 0; i < 5; i++) stored(50, false);
  size.failed();
  assert.equal(size.blocks, FIRST_BLOCKS);
});
