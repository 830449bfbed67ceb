/** Values on their way between threads. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { overwriteKeys, pack, type Packed, transferOf, unpack } from "../../src/store/engine/packing.ts";

function sent(packed: Packed): unknown {
  return unpack(structuredClone(packed, { transfer: transferOf(packed) }));
}

const plain = { noNullPrototype: true } as const;
const bytes = fc.uint8Array({ maxLength: 40 });
const id = fc.uint8Array({ minLength: 16, maxLength: 16 });
const key = fc.record({ id, bits: fc.uint8Array({ minLength: 31, maxLength: 33 }) }, plain);

const { value } = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: "small" },
    fc.string({ unit: "binary" }),
    fc.double({ noNaN: true, noDefaultInfinity: true }).map((number) => number + 0),
    fc.boolean(),
    fc.constant(null),
    bytes,
    fc.array(id),
    fc.array(key),
    fc.array(fc.oneof(id, bytes, key, fc.record({ id, bits: fc.string() }, plain))),
    fc.array(tie("value")),
    fc.dictionary(fc.stringMatching(/^[a-z]{1,5}$/), tie("value"), plain),
  ),
}));

Deno.test("plain values arrive unchanged", () => {
  fc.assert(fc.property(value, (value) => {
    assert.deepEqual(sent(pack(value)), value);
  }));
});

Deno.test("only the bytes themselves are transferred, not the rest of their buffer", () => {
  const pool = new Uint8Array(8192).fill(7);
  const packed = pack({
    id: pool.subarray(100, 116),
    keys: [{ id: pool.subarray(0, 16), bits: pool.subarray(16, 48) }],
  });
  assert.ok(typeof packed !== "string");
  assert.equal(packed[1].buffer.byteLength, 16 + 16 + 32);
  assert.ok(!packed[0].includes("7,7"), "bytes are in the text");
  assert.deepEqual(sent(pack(Buffer.from("for tests"))), Uint8Array.from(Buffer.from("for tests")));
});

Deno.test("byte arrays are transferred, not copied: the runtime would not overwrite the copy", () => {
  for (const count of [2, 2048]) {
    const blocks = Array.from(
      { length: count },
      (_, i) => ({ id: new Uint8Array(16).fill(i), bits: new Uint8Array(32).fill(i) }),
    );
    const packed = pack({ blocks });
    assert.equal(transferOf(packed).length, 1);
    assert.ok(packed[0]!.length < 100, "each block is in the text");
    assert.deepEqual(sent(packed), { blocks });
    assert.equal(packed[1]!.length, 0, "the sender still has the bytes");
    assert.equal(blocks[0]!.bits.length, 32);
  }
});

Deno.test("undefined values are omitted; values that are not plain are refused", () => {
  assert.deepEqual(sent(pack({ a: undefined, b: 1 })), { b: 1 });
  for (const value of [1n, NaN, Infinity, Symbol(), () => {}, new Map(), new Date(), { a: [new Set()] }]) {
    assert.throws(() => pack(value), TypeError);
  }
});

Deno.test("the bits of packed keys can be overwritten where they came from, and nothing else is", () => {
  const key = () => ({ id: new Uint8Array(16).fill(1), bits: new Uint8Array(32).fill(2) });
  const value = { keys: [key(), key()], sizes: [[key()]], digest: new Uint8Array(32).fill(3) };
  const packed = pack(value);
  assert.deepEqual(unpack(packed), value);
  overwriteKeys(value);
  for (const { id, bits } of [...value.keys, ...value.sizes.flat()]) {
    assert.deepEqual([id[0], bits.every((byte) => byte === 0)], [1, true]);
  }
  assert.equal(value.digest[0], 3);
  assert.deepEqual((unpack(packed) as typeof value).keys, [key(), key()]);
});
