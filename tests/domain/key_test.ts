/** key_IDs. */
import assert from "node:assert/strict";
import { newKeyIds } from "../../src/domain/key.ts";

Deno.test("key_IDs are different UUIDs of version 4, and only those made at the same moment begin alike", async () => {
  const turns: string[][] = [];
  for (let turn = 0; turn < 50; turn++) {
    turns.push(newKeyIds(20).map((id) => id.toHex()));
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  const all = turns.flat();
  assert.equal(new Set(all).size, all.length);
  for (const id of all) assert.match(id, /^.{12}4.{3}[89ab].{15}$/);
  const begins = turns.map((ids) => new Set(ids.map((id) => id.slice(0, 8))));
  assert.ok(begins.every(({ size }) => size === 1));
  assert.equal(new Set(begins.flatMap((each) => [...each])).size, turns.length);
  // The rest is random, and so is the beginning: they are not in any order.
  assert.equal(new Set(all.map((id) => id.slice(8))).size, all.length);
  assert.notDeepEqual(all, all.toSorted());
  assert.notDeepEqual(all, all.toSorted().reverse());
});
