/** Finishes reservations. While the store is unavailable it retries. */
import { mapKey } from "../domain/bytes.ts";
import { StoreUnavailable } from "../domain/store_errors.ts";
import { log } from "../log.ts";
import type { ReservationOutcome, ReservationResult } from "../store/operations/finish_reservation.ts";
import type { Store } from "../store/store.ts";
import { type KeyObserver, noopObserver } from "./key_observer.ts";

/** Milliseconds between two attempts. */
const RETRY_MS = 1000;

/** Outcomes recorded in one attempt, in one transaction. */
const BATCH = 256;

/** Outcomes kept for a retry. Further reservations are found in the database, as after a crash. */
const MAX_LATE = 10_000;

export class ReservationFinisher {
  readonly #store: Pick<Store, "finishReservation">;
  readonly #observer: KeyObserver;
  /** Outcomes that could not be recorded, by reservation. */
  readonly #late = new Map<string, ReservationOutcome>();
  #retrying = false;
  #left = 0;
  #timer?: ReturnType<typeof setTimeout>;
  #closed = false;

  constructor(store: Pick<Store, "finishReservation">, observer: KeyObserver = noopObserver) {
    this.#store = store;
    this.#observer = observer;
  }

  /**
   * Finishes now.
   *
   * @throws StoreUnavailable when it could not be recorded; then `otherwise` is recorded as soon as the store is available.
   */
  async now(outcome: ReservationOutcome, otherwise: ReservationOutcome): Promise<ReservationResult> {
    try {
      return await this.#finish(outcome);
    } catch (error) {
      this.#keep(otherwise);
      throw error;
    }
  }

  /** Finishes now or later; never throws. */
  async eventually(outcome: ReservationOutcome): Promise<void> {
    try {
      await this.#finish(outcome);
    } catch {
      this.#keep(outcome);
    }
  }

  /** Reserving failed: releases the reservation, unless it is certain that nothing was stored. */
  notReserved(reservation: ReservationOutcome["reservation"], error: unknown): void {
    if (error instanceof StoreUnavailable && error.nothingDone) return;
    void this.eventually({ reservation, releaseRest: true });
  }

  /** Stops retrying: the next start finds the remaining reservations in the database. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  async #finish(outcome: ReservationOutcome): Promise<ReservationResult> {
    const result = await this.#store.finishReservation(outcome);
    if (result.ok && result.burnt > 0) this.#observer.burnt("unresolved", result.burnt);
    return result;
  }

  #keep(outcome: ReservationOutcome): void {
    if (this.#closed) return;
    if (this.#late.size < MAX_LATE) this.#late.set(mapKey(outcome.reservation), outcome);
    else this.#left++;
    if (!this.#retrying) this.#retryLater();
  }

  #retryLater(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.#retry();
    }, RETRY_MS);
  }

  /** Records batch after batch, until one fails. */
  async #retry(): Promise<void> {
    this.#retrying = true;
    let finished = 0;
    let failed = false;
    while (this.#late.size > 0 && !failed && !this.#closed) {
      const batch = [...this.#late].slice(0, BATCH);
      const results = await Promise.allSettled(batch.map(([, outcome]) => this.#finish(outcome)));
      results.forEach(({ status }, i) => {
        const [key] = batch[i]!;
        if (status === "rejected") failed = true;
        else if (this.#late.delete(key)) finished++;
      });
    }
    this.#retrying = false;
    if (finished > 0) log("delivery").info("{finished} reservations finished late", { finished });
    if (failed && !this.#closed) return this.#retryLater();
    if (this.#left > 0) {
      log("delivery").warn("{left} reservations are finished within minutes, as after a restart", {
        left: this.#left,
      });
    }
    this.#left = 0;
  }
}
