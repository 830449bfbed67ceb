/**
 * Resolves transactions whose state is unknown: an answer was lost, a process died, or one of several KMEs could not take
 * the keys. They are taken back at every neighbour they were sent to. Blocks that may have been used are burnt.
 */
import { log } from "../log.ts";
import type { KeyIdBytes } from "../domain/block.ts";
import type { KmeId } from "../domain/ids.ts";
import { mapKey } from "../domain/bytes.ts";
import type { AdoptedReservation } from "../store/operations/adopt.ts";
import type { Store } from "../store/store.ts";
import type { KeyObserver } from "./key_observer.ts";
import type { Peer } from "./peer.ts";
import { type Hop, parsePlan } from "./delivery_plan.ts";
import type { TakeBackAnswer } from "../domain/transaction.ts";

export interface RecoveryOptions {
  readonly store: Store;
  readonly peers: ReadonlyMap<KmeId, Peer>;
  readonly observer: KeyObserver;
  readonly keyLifetimeSeconds: number;
}

/** Milliseconds between two searches for unresolved transactions. */
const PERIOD_MS = 2000;

/** Milliseconds for which every KME keeps a key at least. */
const FRESH_MS = 60_000;

/** Transactions in one search. */
const LIMIT = 200;

export class Recovery {
  readonly #options: RecoveryOptions;
  readonly #underWay = new Map<string, Promise<boolean>>();
  #timer?: ReturnType<typeof setTimeout>;
  #round?: Promise<void>;
  #closed = false;
  #after = 0;

  constructor(options: RecoveryOptions) {
    this.#options = options;
  }

  /** Searches now, and then every few seconds. */
  start(): void {
    this.#timer = setTimeout(() => this.#next(), 0);
  }

  /** Stops searching; resolves when the search under way is finished. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#round;
  }

  /**
   * Resolves one reservation now.
   *
   * @returns false when a neighbour did not answer: the reservation stays unresolved and is tried again later.
   */
  resolve(reservation: AdoptedReservation): Promise<boolean> {
    const key = mapKey(reservation.id);
    let running = this.#underWay.get(key);
    if (running === undefined) {
      running = this.#resolve(reservation).catch(() => false).finally(() => this.#underWay.delete(key));
      this.#underWay.set(key, running);
    }
    return running;
  }

  #next(): void {
    this.#round = this.#search().finally(() => {
      if (!this.#closed) this.#timer = setTimeout(() => this.#next(), PERIOD_MS);
    });
  }

  async #search(): Promise<void> {
    let found: AdoptedReservation[];
    try {
      found = await this.#options.store.adopt(LIMIT, this.#after);
    } catch {
      return; // the store reports its own failures
    }
    // The next search continues after these, so that unreachable neighbours do not delay the reservations of others.
    this.#after = found.length === LIMIT ? found.at(-1)!.since : 0;
    const results = await Promise.all(found.map((reservation) => this.resolve(reservation)));
    const resolved = results.filter(Boolean).length;
    if (resolved > 0) {
      log("delivery").info("{resolved} unfinished transactions were taken back", { resolved });
    }
  }

  async #resolve(reservation: AdoptedReservation): Promise<boolean> {
    const { store, keyLifetimeSeconds } = this.#options;
    const all = reservation.blocks.map((block) => block.id);
    if (reservation.plan === null) {
      // The peer does not understand transactions. It may still ask for the blocks; otherwise they are burnt later.
      await store.finishReservation({ reservation: reservation.id, refused: all });
      return true;
    }
    if (reservation.since + keyLifetimeSeconds * 1000 < store.now()) {
      // After this time, the keys have expired at a neighbour that was not reached.
      await this.#burn(reservation, all);
      return true;
    }
    const onLink = (kme: KmeId) => {
      const link = store.link(kme);
      return reservation.blocks.filter((block) => block.linkId === link?.id).map((block) => block.id);
    };
    const { transaction, hops } = parsePlan(reservation.plan);
    // A hop without pads was not sent the keys.
    const padded = hops.filter((hop) => !hop.composes && onLink(hop.kme).length > 0);
    const pads = padded.flatMap((hop) => onLink(hop.kme));
    const answers = await Promise.all(
      padded.map((hop) => this.#takeBack(transaction, hop, onLink(hop.kme), false)),
    );
    if (answers.some((answer) => answer.kind === "unresolved")) return false;
    // The blocks of keys that another KME has had are not used again. A KME at which the keys have expired no longer knows
    // that it had them, so after a while the answer "unknown" does not count. (A key that was sent, but not received, is
    // protected by its pad.)
    const exposed = answers.some((answer) => answer.kind !== "unknown") ||
      padded.length > 0 && reservation.since + FRESH_MS < store.now();
    const padSet = new Set(pads.map(mapKey));
    const source = all.filter((id) => !padSet.has(mapKey(id)));
    const composing = hops.find((hop) => hop.composes);
    let release = exposed ? [] : source;
    if (composing !== undefined) {
      const answer = await this.#takeBack(transaction, composing, source, !exposed);
      if (answer.kind === "unresolved") return false;
      if (answer.kind === "read") release = [];
      if (answer.kind === "takenBack") {
        const free = new Set(answer.free.map(mapKey));
        release = release.filter((id) => free.has(mapKey(id)));
      }
    }
    const released = new Set(release.map(mapKey));
    await this.#burn(reservation, all.filter((id) => !released.has(mapKey(id))), release);
    return true;
  }

  #takeBack(
    transaction: KeyIdBytes,
    hop: Hop,
    blocks: readonly KeyIdBytes[],
    reuse: boolean,
  ): Promise<TakeBackAnswer> {
    const peer = this.#options.peers.get(hop.kme);
    if (peer === undefined) return Promise.resolve({ kind: "unresolved", reason: "no such peer" });
    return peer.takeBack({ transaction, recipients: hop.recipients, blocks, reuse });
  }

  async #burn(
    reservation: AdoptedReservation,
    burn: readonly KeyIdBytes[],
    release: readonly KeyIdBytes[] = [],
  ): Promise<void> {
    const result = await this.#options.store.finishReservation({
      reservation: reservation.id,
      burn,
      release,
    });
    if (result.ok && result.burnt > 0) this.#options.observer.burnt("unresolved", result.burnt);
    if (burn.length > 0) {
      log("delivery").warn("{count} blocks burnt: they may have been used", { count: burn.length });
    }
  }
}
