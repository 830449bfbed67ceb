/** Receives transactions: activates keys for SAEs of this KME, passes keys on to other KMEs, and takes both back. */
import { Buffer } from "node:buffer";
import { createHash, randomBytes } from "node:crypto";
import { log } from "../log.ts";
import type { Block, KeyIdBytes } from "../domain/block.ts";
import type { KmeId, SaeId } from "../domain/ids.ts";
import type { ClientIdentity } from "../x509/client_identity.ts";
import { mapKey, overwrite } from "../domain/bytes.ts";
import { inSlices, type Steps } from "../domain/slices.ts";
import { toOneLine } from "../domain/text.ts";
import { applyPad, blocksPerKey, composeBits, type Key, KeySize } from "../domain/key.ts";
import type { Link } from "../domain/link.ts";
import type { AdoptedReservation } from "../store/operations/adopt.ts";
import type { Store } from "../store/store.ts";
import type { ReceivedAdmission } from "./sae_limiter.ts";
import type { Directory } from "./directory.ts";
import type { Peer } from "./peer.ts";
import type { KeyObserver } from "./key_observer.ts";
import { formatPlan, type Hop } from "./delivery_plan.ts";
import type { Recovery } from "./recovery.ts";
import type { Routes } from "./routes.ts";
import type { ReservationFinisher } from "./reservation_finisher.ts";
import type { AdmittedKeys } from "./waiting_keys.ts";
import type {
  TakeBackAnswer,
  TakeBackRequest,
  Transaction,
  TransactionAnswer,
} from "../domain/transaction.ts";

/** Characters of the reason that the sender is told. */
const MAX_REASON = 1000;

/** The answer to the sender. */
export type ReceptionAnswer = Exclude<TransactionAnswer, { kind: "unreached" }>;

export interface ReceptionOptions {
  readonly thisKme: KmeId;
  readonly directory: Directory;
  readonly routes: Routes;
  readonly store: Store;
  readonly peers: ReadonlyMap<KmeId, Peer>;
  readonly reservations: ReservationFinisher;
  readonly recovery: Recovery;
  readonly observer: KeyObserver;
  /** When a key that arrives now expires, milliseconds since 1970. */
  readonly expiry: () => number;
  readonly admit: (transaction: Transaction) => Promise<ReceivedAdmission>;
  readonly onActivated: (key: KeyIdBytes, master: SaeId, slave: SaeId) => void;
}

/** A neighbour that the keys are passed on to, with the pads for it. */
interface Onward {
  /** A new one for each time that keys are passed on. */
  readonly reservation: KeyIdBytes;
  readonly hop: Hop;
  readonly peer: Peer;
  readonly link: Link;
  readonly pads: readonly Block[];
}

export class Reception {
  readonly #options: ReceptionOptions;
  /** Transactions under way: a repeated message gets the answer of the first one. */
  readonly #underWay = new Map<string, Promise<ReceptionAnswer>>();
  /** Transactions that are being taken back: a late message of such a transaction waits until that is recorded. */
  readonly #takenBack = new Map<string, Promise<TakeBackAnswer>>();

  constructor(options: ReceptionOptions) {
    this.#options = options;
  }

