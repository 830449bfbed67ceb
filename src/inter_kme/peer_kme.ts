/** A neighbour as delivery uses it: finds out which messages it understands, and sends those. */
import { Buffer } from "node:buffer";
import type { Peer, PeerAbility, PeerAnswer, PeerRequest } from "../delivery/peer.ts";
import type {
  TakeBackAnswer,
  TakeBackRequest,
  Transaction,
  TransactionAnswer,
} from "../domain/transaction.ts";
import { log } from "../log.ts";
import type { ToldDirection } from "../domain/device_direction.ts";
import type { KmeId } from "../domain/ids.ts";
import { activateKeys } from "./activate_keys.ts";
import type { PeerChannel, PostOutcome } from "./channel.ts";
import {
  formatHello,
  formatTakeBack,
  formatTransaction,
  formatTransactions,
  FULL_MESSAGE_BYTES,
  helloAnswerSchema,
  MAX_BLOCKS,
  MAX_MESSAGE_BYTES,
  MAX_TRANSACTIONS,
  parseMessage,
  PeerPath,
  problemSchema,
} from "./wire.ts";
import { readReceptionAnswers, readTakeBackAnswer } from "./read_messages.ts";
import type { DeviceKeysAnswer, DeviceKeysQuestion } from "../domain/device_keys.ts";
import { toOneLine } from "../domain/text.ts";
import { formatDeviceKeysQuestion, readDeviceKeysAnswer } from "./device_key_messages.ts";
import { inSlices } from "../domain/slices.ts";
import type { StockAnswer, StockQuestion } from "../domain/stock_questions.ts";
import { formatStockQuestion, readStockAnswer } from "./stock_messages.ts";

/** Messages with transactions under way at the same time; transactions that come meanwhile share the next message. */
const MESSAGES_SIDE_BY_SIDE = 2;

/** Milliseconds after which a peer that does not understand everything is asked again: its program may have been replaced. */
const OLDER_FOR_MS = 10 * 60 * 1000;

interface Waiting {
  /** The transaction on the wire. */
  readonly text: string;
  readonly bytes: number;
  readonly blocks: number;
  readonly resolve: (answer: TransactionAnswer) => void;
}

export class PeerKme implements Peer {
  readonly kme: KmeId;
  readonly #thisKme: KmeId;
  readonly #channel: PeerChannel;
  readonly #now: () => number;
  #ability?: PeerAbility;
  #askedAt = 0;
  #asking?: Promise<PeerAbility>;
  #waiting: Waiting[] = [];
  #underWay = 0;

  /** @param now milliseconds of a monotonic clock. */
  constructor(thisKme: KmeId, channel: PeerChannel, now = () => performance.now()) {
    this.#thisKme = thisKme;
    this.#channel = channel;
    this.#now = now;
    this.kme = channel.kmeId;
  }

