/** A neighbour, as delivery uses it: learns what it understands, and speaks that. */
import type { Peer, PeerAbility, PeerAnswer, PeerRequest } from "../delivery/peer.ts";
import type {
  TakeBackAnswer,
  TakeBackRequest,
  Transaction,
  TransactionAnswer,
} from "../delivery/transaction.ts";
import { log } from "../log.ts";
import type { KmeId } from "../model/ids.ts";
import { activateKeys } from "./activation.ts";
import type { PeerChannel, PostOutcome } from "./channel.ts";
import {
  formatHello,
  formatTakeBack,
  formatTransactions,
  helloAnswerSchema,
  MAX_TRANSACTIONS,
  parseMessage,
  PeerPath,
  problemSchema,
  receptionAnswersSchema,
  takeBackAnswerSchema,
} from "./wire.ts";

/** Messages with transactions that are under way at the same time; what comes meanwhile shares the next one. */
const MESSAGES_SIDE_BY_SIDE = 2;

interface Waiting {
  readonly transaction: Transaction;
  readonly resolve: (answer: TransactionAnswer) => void;
}

export class PeerKme implements Peer {
  readonly kme: KmeId;
  readonly #thisKme: KmeId;
  readonly #channel: PeerChannel;
  #ability?: PeerAbility;
  #asking?: Promise<PeerAbility>;
  #waiting: Waiting[] = [];
  #underWay = 0;

  constructor(thisKme: KmeId, channel: PeerChannel) {
    this.#thisKme = thisKme;
    this.#channel = channel;
    this.kme = channel.kmeId;
  }

  ability(): Promise<PeerAbility> {
    if (this.#ability !== undefined) return Promise.resolve(this.#ability);
    this.#asking ??= this.#ask().finally(() => this.#asking = undefined);
    return this.#asking;
  }

  activate(request: PeerRequest): Promise<PeerAnswer> {
    return activateKeys(this.#channel, request);
  }

  send(transaction: Transaction): Promise<TransactionAnswer> {
    return new Promise((resolve) => {
      this.#waiting.push({ transaction, resolve });
      this.#sendWaiting();
    });
  }

  async takeBack(request: TakeBackRequest): Promise<TakeBackAnswer> {
    const outcome = await this.#channel.post(PeerPath.takeBack, formatTakeBack(this.#thisKme, request));
    if (outcome.kind !== "answer") return { kind: "unresolved", reason: outcome.reason };
    const answer = outcome.status === 200 ? parseMessage(takeBackAnswerSchema, outcome.body) : undefined;
    return answer ?? { kind: "unresolved", reason: `KME ${this.kme} answered with status ${outcome.status}` };
  }

  async #ask(): Promise<PeerAbility> {
    const outcome = await this.#channel.post(PeerPath.hello, formatHello(this.#thisKme));
    if (outcome.kind !== "answer") return { kind: "unreached", reason: this.#silence(outcome) };
    const hello = outcome.status === 200 ? parseMessage(helloAnswerSchema, outcome.body) : undefined;
    // A KME of this program says in JSON why it does not want to hear from us; others do not know the path.
    if (
      hello === undefined &&
      (outcome.status >= 500 || parseMessage(problemSchema, outcome.body) !== undefined)
    ) {
      return { kind: "unreached", reason: `KME ${this.kme} answered with status ${outcome.status}` };
    }
    const ability: PeerAbility = { kind: hello === undefined ? "blocks" : "transactions" };
    this.#ability = ability;
    log("peer").info("KME {kme} understands {ability}", {
      kme: this.kme,
      ability: hello === undefined ? "whole blocks for one slave only" : "transactions",
    });
    return ability;
  }

  #sendWaiting(): void {
    while (this.#underWay < MESSAGES_SIDE_BY_SIDE && this.#waiting.length > 0) {
      this.#underWay++;
      // In a microtask: what is asked for in the same turn goes together.
      queueMicrotask(() => {
        this.#sendBatch(this.#waiting.splice(0, MAX_TRANSACTIONS)).finally(() => {
          this.#underWay--;
          this.#sendWaiting();
        });
      });
    }
  }

  async #sendBatch(batch: readonly Waiting[]): Promise<void> {
    if (batch.length === 0) return;
    const message = formatTransactions(this.#thisKme, batch.map(({ transaction }) => transaction));
    const outcome = await this.#channel.post(PeerPath.transactions, message);
    const answers = this.#answers(outcome, batch.length);
    batch.forEach(({ resolve }, i) => resolve(Array.isArray(answers) ? answers[i]! : answers));
  }

  /** One answer for each transaction, or one for all. */
  #answers(outcome: PostOutcome, count: number): TransactionAnswer[] | TransactionAnswer {
    if (outcome.kind !== "answer") return { kind: outcome.kind, reason: this.#silence(outcome) };
    if (outcome.status === 200) {
      const answers = parseMessage(receptionAnswersSchema, outcome.body)?.answers;
      if (answers?.length === count) return answers;
    }
    const reason = `KME ${this.kme} answered with status ${outcome.status}`;
    if (outcome.status === 404) {
      this.#ability = undefined; // another program answers there now
      return { kind: "rejected", reason };
    }
    return { kind: outcome.status >= 400 && outcome.status < 500 ? "rejected" : "unknown", reason };
  }

  /** Fit for an SAE's eyes: the channel's own reasons hold addresses, and are in the log. */
  #silence({ kind }: Exclude<PostOutcome, { kind: "answer" }>): string {
    return `KME ${this.kme} ${kind === "unreached" ? "is unreachable" : "did not answer"}`;
  }
}
