/** Questions about the stock of a link, and their answers, as JSON. */
import { Buffer } from "node:buffer";
import { z } from "zod";
import type { KmeId } from "../domain/ids.ts";
import {
  FILE_BUCKETS,
  MAX_ASKED_BLOCKS,
  MAX_LISTED_FILES,
  type StockAnswer,
  type StockQuestion,
} from "../domain/stock_questions.ts";
import { formatKeyIdList, ID_BYTES, keyIdList } from "./key_id_list.ts";
import { listOf } from "./list_of.ts";
import { parseMessage } from "./wire.ts";

/** Bytes of a question: the longest asks for {@linkcode MAX_ASKED_BLOCKS} blocks. */
export const MAX_QUESTION_BYTES = 128 * 1024;

const hash = z.int().nonnegative().max(2 ** 48);
const count = z.int().nonnegative();
const name = z.string().max(1024);
const database = z.string().regex(/^[0-9a-f]{32}$/);
const buckets = listOf(z.object({ files: count, hash }), { min: FILE_BUCKETS, max: FILE_BUCKETS });

const ids = keyIdList(z.base64().max(Math.ceil(MAX_ASKED_BLOCKS * ID_BYTES / 3) * 4));

const questionSchema = z.object({
  sender_KME_ID: z.string().max(291),
  question: z.discriminatedUnion("kind", [
    z.object({ kind: z.literal("summary"), database, free: count, buckets }),
    z.object({ kind: z.literal("files"), buckets: listOf(z.int().min(0).max(255), { max: FILE_BUCKETS }) }),
    z.object({ kind: z.literal("held") }),
    z.object({ kind: z.literal("blocks"), ids }),
  ]),
});

const answerSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("summary"), database, free: count, buckets }),
  z.object({
    kind: z.literal("files"),
    files: listOf(z.object({ tag: hash, name, blocks: count }), { max: MAX_LISTED_FILES }),
  }),
  z.object({
    kind: z.literal("held"),
    files: listOf(z.object({ tag: hash, blocks: count, hash }), { max: MAX_LISTED_FILES }).optional(),
  }),
  z.object({
    kind: z.literal("blocks"),
    presence: z.base64().transform((text) => Uint8Array.from(Buffer.from(text, "base64"))),
  }),
]);

export function formatStockQuestion(sender: KmeId, question: StockQuestion): string {
  const wire = question.kind === "blocks"
    ? { kind: question.kind, ids: formatKeyIdList(question.ids) }
    : question;
  return JSON.stringify({ sender_KME_ID: sender, question: wire });
}

/** @returns `undefined` when it is not such a message. */
export function readStockQuestion(
  bytes: Uint8Array,
): { readonly sender: KmeId; readonly question: StockQuestion } | undefined {
  const message = parseMessage(questionSchema, new TextDecoder().decode(bytes));
  return message && { sender: message.sender_KME_ID, question: message.question };
}

export function formatStockAnswer(answer: StockAnswer): string {
  return JSON.stringify(
    answer.kind === "blocks"
      ? { kind: answer.kind, presence: Buffer.from(answer.presence).toString("base64") }
      : answer,
  );
}

/** @returns `undefined` when it is not such an answer. */
export function readStockAnswer(text: string): StockAnswer | undefined {
  return parseMessage(answerSchema, text);
}
