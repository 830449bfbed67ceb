/** Questions about the stock of a link, and their answers, as JSON. */
import { Buffer } from "node:buffer";
import { z } from "zod";
import type { KeyIdBytes } from "../domain/block.ts";
import type { KmeId } from "../domain/ids.ts";
import {
  FILE_BUCKETS,
  MAX_ASKED_BLOCKS,
  MAX_LISTED_FILES,
  type StockAnswer,
  type StockQuestion,
} from "../domain/stock_questions.ts";
import { parseMessage } from "./wire.ts";

const ID_BYTES = 16;

/** Bytes of a question: the longest asks for {@linkcode MAX_ASKED_BLOCKS} blocks. */
export const MAX_QUESTION_BYTES = 128 * 1024;

const hash = z.int().nonnegative().max(2 ** 48);
const count = z.int().nonnegative();
const name = z.string().max(1024);
const database = z.string().regex(/^[0-9a-f]{32}$/);
const buckets = z.array(z.object({ files: count, hash })).length(FILE_BUCKETS);

const ids = z.base64().max(Math.ceil(MAX_ASKED_BLOCKS * ID_BYTES / 3) * 4).transform((text, context) => {
  const bytes = Uint8Array.from(Buffer.from(text, "base64"));
  if (bytes.length % ID_BYTES !== 0) {
    context.issues.push({ code: "custom", message: "no whole key_IDs", input: text });
    return z.NEVER;
  }
  return Array.from(
    { length: bytes.length / ID_BYTES },
    (_, i): KeyIdBytes => bytes.slice(i * ID_BYTES, (i + 1) * ID_BYTES),
  );
});

const questionSchema = z.object({
  sender_KME_ID: z.string().max(291),
  question: z.discriminatedUnion("kind", [
    z.object({ kind: z.literal("summary"), database, free: count, buckets }),
    z.object({ kind: z.literal("files"), buckets: z.array(z.int().min(0).max(255)).max(FILE_BUCKETS) }),
    z.object({ kind: z.literal("held") }),
    z.object({ kind: z.literal("blocks"), ids }),
  ]),
});

const answerSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("summary"), database, free: count, buckets }),
  z.object({
    kind: z.literal("files"),
    files: z.array(z.object({ tag: hash, name, blocks: count })).max(MAX_LISTED_FILES),
  }),
  z.object({
    kind: z.literal("held"),
    files: z.array(z.object({ tag: hash, blocks: count, hash })).max(MAX_LISTED_FILES).optional(),
  }),
  z.object({
    kind: z.literal("blocks"),
    presence: z.base64().transform((text) => Uint8Array.from(Buffer.from(text, "base64"))),
  }),
]);

export function formatStockQuestion(sender: KmeId, question: StockQuestion): string {
  const wire = question.kind === "blocks"
    ? { kind: question.kind, ids: Buffer.concat(question.ids).toString("base64") }
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
