import assert from "node:assert/strict";
import type { TakeBackAnswer, Transaction } from "../../src/domain/transaction.ts";
import type { ReceptionAnswer } from "../../src/delivery/reception.ts";
import { inSlices } from "../../src/domain/slices.ts";
import { MAX_ANSWER_BYTES } from "../../src/inter_kme/channel.ts";
import {
  formatHello,
  formatReceptionAnswers,
  formatTakeBack,
  formatTakeBackAnswer,
  formatTransaction,
  formatTransactions,
  MAX_BLOCKS,
  MAX_KEYS,
  MAX_MESSAGE_BYTES,
  MAX_SAES,
} from "../../src/inter_kme/wire.ts";
import {
  readHello,
  readReceptionAnswers,
  readTakeBack,
  readTakeBackAnswer,
  readTransactions,
} from "../../src/inter_kme/read_messages.ts";

function id(number: number): Uint8Array {
  const bytes = new Uint8Array(16).fill(0xab);
  new DataView(bytes.buffer).setUint32(12, number);
  return bytes;
}

/** The longest id that can be configured: three bytes a character. */
const longId = (number: number) => `${number}`.padEnd(291, "鍵");

function transaction(
  keys: number,
  options: { blocks?: number; size?: number; saes?: number; kmes?: number } = {},
): Transaction {
  const { blocks = 1, size = 4096, saes = 1, kmes = saes } = options;
  return {
    id: id(0),
    origin: longId(0),
    recipients: Array.from({ length: kmes }, (_, i) => ({
      kme: longId(i),
      saes: Array.from({ length: saes / kmes }, (_, j) => longId(i * 10 + j)),
    })),
    keys: Array.from({ length: keys }, (_, i) => ({
      id: id(i),
      size,
      blocks: Array.from({ length: blocks }, (_, j) => id(i * blocks + j)),
      padded: new Uint8Array(size / 8).fill(i),
    })),
  };
}

const message = async (...list: Transaction[]) =>
  formatTransactions(longId(1), await Promise.all(list.map((each) => inSlices(formatTransaction(each)))));

const bytes = (text: string) => new TextEncoder().encode(text);

Deno.test("formatted transactions, joined to a message, are parsed back to the same", async () => {
  const { padded: _, ...whole } = transaction(1).keys[0]!;
  const list = [
    transaction(2),
    transaction(3, { blocks: 16, saes: 4, kmes: 2 }),
    { ...transaction(1), keys: [whole] },
  ];
  assert.deepEqual(await readTransactions(bytes(await message(...list))), {
    sender: longId(1),
    transactions: list,
  });
  const request = {
    transaction: id(7),
    recipients: list[1]!.recipients,
    blocks: [id(1), id(2)],
    reuse: false,
  };
  assert.deepEqual(await readTakeBack(bytes(await inSlices(formatTakeBack('"\\\n', request)))), {
    sender: '"\\\n',
    request,
  });
  assert.deepEqual(await readHello(bytes(formatHello("1"))), { sender: "1" });
});

Deno.test("answers are parsed, and anything else is rejected", async () => {
  const list: ReceptionAnswer[] = [
    { kind: "activated" },
    { kind: "refused", blocks: [id(1), id(2)], absent: [id(2)] },
    { kind: "rejected", reason: 'a "reason"' },
    { kind: "unknown", reason: "" },
  ];
  assert.deepEqual(await readReceptionAnswers(await inSlices(formatReceptionAnswers(list))), list);
  const wrong = [
    "",
    "{}",
    '{"answers":{}}',
    '{"answers":[{"kind":"other"}]}',
    '{"answers":[{"kind":"refused","blocks":[]}]}',
    '{"answers":[{"kind":"refused","blocks":["x"],"absent":[]}]}',
    '{"answers":[{"kind":"rejected"}]}',
  ];
  for (const text of wrong) assert.equal(await readReceptionAnswers(text), undefined, text);

  const answers: TakeBackAnswer[] = [
    { kind: "unknown" },
    { kind: "read" },
    { kind: "takenBack", free: [] },
    { kind: "takenBack", free: [id(1), id(2)] },
    { kind: "unresolved", reason: "later" },
  ];
  for (const answer of answers) {
    assert.deepEqual(await readTakeBackAnswer(await inSlices(formatTakeBackAnswer(answer))), answer);
  }
  for (
    const text of ["", "[]", "{}", '{"kind":"takenBack"}', '{"kind":"unresolved"}', '{"kind":"activated"}']
  ) {
    assert.equal(await readTakeBackAnswer(text), undefined, text);
  }
});

