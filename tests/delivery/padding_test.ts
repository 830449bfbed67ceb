/** No key's bits are sent unpadded: all traffic between KMEs is captured and searched. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { makeTestNetwork, type NetworkSpec } from "../harness/test_network.ts";
import { keysOf } from "../harness/sae_client.ts";
import { allKmesIngested, assertEachReadsOnce, bitsOf, chain, triangleWithTail } from "./test_networks.ts";
import { type Tap, tap, traceOf } from "./tap.ts";

Deno.test("a trace of a key is found in every notation", () => {
  const key = Uint8Array.from(randomBytes(32));
  const text = (content: string) => new TextEncoder().encode(content);
  assert.equal(traceOf(key, Uint8Array.from([1, 2, ...key, 3])), "raw");
  assert.equal(traceOf(key, text(`..${key.toHex().toUpperCase()}..`)), "hexadecimal");
  assert.equal(traceOf(key, text(`{"a":"${key.toBase64()}"}`)), "base64");
  for (const before of [1, 2, 3, 4]) {
    const longer = Uint8Array.from([...randomBytes(before), ...key, 7]);
    assert.equal(traceOf(key, text(longer.toBase64())), "base64");
    assert.equal(traceOf(key, text(longer.toBase64({ alphabet: "base64url" }))), "base64");
  }
  assert.equal(traceOf(key, text(`[${[...key]}]`)), "numbers");
  assert.equal(traceOf(key.subarray(8, 16), Uint8Array.from([...key])), "raw");
  assert.equal(traceOf(key, Uint8Array.from(randomBytes(100_000))), undefined);
});

interface Request {
  readonly master: number;
  readonly slave: number;
  readonly additional: string[];
}

async function overTaps(
  spec: NetworkSpec,
  requests: readonly Request[],
  look: (taps: readonly Tap[], keys: Uint8Array[], ids: string[]) => void,
): Promise<void> {
  await using network = await makeTestNetwork(spec);
  await using stack = new AsyncDisposableStack();
  const taps: Tap[] = [];
  for (const [a, b] of spec.links!) {
    await network.writeKeyFile(a, b, 400);
    for (const [from, to] of [[a, b], [b, a]] as const) {
      taps.push(stack.use(await tap(network, from, to)));
    }
  }
  for (const { id } of spec.kmes) await network.writeKeyFile(id, id, 100);
  await network.startAll();
  await allKmesIngested(network, spec);
  const keys: Uint8Array[] = [];
  const ids: string[] = [];
  for (const { master, slave, additional } of requests) {
    for (const size of [8, 64, 256, 1000, 4096]) {
      const enc = await network.client(master).encKeys(slave, {
        number: 2,
        size,
        additional_slave_SAE_IDs: additional,
      });
      assert.equal(enc.status, 200, enc.status === 200 ? "" : enc.text);
      keys.push(...bitsOf(enc));
      ids.push(...keysOf(enc).map((key) => key.key_ID));
      await assertEachReadsOnce(network, enc, master, [slave, ...additional]);
    }
  }
  look(taps, keys, ids);
}

Deno.test("along a chain of four KMEs no wire carries anything of a key, in either direction", async () => {
  const requests = [
    { master: 1, slave: 4, additional: [] },
    { master: 4, slave: 1, additional: ["2", "11"] },
    { master: 1, slave: 2, additional: ["3", "4", "11"] },
    { master: 1, slave: 11, additional: ["4"] },
  ];
  await overTaps(chain, requests, (taps, keys, ids) => {
    for (const [i, { received, answered }] of taps.entries()) {
      const said = received();
      assert.ok(said.length > 0, `tap ${i} heard nothing`);
      // What is read is what was said: the keys of at least one request passed here by their names.
      const text = new TextDecoder().decode(said);
      assert.ok(ids.filter((id) => text.includes(id)).length >= 8, `tap ${i} did not hear of the keys`);
      for (const key of keys) {
        for (const bytes of [said, answered()]) {
          const trace = traceOf(key, bytes);
          assert.ok(trace === undefined, `tap ${i} read a key: ${trace}`);
        }
      }
    }
  });
});

Deno.test("keys for several slaves go to each KME under a pad of its own, used once", async () => {
  const requests = [
    { master: 1, slave: 2, additional: ["3", "4"] },
    { master: 4, slave: 1, additional: ["2", "3"] },
    { master: 2, slave: 22, additional: ["1", "3"] },
  ];
  await overTaps(triangleWithTail, requests, (taps, keys) => {
    const pads = new Set<string>();
    const wires = new Set<string>();
    for (const { received } of taps) {
      const said = received();
      for (const key of keys) assert.equal(traceOf(key, said), undefined, "a key was read");
      const text = new TextDecoder().decode(said);
      for (const [, blocks, padded] of text.matchAll(/"blocks":\[([^\]]*)\],"padded":"([^"]+)"/g)) {
        for (const block of blocks!.split(",")) {
          assert.ok(!pads.has(block), "a pad was used twice");
          pads.add(block);
        }
        // Keys of 8 bits are the same now and then.
        if (padded!.length < 12) continue;
        assert.ok(!wires.has(padded!), "the same under two pads");
        wires.add(padded!);
      }
    }
    assert.ok(wires.size >= 2 * requests.length, "few padded keys were seen");
  });
});
