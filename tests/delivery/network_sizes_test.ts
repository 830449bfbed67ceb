/** Keys of every size are the same at both ends, and are made of whole blocks that nothing else is made of. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { assertProblem, startNetwork, stockOf } from "../sae_api/api_fixture.ts";
import { assertEachReadsOnce, bitsOf, pair, stocks } from "./test_networks.ts";

const SIZES = [8, 24, 64, 72, 128, 256, 264, 512, 1000, 1024, 4096, 65_536];

const BLOCKS = 2600;

Deno.test("keys of every size agree, from both ends of a link and within a KME, over GET and POST", async () => {
  const shared = Uint8Array.from(randomBytes(32 * BLOCKS));
  await using network = await startNetwork(pair, [1, 2, shared], [1, 1, 1500]);
  const blocks = new Map(
    Array.from({ length: BLOCKS }, (_, i) => shared.subarray(32 * i, 32 * i + 32)).map((b) => [b.toHex(), b]),
  );
  const beginnings = new Map([...blocks.keys()].map((hex) => [hex.slice(0, 16), hex]));
  const ids = new Set<string>();
  for (const size of SIZES) {
    for (const [master, slave] of [[1, 2], [2, 1], [1, 11]] as const) {
      for (const method of ["GET", "POST"] as const) {
        const before = await stockOf(network.client(master), slave);
        const enc = await network.client(master).encKeys(slave, { number: 2, size }, { method });
        assert.equal(enc.status, 200, `${size} bits from ${master} to ${slave}: ${enc.status}`);
        const bits = bitsOf(enc);
        assert.deepEqual(bits.map((key) => key.length * 8), [size, size]);
        assert.equal(await stockOf(network.client(master), slave), before - 2 * Math.ceil(size / 256));
        for (const { key_ID } of enc.json.keys) {
          assert.ok(!ids.has(key_ID), "a key_ID twice");
          ids.add(key_ID);
        }
        if (slave !== 11) {
          for (const key of bits) {
            for (let offset = 0; offset < key.length; offset += 32) {
              const part = key.subarray(offset, offset + 32).toHex();
              // A beginning of 64 bits tells the blocks apart; an end that is shorter tells nothing.
              if (part.length < 16) continue;
              const block = beginnings.get(part.slice(0, 16));
              assert.ok(block?.startsWith(part), "a part of a key is no unused block");
              beginnings.delete(part.slice(0, 16));
            }
          }
        }
        await assertEachReadsOnce(network, enc, master, [slave]);
      }
    }
  }
  const [here, there] = await stocks(network, [1, 2]);
  assert.equal(here, there);
});

Deno.test("a key that needs more blocks than there are is 503 and consumes none", async () => {
  await using network = await startNetwork(pair, [1, 2, 15], [1, 1, 3]);
  assertProblem(await network.client(1).encKeys(2, { size: 4096 }), 503);
  assertProblem(await network.client(1).encKeys(2, { size: 264, number: 8 }), 503);
  assertProblem(await network.client(1).encKeys(11, { size: 1024 }), 503);
  assert.deepEqual(await stocks(network, [1, 2]), [15, 15]);
  const enc = await network.client(1).encKeys(2, { size: 264, number: 7 });
  assert.equal(enc.status, 200, enc.text);
  await assertEachReadsOnce(network, enc, 1, [2]);
  assert.deepEqual(await stocks(network, [1, 2]), [1, 1]);
});
