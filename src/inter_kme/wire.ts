/**
 * The inter-KME messages of this program: JSON over POST. A KME of another program answers their paths with 404.
 * `read_messages.ts` reads what is formatted here. Long messages are formatted in steps.
 */
import { Buffer } from "node:buffer";
import { z } from "zod";
import type { Recipients, TakeBackAnswer, TakeBackRequest, Transaction } from "../domain/transaction.ts";
import type { ReceptionAnswer } from "../delivery/reception.ts";
import { formatKeyId, type KeyIdBytes } from "../domain/block.ts";
import { chunks } from "../domain/chunks.ts";
import type { ToldDirection } from "../domain/device_direction.ts";
import type { KmeId, SaeId } from "../domain/ids.ts";
import { MAX_REQUEST_BLOCKS } from "../domain/key.ts";
import { listOf } from "./list_of.ts";
import type { Steps } from "../domain/slices.ts";

/** Prefix of these paths. */
export const PEER_PATHS = "/kme/v1/";

/** Paths of the messages. */
export const PeerPath = {
  hello: "/kme/v1/hello",
  transactions: "/kme/v1/transactions",
  takeBack: "/kme/v1/take-back",
  stock: "/kme/v1/stock",
  deviceKeys: "/kme/v1/device-keys",
} as const;

/** Version of these messages: 2 has questions about the stock, 3 keys of QKD devices. */
export const PROTOCOL = 3;

/** Transactions in one message. */
export const MAX_TRANSACTIONS = 64;

/** Keys in one transaction: the largest configurable `max_key_per_request`. */
export const MAX_KEYS = MAX_REQUEST_BLOCKS;

/** SAEs of one transaction: the slave, and the largest configurable `max_SAE_ID_count`. */
export const MAX_SAES = 1 + 1000;

/** Bytes at which a message is full. Only a message with a single transaction is longer. */
export const FULL_MESSAGE_BYTES = 1024 * 1024;

/**
 * Maximum bytes of a message, sent or received. {@linkcode MAX_KEYS} padded keys with their
 * {@linkcode MAX_BLOCKS} blocks take 0.1 MB, {@linkcode MAX_SAES} SAEs with the longest ids, each at a different KME, another
 * 1.8 MB.
 */
export const MAX_MESSAGE_BYTES = 3 * 1024 * 1024;

/** Blocks of one message, whether in one transaction or in several. */
export const MAX_BLOCKS = MAX_REQUEST_BLOCKS;

export const helloAnswerSchema = z.object({
  protocol: z.int().min(1),
  KME_ID: z.string(),
  SAE_IDs: listOf(z.string()),
  /** SAEs that its configuration assigns to the KME that asks. */
  sender_SAE_IDs: listOf(z.string()).optional(),
  /** Which end requests keys from its QKD device, as this KME has it; an older version does not tell. */
  device_direction: z.enum(["this", "other", "both", "none"]).optional().catch(undefined),
});

/** Why a message was refused. */
export const problemSchema = z.object({ message: z.string() });

/** Ids of blocks between two points at which formatting can be interrupted. */
const IDS_A_STEP = 64;

export function formatHello(sender: KmeId): string {
  return JSON.stringify({ sender_KME_ID: sender });
}

/**
 * @param saes of this KME.
 * @param ofSender SAEs that this KME's configuration assigns to the KME that asks.
 * @param direction of the link's QKD device.
 */
export function formatHelloAnswer(
  kme: KmeId,
  saes: readonly SaeId[],
  ofSender: readonly SaeId[],
  direction?: ToldDirection,
): string {
  return JSON.stringify({
    protocol: PROTOCOL,
    KME_ID: kme,
    SAE_IDs: saes,
    sender_SAE_IDs: ofSender,
    device_direction: direction,
  });
}

/** One transaction of a message, see {@linkcode formatTransactions}. */
export function* formatTransaction({ id, origin, recipients, keys }: Transaction): Steps<string> {
  const texts: string[] = [];
  for (const { id, size, blocks, padded } of keys) {
    const pad = padded === undefined ? "" : `,"padded":"${Buffer.from(padded).toString("base64")}"`;
    texts.push(`{"key_ID":"${formatKeyId(id)}","size":${size},"blocks":${yield* formatIds(blocks)}${pad}}`);
    yield;
  }
  return `{"transaction_ID":"${formatKeyId(id)}","origin_SAE_ID":${JSON.stringify(origin)},` +
    `"recipients":${formatRecipients(recipients)},"keys":[${texts.join(",")}]}`;
}

/** @param transactions each as {@linkcode formatTransaction} wrote it. */
export function formatTransactions(sender: KmeId, transactions: readonly string[]): string {
  return `{"sender_KME_ID":${JSON.stringify(sender)},"transactions":[${transactions.join(",")}]}`;
}

export function* formatTakeBack(
  sender: KmeId,
  { transaction, recipients, blocks, reuse }: TakeBackRequest,
): Steps<string> {
  return `{"sender_KME_ID":${JSON.stringify(sender)},"request":{"transaction_ID":"${
    formatKeyId(transaction)
  }",` +
    `"recipients":${formatRecipients(recipients)},"blocks":${yield* formatIds(blocks)},"reuse":${reuse}}}`;
}

export function* formatReceptionAnswers(answers: readonly ReceptionAnswer[]): Steps<string> {
  const texts: string[] = [];
  for (const answer of answers) {
    if (answer.kind !== "refused") texts.push(JSON.stringify(answer));
    else {
      const [blocks, absent] = [yield* formatIds(answer.blocks), yield* formatIds(answer.absent)];
      texts.push(`{"kind":"refused","blocks":${blocks},"absent":${absent}}`);
    }
  }
  return `{"answers":[${texts.join(",")}]}`;
}

export function* formatTakeBackAnswer(answer: TakeBackAnswer): Steps<string> {
  if (answer.kind !== "takenBack") return JSON.stringify(answer);
  return `{"kind":"takenBack","free":${yield* formatIds(answer.free)}}`;
}

function* formatIds(ids: readonly KeyIdBytes[]): Steps<string> {
  const texts: string[] = [];
  for (const part of chunks(ids, IDS_A_STEP)) {
    texts.push(part.map((id) => `"${formatKeyId(id)}"`).join(","));
    if (part.length === IDS_A_STEP) yield;
  }
  return `[${texts.join(",")}]`;
}

function formatRecipients(recipients: readonly Recipients[]): string {
  return JSON.stringify(recipients.map(({ kme, saes }) => ({ KME_ID: kme, SAE_IDs: saes })));
}

/** The value of a message, or `undefined` when it does not match the schema. */
export function parseMessage<T extends z.ZodType>(schema: T, text: string): z.output<T> | undefined {
  try {
    return schema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}