  /**
   * A neighbour sends keys for SAEs of this KME or of KMEs behind it.
   *
   * @param caller the client of the connection.
   * @param sender the KME named in the message.
   * @throws StoreUnavailable
   */
  receive(caller: ClientIdentity, sender: KmeId, transaction: Transaction): Promise<ReceptionAnswer> {
    const complaint = this.#complaint(caller, sender, transaction);
    if (complaint !== undefined) return Promise.resolve({ kind: "rejected", reason: complaint });
    const key = `${sender}/${mapKey(transaction.id)}`;
    let running = this.#underWay.get(key);
    if (running === undefined) {
      running = this.#afterTakeBack(key)
        .then(() => this.#receive(this.#options.store.link(sender)!, transaction))
        .finally(() => this.#underWay.delete(key));
      this.#underWay.set(key, running);
    }
    return running;
  }

  /**
   * A neighbour takes a transaction back.
   *
   * @throws StoreUnavailable
   */
  takeBack(caller: ClientIdentity, sender: KmeId, request: TakeBackRequest): Promise<TakeBackAnswer> {
    const { store, directory } = this.#options;
    const link = store.link(sender);
    if (link === undefined || !directory.mayActFor(caller, sender)) {
      return Promise.resolve({ kind: "unresolved", reason: "not a neighbour" });
    }
    const key = `${sender}/${mapKey(request.transaction)}`;
    const before = Promise.allSettled([this.#underWay.get(key), this.#takenBack.get(key)]);
    const running = before.then(() => this.#takeBack(link, request)).finally(() => {
      if (this.#takenBack.get(key) === running) this.#takenBack.delete(key);
    });
    this.#takenBack.set(key, running);
    return running;
  }

  async #afterTakeBack(key: string): Promise<void> {
    await this.#takenBack.get(key)?.catch(() => {});
  }

  async #takeBack(link: Link, request: TakeBackRequest): Promise<TakeBackAnswer> {
    const { store } = this.#options;
    // Keys that did not come from the sender were not passed on for it either: then no other KME is asked.
    const beyond = await store.hasTransaction(link, request.transaction)
      ? await this.#takeBackBeyond(link.kme, request)
      : "unknown";
    if (beyond === "unresolved") return { kind: "unresolved", reason: "a KME beyond does not answer" };
    const taken = await store.takeBack({
      link,
      transaction: request.transaction,
      blocks: request.blocks,
      reuse: request.reuse && beyond === "unknown",
    });
    if (taken.kind === "unknown" && beyond === "known") return { kind: "takenBack", free: [] };
    return taken;
  }

  async #receive(link: Link, transaction: Transaction): Promise<ReceptionAnswer> {
    const { thisKme, store } = this.#options;
    const admission = await this.#options.admit(transaction);
    if ("refusal" in admission) {
      // A repeated message must not be refused: its keys are here.
      if (await store.hasTransaction(link, transaction.id)) {
        return { kind: "unknown", reason: "asked for again" };
      }
      const { refusal, limit, refused } = admission;
      refused?.();
      return { kind: "rejected", reason: `KME ${thisKme}: ${refusal}`, limit };
    }
    let answer: ReceptionAnswer | undefined;
    try {
      return answer = await this.#admitted(link, transaction);
    } finally {
      admission.end(becameOf(answer));
    }
  }

  async #admitted(link: Link, transaction: Transaction): Promise<ReceptionAnswer> {
    const { thisKme, store } = this.#options;
    const slaves = transaction.recipients.filter(({ kme }) => kme === thisKme).flatMap(({ saes }) => saes);
    const passesOn = transaction.recipients.some(({ kme }) => kme !== thisKme);
    // If not, no pads are reserved: the store refuses the keys below and gives the reason.
    const canBeMet = !passesOn || await this.#canBeMet(link, transaction);
    const passedOn = { ...transaction, id: onwardId(link.kme, transaction.id) };
    const onward = canBeMet ? await this.#reserveOnward(passedOn) : [];
    if (onward === undefined) {
      return { kind: "rejected", reason: `KME ${thisKme} cannot pass the keys on now` };
    }
    const activated = await store.activate({
      link,
      origin: this.#options.directory.sae(transaction.origin)!.kmeId,
      keys: transaction.keys,
      master: transaction.origin,
      slaves,
      expiresAt: this.#options.expiry(),
      transaction: transaction.id,
    }).catch(async (error) => {
      await this.#release(onward);
      throw error;
    });
    if (activated.kind !== "activated") {
      await this.#release(onward);
      switch (activated.kind) {
        case "refused":
          return activated;
        case "voided":
          return { kind: "rejected", reason: "the transaction was taken back" };
        case "repeated":
          // It is no longer known whether the keys were passed on.
          return passesOn ? { kind: "unknown", reason: "asked for again" } : { kind: "activated" };
      }
    }
    const { keys } = activated;
    let failures: readonly string[] | "passed on" = "passed on";
    if (passesOn) failures = onward.length > 0 ? await this.#passOn(passedOn, keys, onward) : [];
    // The store has the keys that are read here, and the neighbours those that were passed on.
    overwrite([...keys, ...onward.flatMap(({ pads }) => pads)]);
    if (failures !== "passed on") {
      const reason = [`KME ${thisKme} could not pass the keys on`, ...failures].join(": ");
      // With long texts of other KMEs the sender could not read the answer, nor those to other transactions beside it.
      return { kind: "unknown", reason: toOneLine(reason).slice(0, MAX_REASON) };
    }
    if (slaves.length > 0) {
      const { kmeId } = this.#options.directory.sae(transaction.origin)!;
      this.#options.observer.activated(kmeId, transaction.keys.length);
    }
    await inSlices(this.#reportActivated(transaction, slaves));
    return { kind: "activated" };
  }

  *#reportActivated({ keys, origin }: Transaction, slaves: readonly SaeId[]): Steps {
    for (const key of keys) {
      for (const slave of slaves) this.#options.onActivated(key.id, origin, slave);
      yield;
    }
  }

