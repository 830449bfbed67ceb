/** The messages about the keys of QKD devices, and who may send them. */
import assert from "node:assert/strict";
import { MAX_DEVICE_BLOCKS, MAX_DEVICE_KEYS } from "../../src/domain/device_keys.ts";
import {
  formatDeviceKeysAnswer,
  formatDeviceKeysQuestion,
  MAX_DEVICE_QUESTION_BYTES,
  readDeviceKeysAnswer,
  readDeviceKeysQuestion,
} from "../../src/inter_kme/device_key_messages.ts";

const id = () => crypto.getRandomValues(new Uint8Array(16));
const encode = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
const key = (blocks: number, name: string = crypto.randomUUID()) => ({
  id: name,
  blocks: Array.from({ length: blocks }, id),
});

Deno.test("questions and answers are parsed to what was formatted", () => {
  const question = { keys: [key(1), key(16, "not a UUID, ünlike the standard's")] };
  const text = formatDeviceKeysQuestion("1", question);
  assert.deepEqual(readDeviceKeysQuestion(new TextEncoder().encode(text)), { sender: "1", question });
  for (
    const answer of [{ presence: Uint8Array.of(0, 1, 2) }, { presence: Uint8Array.of(), reason: "a reason" }]
  ) {
    assert.deepEqual(readDeviceKeysAnswer(formatDeviceKeysAnswer(answer)), answer);
  }
});

Deno.test("the largest question fits into the limit", () => {
  const keys = Array.from(
    { length: MAX_DEVICE_KEYS },
    (_, i) => key(MAX_DEVICE_BLOCKS / MAX_DEVICE_KEYS, String(i).padStart(255, "x")),
  );
  const text = formatDeviceKeysQuestion("x".repeat(291), { keys });
  assert.ok(text.length <= MAX_DEVICE_QUESTION_BYTES, String(text.length));
  assert.ok(readDeviceKeysQuestion(new TextEncoder().encode(text)) !== undefined);
});

Deno.test("other messages are not read", () => {
  const block = id().toBase64();
  const good = { key_ID: "a", blocks: block };
  const bad: unknown[] = [
    null,
    {},
    { sender_KME_ID: "1" },
    { sender_KME_ID: 1, keys: [good] },
    { sender_KME_ID: "1", keys: [] },
    { sender_KME_ID: "1", keys: [{ ...good, key_ID: "" }] },
    { sender_KME_ID: "1", keys: [{ ...good, key_ID: "x".repeat(256) }] },
    { sender_KME_ID: "1", keys: [{ ...good, blocks: "" }] },
    { sender_KME_ID: "1", keys: [{ ...good, blocks: "AAAA" }] },
    { sender_KME_ID: "1", keys: [good, { key_ID: "b", blocks: block }] },
    { sender_KME_ID: "1", keys: [good, { key_ID: "a", blocks: id().toBase64() }] },
    {
      sender_KME_ID: "1",
      keys: [{ key_ID: "a", blocks: new Uint8Array(16 * (MAX_DEVICE_BLOCKS + 1)).toBase64() }],
    },
    {
      sender_KME_ID: "1",
      keys: Array.from(
        { length: MAX_DEVICE_KEYS + 1 },
        (_, i) => ({ key_ID: `${i}`, blocks: id().toBase64() }),
      ),
    },
  ];
  for (const message of bad) {
    assert.equal(readDeviceKeysQuestion(encode(message)), undefined, JSON.stringify(message)?.slice(0, 100));
  }
  assert.ok(readDeviceKeysQuestion(encode({ sender_KME_ID: "1", keys: [good], other: 1 })) !== undefined);
  for (const answer of ["", "{}", '{"presence":7}', '{"presence":"?"}']) {
    assert.equal(readDeviceKeysAnswer(answer), undefined);
  }
});

Deno.test("an answer with a presence that does not exist is rejected", () => {
  const answer = (presence: number[]) =>
    readDeviceKeysAnswer(formatDeviceKeysAnswer({ presence: Uint8Array.from(presence) }));
  assert.deepEqual(answer([0, 1, 2]), { presence: Uint8Array.of(0, 1, 2) });
  for (const wrong of [3, 255]) assert.equal(answer([1, wrong]), undefined, String(wrong));
});
