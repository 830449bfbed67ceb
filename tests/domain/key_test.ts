/** key_IDs. */
import assert from "node:assert/strict";
import { newKeyId, newKeyIds } from "../../src/domain/key.ts";

const beginOf = (id: Uint8Array) => id.subarray(0, 4).toHex();

Deno.test("key_IDs are different UUIDs of version 4, and those made at about the same time begin alike", async () => {
  const all: string[] = [];
  const begins = new Set<string>();
  for (let moment = 0; moment < 20; moment++) {
    const ids = newKeyIds(20);
    all.push(...ids.map((id) => id.toHex()));
    const some = new Set(ids.map(beginOf));
    assert.ok(some.size <= 2, `${some.size} beginnings`);
    for (const begin of some) begins.add(begin);
    while (begins.has(beginOf(newKeyId()))) await new Promise((resolve) => setTimeout(resolve, 0));
  }
  for (const id of all) assert.match(id, /^.{12}4.{3}[89ab].{15}$/);
  // The rest is random, and so is the beginning: they are in no order.
  assert.equal(new Set(all.map((id) => id.slice(8))).size, all.length);
  assert.notDeepEqual(all, all.toSorted());
  assert.notDeepEqual([...begins], [...begins].toSorted());
});