  /** Whether the sender's blocks are free. Pads are reserved only if they are. */
  async #canBeMet(link: Link, transaction: Transaction): Promise<boolean> {
    const blocks = transaction.keys.flatMap((key) => key.blocks);
    return (await this.#options.store.freeAmong(link, blocks)).length === blocks.length;
  }

  /** Reserves pads for every neighbour that the keys go to next; `undefined` when the keys cannot be passed on now. */
  async #reserveOnward(transaction: Transaction): Promise<Onward[] | undefined> {
    const { thisKme, directory, routes, store, peers, reservations } = this.#options;
    const beyond = transaction.recipients.filter(({ kme }) => kme !== thisKme);
    if (beyond.length === 0) return [];
    const hops = [...routes.byNextHop(beyond)].map(([kme, recipients]): Hop => ({
      kme,
      composes: false,
      recipients,
    }));
    const blocks = transaction.keys.reduce((sum, key) => sum + blocksPerKey(key.size), 0);
    const ways = hops.flatMap((hop) => {
      const link = store.link(hop.kme);
      const peer = peers.get(hop.kme);
      return link === undefined || peer === undefined ? [] : [{ hop, link, peer }];
    });
    if (ways.length !== hops.length) return undefined;
    const abilities = await Promise.all(ways.map(({ peer }) => peer.ability()));
    if (abilities.some((ability) => ability.kind !== "transactions")) return undefined;
    const reservation = Uint8Array.from(randomBytes(16));
    const pads = await store.reserve({
      reservation,
      // A reserve is for masters of this KME; this one is not.
      claims: ways.map(({ link }) => ({
        link,
        blocks,
        pad: true,
        keep: directory.reserveOf(link.kme)?.blocks,
      })),
      plan: formatPlan({ transaction: transaction.id, hops }),
    }).catch((error) => {
      reservations.notReserved(reservation, error);
      throw error;
    });
    return pads && ways.map((way, i) => ({ ...way, reservation, pads: pads[i]! }));
  }

  /** @returns what the SAE may be told of the failures, each of which names a KME, unless all keys were passed on. */
  async #passOn(
    transaction: Transaction,
    keys: readonly Key[],
    onward: readonly Onward[],
  ): Promise<"passed on" | string[]> {
    const { reservations, recovery } = this.#options;
    const answers = await Promise.all(onward.map(({ hop, peer, pads }) => {
      let next = 0;
      return peer.send({
        id: transaction.id,
        origin: transaction.origin,
        recipients: hop.recipients,
        keys: keys.map((key) => {
          const size = key.bits.length * 8;
          const pad = pads.slice(next, next += blocksPerKey(size));
          return {
            id: key.id,
            size,
            blocks: pad.map((block) => block.id),
            padded: applyPad(key.bits, composeBits(pad, size)),
          };
        }),
      });
    }));
    const { reservation } = onward[0]!;
    const all = onward.flatMap(({ pads }) => pads.map((pad) => pad.id));
    if (answers.every((answer) => answer.kind === "activated")) {
      const result = await reservations.now({ reservation, spend: all }, { reservation, unresolved: all });
      if (result.ok) return "passed on";
    }
    log("delivery").warn("keys could not be passed on: {reasons}", {
      reasons: answers.flatMap((answer, i) =>
        answer.kind === "activated" ? [] : [`KME ${onward[i]!.hop.kme} ${answer.kind}`]
      ).join(", "),
    });
    const unsent = onward.filter((_, i) => answers[i]!.kind === "unreached");
    const sent = onward.filter((_, i) => answers[i]!.kind !== "unreached");
    await reservations.eventually({
      reservation,
      release: unsent.flatMap(({ pads }) => pads.map((pad) => pad.id)),
      unresolved: sent.flatMap(({ pads }) => pads.map((pad) => pad.id)),
    });
    await recovery.resolve(reservationOf(transaction.id, reservation, sent, this.#options.store.now()));
    return answers.flatMap((answer) => "reason" in answer ? answer.reason ?? [] : []);
  }

  async #takeBackBeyond(
    sender: KmeId,
    request: TakeBackRequest,
  ): Promise<"unknown" | "known" | "unresolved"> {
    const { thisKme, routes, peers } = this.#options;
    const beyond = routes.byNextHop(request.recipients.filter(({ kme }) => kme !== thisKme));
    // Keys are never passed on to the KME that sent them.
    beyond.delete(sender);
    const transaction = onwardId(sender, request.transaction);
    let result: "unknown" | "known" = "unknown";
    for (const [kme, recipients] of beyond) {
      const peer = peers.get(kme);
      if (peer === undefined) continue;
      const answer = await peer.takeBack({ transaction, recipients, blocks: [], reuse: false });
      if (answer.kind === "unresolved") return "unresolved";
      if (answer.kind !== "unknown") result = "known";
    }
    return result;
  }

  async #release(onward: readonly Onward[]): Promise<void> {
    if (onward.length === 0) return;
    const { reservation } = onward[0]!;
    const release = onward.flatMap(({ pads }) => pads.map((pad) => pad.id));
    await this.#options.reservations.eventually({ reservation, release });
  }

  /** Why a message is rejected: the sender is misconfigured, or not the KME that it claims to be. */
  #complaint(
    caller: ClientIdentity,
    sender: KmeId,
    { origin, keys, recipients }: Transaction,
  ): string | undefined {
    const { thisKme, directory, routes, store } = this.#options;
    if (store.link(sender) === undefined || sender === thisKme) return `KME ${sender} is not a neighbour`;
    if (!directory.mayActFor(caller, sender)) return `the certificate is not that of KME ${sender}`;
    const master = directory.sae(origin);
    if (master === undefined) return `SAE ${origin} is unknown`;
    if (routes.nextHop(master.kmeId) !== sender) return `SAE ${origin} is not reached through KME ${sender}`;
    for (const { kme, saes } of recipients) {
      if (kme !== thisKme && (routes.nextHop(kme) === undefined || routes.nextHop(kme) === sender)) {
        return `KME ${kme} is not reached through KME ${thisKme}`;
      }
      const foreign = saes.find((sae) => directory.sae(sae)?.kmeId !== kme);
      if (kme === thisKme && foreign !== undefined) return `SAE ${foreign} is not of KME ${thisKme}`;
    }
    if (new Set(recipients.map(({ kme }) => kme)).size !== recipients.length) return "a KME is named twice";
    for (const { size, blocks, padded } of keys) {
      if (size % 8 !== 0 || size < KeySize.min || size > KeySize.max) return `a key of ${size} bits`;
      if (blocks.length !== blocksPerKey(size)) return `${blocks.length} blocks for a key of ${size} bits`;
      if (padded !== undefined && padded.length * 8 !== size) return "a padded key of another size";
    }
    if (new Set(keys.map(({ id }) => mapKey(id))).size !== keys.length) return "a key_ID is named twice";
    return undefined;
  }
}

/** What became of keys that were admitted; no answer: an error. */
function becameOf(answer: ReceptionAnswer | undefined): AdmittedKeys {
  switch (answer?.kind) {
    case "activated":
      return "delivered";
    case "refused":
    case "rejected":
      return "undelivered";
    default:
      return "unknown";
  }
}

/**
 * The id under which a transaction is passed on. It is computed from the sender and its id, so that no sender can choose an
 * id that collides with a transaction of this KME or of another sender.
 */
function onwardId(sender: KmeId, transaction: KeyIdBytes): KeyIdBytes {
  const digest = createHash("sha256").update("passed on\0").update(Buffer.from(transaction)).update(sender)
    .digest();
  return Uint8Array.from(digest.subarray(0, 16));
}

function reservationOf(
  transaction: KeyIdBytes,
  reservation: KeyIdBytes,
  onward: readonly Onward[],
  now: number,
): AdoptedReservation {
  return {
    id: reservation,
    plan: formatPlan({ transaction, hops: onward.map(({ hop }) => hop) }),
    since: now,
    blocks: onward.flatMap(({ link, pads }) => pads.map((pad) => ({ id: pad.id, linkId: link.id }))),
  };
}
