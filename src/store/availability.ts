/** Detects that the database does not answer. Calls are then refused at once instead of each waiting for its time limit. */
import { StoreUnavailable } from "../domain/store_errors.ts";
import { log } from "../log.ts";

/** Milliseconds between two probes of a database that does not answer. */
const PROBE_MS = 500;

export class Availability {
  readonly #probe: () => Promise<unknown>;
  #probing = false;
  #awaySince?: number;
  #timer?: ReturnType<typeof setTimeout>;
  #closed = false;

  /** @param probe sends the database a simple query; rejects when there is no answer. */
  constructor(probe: () => Promise<unknown>) {
    this.#probe = probe;
  }

  /** Whether the database did not answer the last probe. */
  get isAway(): boolean {
    return this.#awaySince !== undefined;
  }

  /** @throws StoreUnavailable while the database does not answer; the call was not started. */
  require(): void {
    if (this.isAway) throw new StoreUnavailable("the database is away", true);
  }

  /** To be called when a call failed: probes whether the database still answers. */
  failed(): void {
    if (this.#probing || this.#closed) return;
    this.#probing = true;
    void this.#look();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  async #look(): Promise<void> {
    try {
      await this.#probe();
      this.#probing = false;
      if (this.#awaySince === undefined) return;
      const seconds = Math.round((performance.now() - this.#awaySince) / 1000);
      this.#awaySince = undefined;
      log("store").info("the database answers again after {seconds} s", { seconds });
    } catch {
      if (this.#awaySince === undefined && !this.#closed) {
        this.#awaySince = performance.now();
        log("store").error("the database is away: requests are refused with 503 until it answers again");
      }
      if (!this.#closed) this.#timer = setTimeout(() => void this.#look(), PROBE_MS);
    }
  }
}
