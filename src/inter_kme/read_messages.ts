/** Reads the messages of other KMEs and their answers, see `wire.ts`. Limits are checked while reading. */
import { Buffer } from "node:buffer";
import type { ReceptionAnswer } from "../delivery/reception.ts";
import type { KeyIdBytes } from "../domain/block.ts";
import { BLOCK_BITS } from "../domain/block.ts";
import { type KmeId, MAX_ID_LENGTH } from "../domain/ids.ts";
import { KeySize } from "../domain/key.ts";
import type {
  Recipients,
  TakeBackAnswer,
  TakeBackRequest,
  Transaction,
  TransactionKey,
} from "../domain/transaction.ts";
import { JsonReader, UnreadableMessage } from "./json_reader.ts";
import { inSlices, type Steps } from "../domain/slices.ts";
import { MAX_BLOCKS, MAX_KEYS, MAX_SAES, MAX_TRANSACTIONS } from "./wire.ts";

/** Bytes of an encoded id, of which each character may be an escape of six bytes. */
const MAX_ID_BYTES = 6 * MAX_ID_LENGTH;

/** Bytes of an encoded reason. */
const MAX_REASON_BYTES = 16 * 1024;

/** Every message names its sender; the client certificate must belong to it. */
export interface HelloMessage {
  readonly sender: KmeId;
}

export interface TransactionsMessage {
  readonly sender: KmeId;
  readonly transactions: readonly Transaction[];
}

export interface TakeBackMessage {
  readonly sender: KmeId;
  readonly request: TakeBackRequest;
}

/** @returns `undefined` when it is not such a message. The same holds for the other functions. */
export function readHello(bytes: Uint8Array): Promise<HelloMessage | undefined> {
  return read(bytes, function* (reader) {
    const sender = yield* messageOf(reader, () => false);
    return { sender };
  });
}

export function readTransactions(bytes: Uint8Array): Promise<TransactionsMessage | undefined> {
  return read(bytes, function* (reader) {
    const transactions: Transaction[] = [];
    const budget = { blocks: MAX_BLOCKS };
    const sender = yield* messageOf(reader, (name) =>
      name === "transactions" &&
      reader.array(1, MAX_TRANSACTIONS, function* () {
        transactions.push(yield* transaction(reader, budget));
      }));
    if (transactions.length === 0) throw missing("transactions");
    return { sender, transactions };
  });
}

export function readTakeBack(bytes: Uint8Array): Promise<TakeBackMessage | undefined> {
  return read(bytes, function* (reader) {
    let request: TakeBackRequest | undefined;
    const sender = yield* messageOf(reader, (name) => {
      if (name !== "request") return false;
      return (function* () {
        request = yield* takeBack(reader);
      })();
    });
    return { sender, request: required(request, "request") };
  });
}

/** Answers to the transactions of one message, in their order. */
export function readReceptionAnswers(text: string): Promise<ReceptionAnswer[] | undefined> {
  return read(Buffer.from(text), function* (reader) {
    const answers: ReceptionAnswer[] = [];
    let isThere = false;
    yield* reader.object((name) => {
      if (name !== "answers") return false;
      isThere = true;
      return reader.array(0, MAX_TRANSACTIONS, function* () {
        const answer = yield* answerOf(reader);
        answers.push(receptionAnswer(answer));
      });
    });
    if (!isThere) throw missing("answers");
    return answers;
  });
}

export function readTakeBackAnswer(text: string): Promise<TakeBackAnswer | undefined> {
  return read(Buffer.from(text), function* (reader) {
    return takeBackAnswer(yield* answerOf(reader));
  });
}

async function read<T>(
  bytes: Uint8Array,
  steps: (reader: JsonReader) => Steps<T>,
): Promise<T | undefined> {
  const reader = new JsonReader(bytes);
  try {
    const message = await inSlices(steps(reader));
    reader.end();
    return message;
  } catch (error) {
    if (error instanceof UnreadableMessage) return undefined;
    throw error;
  }
}

/** A message; returns its sender. */
function* messageOf(reader: JsonReader, member: (name: string) => Steps | void | false): Steps<KmeId> {
  let sender: KmeId | undefined;
  yield* reader.object((name) => {
    if (name !== "sender_KME_ID") return member(name);
    sender = id(reader);
  });
  return required(sender, "sender_KME_ID");
}

/** @param budget the blocks that may still come in the message. */
function* transaction(reader: JsonReader, budget: { blocks: number }): Steps<Transaction> {
  let transactionId: KeyIdBytes | undefined;
  let origin: string | undefined;
  let recipients: Recipients[] | undefined;
  const keys: TransactionKey[] = [];
  yield* reader.object((name) => {
    switch (name) {
      case "transaction_ID":
        transactionId = reader.uuid();
        return;
      case "origin_SAE_ID":
        origin = id(reader);
        return;
      case "recipients":
        return (function* () {
          recipients = yield* recipientsOf(reader);
        })();
      case "keys":
        return reader.array(1, MAX_KEYS, function* () {
          const next = yield* key(reader);
          budget.blocks -= next.blocks.length;
          if (budget.blocks < 0) throw new UnreadableMessage("too many blocks");
          keys.push(next);
        });
      default:
        return false;
    }
  });
  if (keys.length === 0) throw missing("keys");
  return {
    id: required(transactionId, "transaction_ID"),
    origin: required(origin, "origin_SAE_ID"),
    recipients: required(recipients, "recipients"),
    keys,
  };
}

