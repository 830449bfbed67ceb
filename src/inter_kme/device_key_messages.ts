/** Which keys of a pair of QKD devices one end of a link has, and what the other end has of them, as JSON. */
import { Buffer } from "node:buffer";
import { z } from "zod";
import {
  type DeviceKeysAnswer,
  type DeviceKeysQuestion,
  MAX_DEVICE_BLOCKS,
  MAX_DEVICE_KEY_ID,
  MAX_DEVICE_KEYS,
} from "../domain/device_keys.ts";
import type { KmeId } from "../domain/ids.ts";
import { BlockPresence } from "../domain/stock_questions.ts";
import { formatKeyIdList, keyIdList } from "./key_id_list.ts";
import { listOf } from "./list_of.ts";
import { parseMessage } from "./wire.ts";

/** Characters of a reason. */
const MAX_REASON = 1000;

/** Bytes of a question: {@linkcode MAX_DEVICE_KEYS} keys with the longest ids, and {@linkcode MAX_DEVICE_BLOCKS} blocks. */
export const MAX_DEVICE_QUESTION_BYTES = 512 * 1024;

const blocks = keyIdList(z.base64().min(1));

const questionSchema = z.object({
  sender_KME_ID: z.string().max(291),
  keys: listOf(z.object({ key_ID: z.string().min(1).max(MAX_DEVICE_KEY_ID), blocks }), {
    min: 1,
    max: MAX_DEVICE_KEYS,
  }),
});

const answerSchema = z.object({
  presence: z.base64().transform((text) => Uint8Array.from(Buffer.from(text, "base64")))
    .refine((presence) => presence.every((byte) => byte <= BlockPresence.gone)),
  reason: z.string().max(MAX_REASON).optional(),
});

export function formatDeviceKeysQuestion(sender: KmeId, { keys }: DeviceKeysQuestion): string {
  return JSON.stringify({
    sender_KME_ID: sender,
    keys: keys.map(({ id, blocks }) => ({ key_ID: id, blocks: formatKeyIdList(blocks) })),
  });
}

/** @returns `undefined` when it is not such a message, or names a block or key twice. */
export function readDeviceKeysQuestion(
  bytes: Uint8Array,
): { readonly sender: KmeId; readonly question: DeviceKeysQuestion } | undefined {
  const message = parseMessage(questionSchema, new TextDecoder().decode(bytes));
  if (message === undefined) return undefined;
  const keys = message.keys.map(({ key_ID, blocks }) => ({ id: key_ID, blocks }));
  const ids = keys.flatMap(({ blocks }) => blocks.map((id) => id.toHex()));
  const isDistinct = new Set(ids).size === ids.length &&
    new Set(keys.map(({ id }) => id)).size === keys.length;
  if (ids.length > MAX_DEVICE_BLOCKS || !isDistinct) return undefined;
  return { sender: message.sender_KME_ID, question: { keys } };
}

export function formatDeviceKeysAnswer({ presence, reason }: DeviceKeysAnswer): string {
  return JSON.stringify({
    presence: Buffer.from(presence).toString("base64"),
    ...reason === undefined ? {} : { reason: reason.slice(0, MAX_REASON) },
  });
}

/** @returns `undefined` when it is not such an answer. */
export function readDeviceKeysAnswer(text: string): DeviceKeysAnswer | undefined {
  return parseMessage(answerSchema, text);
}
