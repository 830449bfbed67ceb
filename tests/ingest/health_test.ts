/** Health tests of key material: random files pass, material that is not random does not become keys. */
import assert from "node:assert/strict";
import { KeyHealth } from "../../src/ingest/key_health.ts";
import { falsePositivesLog2 } from "./false_positives.ts";
import { roomTest, testKey } from "./ingest_harness.ts";

function problemOf(bytes: Uint8Array): string | undefined {
  const health = new KeyHealth(bytes.length);
  for (let at = 0; at < bytes.length; at += 65_536) health.update(bytes.subarray(at, at + 65_536));
  return health.problem;
}

function concatenated(...parts: Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

Deno.test("random files pass", () => {
  for (let file = 0; file < 100; file++) {
    const bytes = new Uint8Array(1_048_576);
    for (let at = 0; at < bytes.length; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
    assert.equal(problemOf(bytes), undefined);
  }
  for (let blocks = 1; blocks <= 300; blocks++) assert.equal(problemOf(testKey(32 * blocks)), undefined);
});

Deno.test("material that is constant, stuck, biased or repeated fails", () => {
  const block = testKey(32);
  const stuck = testKey(32 * 100);
  stuck.fill(0x5a, 1000, 1030);
  const biased = testKey(32 * 100).map((byte, i) => i % 3 === 0 ? 7 : byte);
  biased[0] = 7;
  const cases: [Uint8Array, RegExp][] = [
    [new Uint8Array(32), /repetition count/],
    [new Uint8Array(32).fill(0xff), /repetition count/],
    [concatenated(testKey(320), new Uint8Array(32)), /repetition count/],
    [stuck, /repetition count/],
    [biased, /adaptive proportion/],
    [Uint8Array.from({ length: 64 }, (_, i) => i & 1), /adaptive proportion/],
    [concatenated(block, testKey(3200), block), /a block is there twice/],
    [concatenated(block, block), /a block is there twice/],
  ];
  for (const [bytes, problem] of cases) assert.match(problemOf(bytes) ?? "none", problem);
});

Deno.test("the cutoffs keep false positives below 2^-40 a file", () => {
  for (const bytes of [1024, 2 ** 20, 2 ** 30]) {
    for (const { test, log2 } of falsePositivesLog2(bytes)) {
      assert.ok(log2 < -40, `${bytes} bytes, ${test}: 2^${log2}`);
    }
  }
});

roomTest(
  "a file that does not look random stays where it is and is refused, or ingested with a warning",
  async (room) => {
    const zeros = new Uint8Array(64);
    room.drop("zeros.cor", zeros);
    const ingestion = room.start({ deleteAfterRead: true });
    await ingestion.started;
    const refused = await room.refused.next();
    assert.equal(refused.file, "zeros.cor");
    assert.match(refused.reason, /does not look random \(.*SP 800-90B/);
    assert.equal(room.store.stored.length, 0);
    assert.ok(Deno.statSync(room.path("zeros.cor")).isFile);
    await room.stop();

    await room.start({ health: "warn" }).started;
    assert.equal(room.store.stored.length, 1);
    assert.match(room.complaints.at(-1)!, /ingested all the same/);
  },
);

roomTest("without the tests such a file is ingested", async (room) => {
  room.drop("zeros.cor", new Uint8Array(64));
  await room.start({ health: "off" }).started;
  assert.equal(room.store.stored.length, 1);
  assert.deepEqual(room.complaints, []);
});