function* key(reader: JsonReader): Steps<TransactionKey> {
  let keyId: KeyIdBytes | undefined;
  let size: number | undefined;
  let padded: Uint8Array | undefined;
  const blocks: KeyIdBytes[] = [];
  yield* reader.object((name) => {
    switch (name) {
      case "key_ID":
        keyId = reader.uuid();
        return;
      case "size":
        size = reader.integer();
        return;
      case "blocks":
        return reader.array(1, KeySize.max / BLOCK_BITS, () => void blocks.push(reader.uuid()));
      case "padded":
        padded = reader.base64(Math.ceil(KeySize.max / 24) * 4);
        return;
      default:
        return false;
    }
  });
  if (blocks.length > Math.ceil(required(size, "size") / BLOCK_BITS)) {
    throw new UnreadableMessage("too many blocks");
  }
  if (size! < 8 || blocks.length === 0) throw new UnreadableMessage("no size or no blocks");
  return { id: required(keyId, "key_ID"), size: size!, blocks, ...padded === undefined ? {} : { padded } };
}

function* recipientsOf(reader: JsonReader): Steps<Recipients[]> {
  const recipients: Recipients[] = [];
  let count = 0;
  yield* reader.array(1, MAX_SAES, function* () {
    let kme: KmeId | undefined;
    const saes: string[] = [];
    yield* reader.object((name) => {
      if (name === "KME_ID") {
        kme = id(reader);
        return;
      }
      return name === "SAE_IDs" && reader.array(1, MAX_SAES - count, () => void saes.push(id(reader)));
    });
    if (saes.length === 0) throw missing("SAE_IDs");
    count += saes.length;
    recipients.push({ kme: required(kme, "KME_ID"), saes });
  });
  return recipients;
}

function* takeBack(reader: JsonReader): Steps<TakeBackRequest> {
  let transactionId: KeyIdBytes | undefined;
  let recipients: Recipients[] | undefined;
  let blocks: KeyIdBytes[] | undefined;
  let reuse: boolean | undefined;
  yield* reader.object((name) => {
    switch (name) {
      case "transaction_ID":
        transactionId = reader.uuid();
        return;
      case "recipients":
        return (function* () {
          recipients = yield* recipientsOf(reader);
        })();
      case "blocks": {
        const list: KeyIdBytes[] = blocks = [];
        return reader.array(0, MAX_BLOCKS, () => void list.push(reader.uuid()));
      }
      case "reuse":
        reuse = reader.boolean();
        return;
      default:
        return false;
    }
  });
  return {
    transaction: required(transactionId, "transaction_ID"),
    recipients: required(recipients, "recipients"),
    blocks: required(blocks, "blocks"),
    reuse: required(reuse, "reuse"),
  };
}

/** Members that an answer of any kind may have. */
interface AnswerMembers {
  kind?: string;
  reason?: string;
  limit?: string;
  blocks?: KeyIdBytes[];
  absent?: KeyIdBytes[];
  free?: KeyIdBytes[];
}

function* answerOf(reader: JsonReader): Steps<AnswerMembers> {
  const members: AnswerMembers = {};
  const ids = (name: "blocks" | "absent" | "free") => {
    const list: KeyIdBytes[] = members[name] = [];
    return reader.array(0, MAX_BLOCKS, () => void list.push(reader.uuid()));
  };
  yield* reader.object((name) => {
    switch (name) {
      case "kind":
        members.kind = reader.string(MAX_ID_BYTES);
        return;
      case "reason":
        members.reason = reader.string(MAX_REASON_BYTES);
        return;
      case "limit":
        members.limit = reader.string(MAX_ID_BYTES);
        return;
      case "blocks":
      case "absent":
      case "free":
        return ids(name);
      default:
        return false;
    }
  });
  return members;
}

function receptionAnswer({ kind, reason, limit, blocks, absent }: AnswerMembers): ReceptionAnswer {
  switch (kind) {
    case "activated":
      return { kind };
    case "refused":
      return { kind, blocks: required(blocks, "blocks"), absent: required(absent, "absent") };
    case "rejected":
      // A limit that only a newer version knows is like any other reason.
      return { kind, reason: required(reason, "reason"), ...limit === "max_waiting_keys" ? { limit } : {} };
    case "unknown":
      return { kind, reason: required(reason, "reason") };
    default:
      throw new UnreadableMessage("unknown kind of answer");
  }
}

function takeBackAnswer({ kind, reason, free }: AnswerMembers): TakeBackAnswer {
  switch (kind) {
    case "unknown":
    case "read":
      return { kind };
    case "takenBack":
      return { kind, free: required(free, "free") };
    case "unresolved":
      return { kind, reason: required(reason, "reason") };
    default:
      throw new UnreadableMessage("unknown kind of answer");
  }
}

function id(reader: JsonReader): string {
  return reader.string(MAX_ID_BYTES);
}

function required<T>(value: T | undefined, name: string): T {
  if (value === undefined) throw missing(name);
  return value;
}

function missing(name: string): UnreadableMessage {
  return new UnreadableMessage(`${name} is missing`);
}