Deno.test("any JSON of the same content is read, and nothing else", async () => {
  const key = {
    key_ID: "ABABABAB-abab-abab-abab-abab00000001",
    size: 8,
    blocks: ["abababab-abab-abab-abab-abab00000002"],
  };
  const transaction = {
    transaction_ID: "abababab-abab-abab-abab-abab00000003",
    origin_SAE_ID: "1",
    recipients: [{ KME_ID: "1", SAE_IDs: ["2"] }],
    keys: [key],
  };
  const read = (value: unknown) =>
    readTransactions(bytes(typeof value === "string" ? value : JSON.stringify(value)));
  const message = { sender_KME_ID: "2", transactions: [transaction] };
  const expected = await read(message);
  assert.deepEqual(expected?.transactions[0]?.keys[0]?.id, id(1));
  const { keys, ...rest } = transaction;
  const same = [
    JSON.stringify(message, null, "\r\n\t "),
    JSON.stringify({
      transactions: [{ keys, ...rest }],
      more: [{ a: '}]\\"', b: null }],
      sender_KME_ID: "2",
    }),
    JSON.stringify(message).replace('"2"', '"\\u0032"'),
    ` ${JSON.stringify(message)}\n`,
  ];
  for (const text of same) assert.deepEqual(await read(text), expected, text);

  const withKey = (members: Record<string, unknown>) => ({
    ...message,
    transactions: [{ ...transaction, keys: [{ ...key, ...members }] }],
  });
  const text = JSON.stringify(message);
  const wrong: unknown[] = [
    "",
    "{",
    "null",
    "[]",
    "{}",
    { ...message, sender_KME_ID: 2 },
    { ...message, transactions: [] },
    { ...message, transactions: {} },
    { ...message, transactions: [rest] },
    { ...message, transactions: [{ ...transaction, recipients: [] }] },
    { ...message, transactions: [{ ...transaction, recipients: [{ KME_ID: "1", SAE_IDs: [] }] }] },
    withKey({ size: 7 }),
    withKey({ size: 8.5 }),
    withKey({ size: -8 }),
    withKey({ size: "8" }),
    withKey({ size: 1e12 }),
    withKey({ blocks: [] }),
    withKey({ blocks: [1] }),
    withKey({ blocks: [key.key_ID, key.key_ID] }),
    withKey({ key_ID: "abababababababababababab00000001" }),
    withKey({ key_ID: "gbababab-abab-abab-abab-abab00000001" }),
    withKey({ padded: "AA" }),
    withKey({ padded: "AA-_" }),
    withKey({ padded: null }),
    withKey({ padded: "A".repeat(16_384) }),
    `${text}x`,
    `${text}${text}`,
    text.slice(0, -1),
    text.replace('"size":8', '"size":08'),
    text.replace('"size":8', '"size":8,"size":8'),
    text.replace('"size":8', '"size":8,'),
    text.replace('"sender_KME_ID":"2"', '"sender_KME_ID":"2\n"'),
    text.replace('"sender_KME_ID":"2"', `"sender_KME_ID":"${"x".repeat(5000)}"`),
    JSON.stringify({ more: "x".repeat(100_000), ...message }),
    text.replace("{", '{"more":[1,'),
  ];
  for (const value of wrong) assert.equal(await read(value), undefined, JSON.stringify(value).slice(0, 300));
  assert.equal(await readTransactions(Uint8Array.from([...bytes(text), 0xff])), undefined);
  const notUtf8 = bytes(text.replace('"sender_KME_ID":"2"', '"sender_KME_ID":"X"'));
  notUtf8[notUtf8.indexOf(0x58)] = 0xff;
  assert.equal(await readTransactions(notUtf8), undefined);
});

