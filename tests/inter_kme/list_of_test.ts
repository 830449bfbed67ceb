/** Lists in messages are read to the first mistake only. */
import assert from "node:assert/strict";
import { z } from "zod";
import { listOf } from "../../src/inter_kme/list_of.ts";

Deno.test("a list is read to its first wrong element, and not at all when its length is wrong", () => {
  let read = 0;
  const element = z.custom<number>((value) => {
    read++;
    return value === 1;
  }).transform((value) => value + 1);
  const list = listOf(element, { min: 1, max: 1000 });
  assert.deepEqual(list.parse([1, 1]), [2, 2]);
  const refused: [unknown, number][] = [
    [[1, 2, ...Array(998).fill(2)], 2],
    [Array(1_000_000).fill(1), 0],
    [[], 0],
    [{ length: 2 }, 0],
    [undefined, 0],
  ];
  for (const [value, elements] of refused) {
    read = 0;
    assert.equal(list.safeParse(value).success, false);
    assert.equal(read, elements);
  }
  assert.equal(z.object({ list }).safeParse({}).success, false);
  assert.deepEqual(z.object({ list: list.optional() }).parse({}), {});
});