  ability(): Promise<PeerAbility> {
    const known = this.#ability;
    if (known === undefined) return this.#askOnce();
    const isOlder = known.kind === "blocks" || known.kind === "transactions" && !known.sharesDeviceKeys;
    if (isOlder && this.#now() - this.#askedAt >= OLDER_FOR_MS) void this.#askOnce();
    return Promise.resolve(known);
  }

  activate(request: PeerRequest): Promise<PeerAnswer> {
    return activateKeys(this.#channel, request);
  }

  async send(transaction: Transaction): Promise<TransactionAnswer> {
    const text = await inSlices(formatTransaction(transaction));
    const bytes = Buffer.byteLength(text);
    if (bytes + this.#envelopeBytes() > MAX_MESSAGE_BYTES) {
      return { kind: "unreached", reason: `the message to KME ${this.kme} is too large` };
    }
    const blocks = transaction.keys.reduce((sum, key) => sum + key.blocks.length, 0);
    return await new Promise((resolve) => {
      this.#waiting.push({ text, bytes, blocks, resolve });
      this.#sendWaiting();
    });
  }

  async takeBack(request: TakeBackRequest): Promise<TakeBackAnswer> {
    const message = await inSlices(formatTakeBack(this.#thisKme, request));
    const outcome = await this.#channel.post(PeerPath.takeBack, message);
    if (outcome.kind !== "answer") return { kind: "unresolved", reason: outcome.reason };
    const answer = outcome.status === 200 ? await readTakeBackAnswer(outcome.body) : undefined;
    return answer ?? { kind: "unresolved", reason: `KME ${this.kme} answered with status ${outcome.status}` };
  }

  async askStock(question: StockQuestion): Promise<StockAnswer | undefined> {
    const outcome = await this.#channel.post(PeerPath.stock, formatStockQuestion(this.#thisKme, question));
    if (outcome.kind !== "answer" || outcome.status !== 200) {
      // Another version of the program may answer there now.
      if (outcome.kind === "answer" && outcome.status === 404) this.#ability = undefined;
      return undefined;
    }
    return readStockAnswer(outcome.body);
  }

  /**
   * Which end requests keys from its QKD device, as the other end has it configured now.
   *
   * @returns `undefined` when it does not answer, or does not tell.
   */
  async deviceDirection(): Promise<ToldDirection | undefined> {
    const ability = await this.#askOnce();
    return ability.kind === "transactions" ? ability.deviceDirection : undefined;
  }

  /** @returns why there is no answer, one line, where there is none. */
  async askDeviceKeys(question: DeviceKeysQuestion): Promise<DeviceKeysAnswer | string> {
    const message = formatDeviceKeysQuestion(this.#thisKme, question);
    const outcome = await this.#channel.post(PeerPath.deviceKeys, message);
    if (outcome.kind !== "answer") return outcome.reason;
    if (outcome.status === 200) {
      return readDeviceKeysAnswer(outcome.body) ?? `KME ${this.kme} answered with something else`;
    }
    if (outcome.status === 404) this.#ability = undefined;
    const problem = parseMessage(problemSchema, outcome.body)?.message;
    return `KME ${this.kme} answered with status ${outcome.status}${
      problem === undefined ? "" : `: ${toOneLine(problem).slice(0, 200)}`
    }`;
  }

  /** Callers at the same time share one message. */
  #askOnce(): Promise<PeerAbility> {
    return this.#asking ??= this.#ask().finally(() => this.#asking = undefined);
  }

  async #ask(): Promise<PeerAbility> {
    this.#askedAt = this.#now();
    const outcome = await this.#channel.post(PeerPath.hello, formatHello(this.#thisKme));
    if (outcome.kind !== "answer") return { kind: "unreached", reason: this.#noAnswer(outcome) };
    const hello = outcome.status === 200 ? parseMessage(helloAnswerSchema, outcome.body) : undefined;
    if (hello === undefined && !isOfAnotherProgram(outcome)) {
      return { kind: "unreached", reason: `KME ${this.kme} answered with status ${outcome.status}` };
    }
    const before = this.#ability;
    const ability: PeerAbility = hello === undefined ? { kind: "blocks" } : {
      kind: "transactions",
      comparesStock: hello.protocol >= 2,
      sharesDeviceKeys: hello.protocol >= 3,
      deviceDirection: hello.device_direction,
    };
    this.#ability = ability;
    if (ability.kind !== before?.kind) {
      log("inter_kme").info("KME {kme} understands {ability}", {
        kme: this.kme,
        ability: hello === undefined ? "whole blocks for one slave only" : "transactions",
      });
    }
    return ability;
  }

  #sendWaiting(): void {
    while (this.#underWay < MESSAGES_SIDE_BY_SIDE && this.#waiting.length > 0) {
      this.#underWay++;
      // In a microtask: transactions of the same turn of the event loop share a message.
      queueMicrotask(() => {
        this.#sendBatch(this.#waiting.splice(0, this.#nextBatch())).finally(() => {
          this.#underWay--;
          this.#sendWaiting();
        });
      });
    }
  }

  /** The number of waiting transactions that go into the next message: at least one, if any waits. */
  #nextBatch(): number {
    let bytes = this.#envelopeBytes();
    let blocks = 0;
    const full = this.#waiting.findIndex((waiting, i) => {
      bytes += waiting.bytes + 1;
      blocks += waiting.blocks;
      return i === MAX_TRANSACTIONS || i > 0 && (bytes > FULL_MESSAGE_BYTES || blocks > MAX_BLOCKS);
    });
    return full < 0 ? this.#waiting.length : full;
  }

  #envelopeBytes(): number {
    return Buffer.byteLength(formatTransactions(this.#thisKme, []));
  }

  async #sendBatch(batch: readonly Waiting[]): Promise<void> {
    if (batch.length === 0) return;
    const message = formatTransactions(this.#thisKme, batch.map(({ text }) => text));
    const outcome = await this.#channel.post(PeerPath.transactions, message);
    const answers = await this.#answers(outcome, batch.length);
    batch.forEach(({ resolve }, i) => resolve(Array.isArray(answers) ? answers[i]! : answers));
  }

  /** One answer for each transaction, or one for all. */
  async #answers(outcome: PostOutcome, count: number): Promise<TransactionAnswer[] | TransactionAnswer> {
    if (outcome.kind !== "answer") return { kind: outcome.kind, reason: this.#noAnswer(outcome) };
    if (outcome.status === 200) {
      const answers = await readReceptionAnswers(outcome.body);
      if (answers?.length === count) return answers;
    }
    const reason = `KME ${this.kme} answered with status ${outcome.status}`;
    if (outcome.status === 404) {
      this.#ability = undefined; // its program was replaced
      return { kind: "rejected", reason };
    }
    return { kind: outcome.status >= 400 && outcome.status < 500 ? "rejected" : "unknown", reason };
  }

  /** A reason for the SAE. The channel's own reasons contain addresses; they are in the log. */
  #noAnswer({ kind }: Exclude<PostOutcome, { kind: "answer" }>): string {
    return `KME ${this.kme} ${kind === "unreached" ? "is unreachable" : "did not answer"}`;
  }
}

/**
 * Whether an answer to hello comes from another program, which does not know the path: status 404, or status 200 or 400
 * without the JSON in which this program gives the reason for a refusal. Any other status (of a proxy, or a failure) tells
 * nothing about the peer.
 */
function isOfAnotherProgram({ status, body }: { readonly status: number; readonly body: string }): boolean {
  if (status === 404) return true;
  return (status === 200 || status === 400) && parseMessage(problemSchema, body) === undefined;
}
