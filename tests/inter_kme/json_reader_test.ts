/** Reading JSON in steps: what a sender adds costs little. */
import assert from "node:assert/strict";
import { JsonReader, UnreadableMessage } from "../../src/inter_kme/json_reader.ts";

/** Reads an object with the integer `known`; returns the number of pauses. */
function read(text: string): { known?: number; pauses: number } {
  const reader = new JsonReader(new TextEncoder().encode(text));
  let known: number | undefined;
  const steps = reader.object((name) => name === "known" && void (known = reader.integer()));
  const pauses = Array.from(steps).length;
  reader.end();
  return { known, pauses };
}

const unknown = (count: number) => Array.from({ length: count }, (_, i) => `"m${i}":[{"a":"]}"}]`).join();

Deno.test("unknown members are skipped, with a pause after each", () => {
  assert.deepEqual(read(`{${unknown(63)},"known":5}`), { known: 5, pauses: 63 });
  assert.deepEqual(read(`{"known":5}`), { known: 5, pauses: 0 });
});

Deno.test("an object with very many members is refused at the first that is too many", () => {
  for (const count of [65, 1_000_000]) {
    assert.throws(() => read(`{${unknown(count)},"known":5}`), UnreadableMessage, `${count}`);
  }
  assert.throws(() => read(`{${unknown(65)},`), /more than 64 members/, "what follows is not read");
});
