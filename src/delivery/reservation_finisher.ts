/** Ends reservations, even when the store is away just then. */
import { log } from "../log.ts";
import type { Store } from "../store/store.ts";
import { type KeyObserver, noopObserver } from "./key_observer.ts";
import type { ReservationOutcome, ReservationResult } from "../store/operations/finish_reservation.ts";

const RETRY_MS = 1000;

export class ReservationFinisher {
  readonly #store: Pick<Store, "finishReservation">;
  readonly #observer: KeyObserver;
  readonly #late = new Set<ReservationOutcome>();
  #timer?: ReturnType<typeof setTimeout>;
  #closed = false;

  constructor(store: Pick<Store, "finishReservation">, observer: KeyObserver = noopObserver) {
    this.#store = store;
    this.#observer = observer;
  }

  /**
   * Settles now.
   *
   * @throws StoreUnavailable when it could not be recorded; then `otherwise` is recorded as soon as the store is back.
   */
  async now(outcome: ReservationOutcome, otherwise: ReservationOutcome): Promise<ReservationResult> {
    try {
      return await this.#finish(outcome);
    } catch (error) {
      this.#keep(otherwise);
      throw error;
    }
  }

  /** Settles now or later; never fails. */
  async eventually(outcome: ReservationOutcome): Promise<void> {
    try {
      await this.#finish(outcome);
    } catch {
      this.#keep(outcome);
    }
  }

  /** Gives up what is left: the next start finds it in the database. */
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
    this.#late.add(outcome);
    if (this.#closed || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => this.#retry(), RETRY_MS);
  }

  async #retry(): Promise<void> {
    this.#timer = undefined;
    const late = [...this.#late];
    this.#late.clear();
    await Promise.all(late.map((outcome) => this.eventually(outcome)));
    if (this.#late.size === 0) {
      log("delivery").info("{count} reservations finished late", { count: late.length });
    }
  }
}
