/** A coarse clock for many deadlines: one timer for all of them instead of one for each request. */

/** Sweeps within the shortest time limit: deadlines are accurate to a tenth of it. */
const SWEEPS = 10;

export class CoarseClock {
  readonly #interval: number;
  readonly #timer: ReturnType<typeof setInterval>;
  #now = performance.now();

  /**
   * @param timeouts Milliseconds; the shortest one sets the period.
   * @param sweep Called at each tick.
   */
  constructor(timeouts: readonly number[], sweep: (now: number) => void) {
    this.#interval = Math.max(5, Math.min(...timeouts) / SWEEPS);
    this.#timer = setInterval(() => {
      this.#now = performance.now();
      sweep(this.#now);
    }, this.#interval);
  }

  /** The time this many milliseconds from now: never early, at most two ticks late. */
  deadline(timeout: number): number {
    return this.#now + this.#interval + timeout;
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
