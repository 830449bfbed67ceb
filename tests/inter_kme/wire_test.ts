import assert from "node:assert/strict";
import type { Transaction } from "../../src/domain/transaction.ts";
import type { ReceptionAnswer } from "../../src/delivery/reception.ts";
import { MAX_ANSWER_BYTES } from "../../src/inter_kme/channel.ts";
import {
  formatReceptionAnswers,
  formatTakeBack,
  formatTransaction,
  formatTransactions,
  MAX_KEYS,
  MAX_MESSAGE_BYTES,
  MAX_SAES,
  parseMessage,
  receptionAnswersSchema,
  takeBackSchema,
  transactionsSchema,
} from "../../src/inter_kme/wire.ts";

function id(number: number): Uint8Array {
  const bytes = new Uint8Array(16).fill(0xab);
  new DataView(bytes.buffer).setUint32(12, number);
  return bytes;
}

/** The longest id that can be configured: three bytes a character. */
const longId = (number: number) => `${number}`.padEnd(255, "鍵");

function transaction(
  keys: number,
  options: { blocks?: number; saes?: number; kmes?: number } = {},
): Transaction {
  const { blocks = 1, saes = 1, kmes = saes } = options;
  return {
    id: id(0),
    origin: longId(0),
    recipients: Array.from({ length: kmes }, (_, i) => ({
      kme: longId(i),
      saes: Array.from({ length: saes / kmes }, (_, j) => longId(i * 10 + j)),
    })),
    keys: Array.from({ length: keys }, (_, i) => ({
      id: id(i),
      size: 4096,
      blocks: Array.from({ length: blocks }, (_, j) => id(i * blocks + j)),
      padded: new Uint8Array(512).fill(i),
    })),
  };
}

const message = (...list: Transaction[]) => formatTransactions(longId(1), list.map(formatTransaction));

Deno.test("what is formatted is read back: texts of transactions joined to a message", () => {
  const list = [transaction(2), transaction(3, { blocks: 16, saes: 4, kmes: 2 })];
  assert.deepEqual(parseMessage(transactionsSchema, message(...list)), {
    sender_KME_ID: longId(1),
    transactions: list,
  });
});

Deno.test("the largest request that can be configured fits into a message, and its answers fit too", () => {
  const largest = transaction(MAX_KEYS, { blocks: 16, saes: MAX_SAES });
  const text = message(largest);
  assert.ok(new TextEncoder().encode(text).length <= MAX_MESSAGE_BYTES);
  assert.equal(parseMessage(transactionsSchema, text)?.transactions[0]?.keys.length, MAX_KEYS);

  const blocks = largest.keys.flatMap((key) => key.blocks);
  const answers: ReceptionAnswer[] = [{ kind: "refused", blocks, absent: blocks }];
  const refusal = formatReceptionAnswers(answers);
  assert.ok(refusal.length <= MAX_ANSWER_BYTES);
  const [refused] = parseMessage(receptionAnswersSchema, refusal)!.answers;
  assert.ok(refused?.kind === "refused" && refused.blocks.length === blocks.length);
  const { recipients } = largest;
  const back = formatTakeBack(longId(1), { transaction: id(0), recipients, blocks, reuse: true });
  assert.ok(new TextEncoder().encode(back).length <= MAX_MESSAGE_BYTES);
  assert.equal(parseMessage(takeBackSchema, back)?.request.blocks.length, 16 * MAX_KEYS);
});

Deno.test("more than any KME can be configured to ask for is not read", () => {
  // Not compared as values: these are too large to be shown when that fails.
  const isRead = (list: Transaction) => parseMessage(transactionsSchema, message(list)) !== undefined;
  assert.equal(isRead(transaction(MAX_KEYS + 1)), false, "too many keys");
  assert.equal(isRead(transaction(0)), false, "no keys");
  assert.equal(isRead(transaction(1, { blocks: 17 })), false, "too many blocks for the size");
  assert.equal(isRead(transaction(1, { saes: MAX_SAES + 1, kmes: 1 })), false, "too many SAEs");
  assert.equal(isRead(transaction(1, { saes: MAX_SAES + 1 })), false, "too many KMEs");
  assert.equal(isRead(transaction(1, { saes: MAX_SAES, kmes: 1 })), true, "as many as can be");

  const isTakenBack = (blocks: number, saes: number) => {
    const { recipients } = transaction(1, { saes });
    const ids = Array.from({ length: blocks }, (_, i) => id(i));
    const text = formatTakeBack("1", { transaction: id(0), recipients, blocks: ids, reuse: true });
    return parseMessage(takeBackSchema, text) !== undefined;
  };
  assert.equal(isTakenBack(16 * MAX_KEYS + 1, 1), false, "too many blocks");
  assert.equal(isTakenBack(1, MAX_SAES + 1), false, "too many SAEs");
});
