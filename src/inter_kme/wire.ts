/**
 * This project's own inter-KME messages: JSON over POST, on paths that a KME which does not know them answers with 404.
 * What is formatted here is read here (answers) or in `read_messages.ts` (messages).
 */
import { Buffer } from "node:buffer";
import { z } from "zod";
import type { TakeBackAnswer, TakeBackRequest, Transaction } from "../domain/transaction.ts";
import type { ReceptionAnswer } from "../delivery/reception.ts";
import { BLOCK_BITS, formatKeyId, type KeyIdBytes, parseKeyId } from "../domain/block.ts";
import type { KmeId, SaeId } from "../domain/ids.ts";

/** What all of these paths begin with. */
export const PEER_PATHS = "/kme/v1/";

/** Paths of the messages. */
export const PeerPath = {
  hello: "/kme/v1/hello",
  transactions: "/kme/v1/transactions",
  takeBack: "/kme/v1/take-back",
} as const;

/** Version of these messages. */
export const PROTOCOL = 1;

/** Transactions in one message. */
export const MAX_TRANSACTIONS = 64;

/** Keys in one transaction: the most that a KME can be configured to give at once (`max_key_per_request`). */
export const MAX_KEYS = 10_000;

/** SAEs of one transaction: the slave, and the most additional ones that can be configured (`max_SAE_ID_count`). */
export const MAX_SAES = 1 + 1000;

/** Bytes at which a message is full; only a single transaction makes a longer one. */
export const FULL_MESSAGE_BYTES = 4 * 1024 * 1024;

/**
 * Bytes of a message; longer ones are neither sent nor taken. {@linkcode MAX_KEYS} padded keys of 4096 bits take 14 MB,
 * {@linkcode MAX_SAES} SAEs with the longest ids, each at a KME of its own, another 1.6 MB.
 */
export const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

/** Bits of one key. */
export const MAX_KEY_BITS = 4096;

/** Blocks of one transaction: those of {@linkcode MAX_KEYS} keys of 4096 bits. */
export const MAX_BLOCKS = MAX_KEYS * MAX_KEY_BITS / BLOCK_BITS;

const keyId = z.string().transform((text, context): KeyIdBytes => {
  const id = parseKeyId(text);
  if (id !== undefined) return id;
  context.issues.push({ code: "custom", message: "is not a UUID", input: text });
  return z.NEVER;
});
export const helloAnswerSchema = z.object({
  protocol: z.int().min(1),
  KME_ID: z.string(),
  SAE_IDs: z.array(z.string()),
  /** SAEs that it takes to be of the KME that asks. */
  sender_SAE_IDs: z.array(z.string()).optional(),
});

/** Why a message was not acted upon. */
export const problemSchema = z.object({ message: z.string() });

export const receptionAnswersSchema = z.object({
  answers: z.array(z.discriminatedUnion("kind", [
    z.object({ kind: z.literal("activated") }),
    z.object({ kind: z.literal("refused"), blocks: z.array(keyId), absent: z.array(keyId) }),
    z.object({ kind: z.literal("rejected"), reason: z.string() }),
    z.object({ kind: z.literal("unknown"), reason: z.string() }),
  ])),
});

export const takeBackAnswerSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("unknown") }),
  z.object({ kind: z.literal("takenBack"), free: z.array(keyId) }),
  z.object({ kind: z.literal("read") }),
  z.object({ kind: z.literal("unresolved"), reason: z.string() }),
]);

export function formatHello(sender: KmeId): string {
  return JSON.stringify({ sender_KME_ID: sender });
}

/**
 * @param saes of this KME.
 * @param ofSender SAEs that this KME takes to be of the one that asks.
 */
export function formatHelloAnswer(kme: KmeId, saes: readonly SaeId[], ofSender: readonly SaeId[]): string {
  return JSON.stringify({ protocol: PROTOCOL, KME_ID: kme, SAE_IDs: saes, sender_SAE_IDs: ofSender });
}

/** One transaction of a message, see {@linkcode formatTransactions}. */
export function formatTransaction({ id, origin, recipients, keys }: Transaction): string {
  return JSON.stringify({
    transaction_ID: formatKeyId(id),
    origin_SAE_ID: origin,
    recipients: recipients.map(({ kme, saes }) => ({ KME_ID: kme, SAE_IDs: saes })),
    keys: keys.map(({ id, size, blocks, padded }) => ({
      key_ID: formatKeyId(id),
      size,
      blocks: blocks.map(formatKeyId),
      padded: padded && Buffer.from(padded).toString("base64"),
    })),
  });
}

/** @param transactions each as {@linkcode formatTransaction} wrote it. */
export function formatTransactions(sender: KmeId, transactions: readonly string[]): string {
  return `{"sender_KME_ID":${JSON.stringify(sender)},"transactions":[${transactions.join(",")}]}`;
}

export function formatTakeBack(
  sender: KmeId,
  { transaction, recipients, blocks, reuse }: TakeBackRequest,
): string {
  return JSON.stringify({
    sender_KME_ID: sender,
    request: {
      transaction_ID: formatKeyId(transaction),
      recipients: recipients.map(({ kme, saes }) => ({ KME_ID: kme, SAE_IDs: saes })),
      blocks: blocks.map(formatKeyId),
      reuse,
    },
  });
}

export function formatReceptionAnswers(answers: readonly ReceptionAnswer[]): string {
  return JSON.stringify({
    answers: answers.map((answer) =>
      answer.kind === "refused"
        ? {
          kind: answer.kind,
          blocks: answer.blocks.map(formatKeyId),
          absent: answer.absent.map(formatKeyId),
        }
        : answer
    ),
  });
}

export function formatTakeBackAnswer(answer: TakeBackAnswer): string {
  return JSON.stringify(
    answer.kind === "takenBack" ? { kind: answer.kind, free: answer.free.map(formatKeyId) } : answer,
  );
}

/** The value of a message, or `undefined` when it is not what the schema says. */
export function parseMessage<T extends z.ZodType>(schema: T, text: string): z.output<T> | undefined {
  try {
    return schema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}
