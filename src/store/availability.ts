/**
 * Detects that the database does not answer. Calls are then refused at once instead of each waiting for its time limit. Before
 * that is known, while the first calls wait for their limit, a limited number of calls may wait.
 */
import { StoreUnavailable } from "../domain/store_errors.ts";
import { log } from "../log.ts";

/** Milliseconds between two probes of a database that does not answer. */
const PROBE_MS = 500;

/** Milliseconds without any answer from which on at most MAX_WAITING calls wait. A checkpoint of a slow disk is shorter. */
const SILENT_MS = 2000;
const MAX_WAITING = 256;

export class Availability {
  readonly #probe: () => Promise<unknown>;
  #probing = false;
  #awaySince?: number;
  /** Calls without an outcome, and since when there has been none without an answer, of the monotonic clock. */
  #waiting = 0;
  #silentSince = 0;
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

  /**
   * Makes a call, unless the database is known to be away or too many calls wait for it.
   *
   * @throws StoreUnavailable when the call was not started, and what it throws.
   */
  call<T>(start: () => Promise<T>): Promise<T> {
    if (this.isAway) return refused("the database is away");
    const now = performance.now();
    if (this.#waiting === 0) this.#silentSince = now;
    else if (this.#waiting >= MAX_WAITING && now - this.#silentSince >= SILENT_MS) {
      return refused(`${this.#waiting} calls wait for the database, which does not answer`);
    }
    this.#waiting++;
    const answer = start();
    answer.then(() => {
      this.#waiting--;
      this.#silentSince = performance.now();
    }, () => this.#waiting--);
    return answer;
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

function refused(why: string): Promise<never> {
  return Promise.reject(new StoreUnavailable(why, true));
}
