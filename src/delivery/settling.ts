/** Ends reservations, even when the store is away just then. */
import { log } from "../log.ts";
import type { Store } from "../store/store.ts";
import { type KeyObserver, noopObserver } from "./key_observer.ts";
import type { Settled, Settlement } from "../store/operations/settle.ts";

const RETRY_MS = 1000;

export class Settling {
  readonly #store: Pick<Store, "settle">;
  readonly #observer: KeyObserver;
  readonly #late = new Set<Settlement>();
  #timer?: ReturnType<typeof setTimeout>;
  #closed = false;

  constructor(store: Pick<Store, "settle">, observer: KeyObserver = noopObserver) {
    this.#store = store;
    this.#observer = observer;
  }

  /**
   * Settles now.
   *
   * @throws StoreUnavailable when it could not be recorded; then `otherwise` is settled as soon as the store is back.
   */
  async now(settlement: Settlement, otherwise: Settlement): Promise<Settled> {
    try {
      return await this.#settle(settlement);
    } catch (error) {
      this.#keep(otherwise);
      throw error;
    }
  }

  /** Settles now or later; never fails. */
  async eventually(settlement: Settlement): Promise<void> {
    try {
      await this.#settle(settlement);
    } catch {
      this.#keep(settlement);
    }
  }

  /** Gives up what is left: the next start finds it in the database. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  async #settle(settlement: Settlement): Promise<Settled> {
    const settled = await this.#store.settle(settlement);
    if (settled.ok && settled.burnt > 0) this.#observer.burnt("unsettled", settled.burnt);
    return settled;
  }

  #keep(settlement: Settlement): void {
    this.#late.add(settlement);
    if (this.#closed || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => this.#retry(), RETRY_MS);
  }

  async #retry(): Promise<void> {
    this.#timer = undefined;
    const late = [...this.#late];
    this.#late.clear();
    await Promise.all(late.map((settlement) => this.eventually(settlement)));
    if (this.#late.size === 0) {
      log("delivery").info("{count} reservations settled late", { count: late.length });
    }
  }
}