Deno.test("a long message that is wrong is refused where it becomes wrong", async () => {
  const start =
    '{"sender_KME_ID":"2","request":{"transaction_ID":"abababab-abab-abab-abab-abab00000003","reuse":true,' +
    '"recipients":[{"KME_ID":"1","SAE_IDs":["2"]}],"blocks":[';
  // Bytes after the mistake are not looked at: they would be a mistake of their own, and there is no time for them.
  assert.equal(await readTakeBack(bytes(`${start}1${",1".repeat(7_000_000)}]}}`)), undefined);
  const most = MAX_BLOCKS;
  const blocks = JSON.stringify(Array(most).fill("abababab-abab-abab-abab-abab00000001")).slice(1);
  assert.equal((await readTakeBack(bytes(`${start}${blocks}}}`)))?.request.blocks.length, most);
  assert.equal(await readTakeBack(bytes(`${start}1,${blocks}}}`)), undefined);
});

Deno.test("the largest request that can be configured fits into a message, and its answers fit too", async () => {
  const each = Math.floor(MAX_BLOCKS / MAX_KEYS);
  const largest = transaction(MAX_KEYS, { blocks: each, size: 256 * each, saes: MAX_SAES });
  const text = await message(largest);
  assert.ok(bytes(text).length <= MAX_MESSAGE_BYTES);
  assert.equal((await readTransactions(bytes(text)))?.transactions[0]?.keys.length, MAX_KEYS);

  const blocks = largest.keys.flatMap((key) => key.blocks);
  const answers: ReceptionAnswer[] = [{ kind: "refused", blocks, absent: blocks }];
  const refusal = await inSlices(formatReceptionAnswers(answers));
  assert.ok(refusal.length <= MAX_ANSWER_BYTES);
  const [refused] = (await readReceptionAnswers(refusal))!;
  assert.ok(refused?.kind === "refused" && refused.blocks.length === blocks.length);
  const { recipients } = largest;
  const back = await inSlices(
    formatTakeBack(longId(1), { transaction: id(0), recipients, blocks, reuse: true }),
  );
  assert.ok(bytes(back).length <= MAX_MESSAGE_BYTES);
  assert.equal((await readTakeBack(bytes(back)))?.request.blocks.length, blocks.length);
});

Deno.test("the blocks of one message are limited, in however many transactions they are", async () => {
  const half = () => transaction(MAX_BLOCKS / 32, { blocks: 16 });
  assert.ok(await readTransactions(bytes(await message(half(), half()))) !== undefined);
  assert.ok(await readTransactions(bytes(await message(half(), half(), transaction(1)))) === undefined);
});

Deno.test("more than any KME can be configured to ask for is not read", async () => {
  // Not compared as values: these are too large to be shown when that fails.
  const isRead = async (list: Transaction) =>
    await readTransactions(bytes(await message(list))) !== undefined;
  assert.equal(await isRead(transaction(MAX_KEYS + 1)), false, "too many keys");
  assert.equal(await isRead(transaction(MAX_BLOCKS / 16 + 1, { blocks: 16 })), false, "too many blocks");
  assert.equal(await isRead(transaction(MAX_BLOCKS / 16, { blocks: 16 })), true, "as many blocks as can be");
  assert.equal(await isRead(transaction(0)), false, "no keys");
  assert.equal(await isRead(transaction(1, { blocks: 17 })), false, "too many blocks for the size");
  assert.equal(await isRead(transaction(1, { saes: MAX_SAES + 1, kmes: 1 })), false, "too many SAEs");
  assert.equal(await isRead(transaction(1, { saes: MAX_SAES + 1 })), false, "too many KMEs");
  assert.equal(await isRead(transaction(1, { saes: MAX_SAES, kmes: 1 })), true, "as many as can be");

  const isTakenBack = async (blocks: number, saes: number) => {
    const { recipients } = transaction(1, { saes });
    const ids = Array.from({ length: blocks }, (_, i) => id(i));
    const text = await inSlices(
      formatTakeBack("1", { transaction: id(0), recipients, blocks: ids, reuse: true }),
    );
    return await readTakeBack(bytes(text)) !== undefined;
  };
  assert.equal(await isTakenBack(MAX_BLOCKS + 1, 1), false, "too many blocks");
  assert.equal(await isTakenBack(1, MAX_SAES + 1), false, "too many SAEs");
});
