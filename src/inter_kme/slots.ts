/** A bounded number of places; who finds none waits in line. */
export class Slots {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(count: number) {
    this.#free = count;
  }

  /**
   * Takes a place; whoever got one gives it back with {@linkcode release}.
   *
   * @param timeout milliseconds to wait in line.
   * @returns false when the time was up or the signal came first.
   */
  acquire(timeout: number, signal?: AbortSignal): Promise<boolean> {
    if (signal?.aborted) return Promise.resolve(false);
    if (this.#free > 0) {
      this.#free--;
      return Promise.resolve(true);
    }
    return new Promise((resolve) => {
      const leave = (got: boolean) => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", giveUp);
        this.#waiting.delete(take);
        resolve(got);
      };
      const take = () => leave(true);
      const giveUp = () => leave(false);
      const timer = setTimeout(giveUp, timeout);
      signal?.addEventListener("abort", giveUp);
      this.#waiting.add(take);
    });
  }

  /** Gives a place back: to the first in line, if any. */
  release(): void {
    const [next] = this.#waiting;
    if (next) next();
    else this.#free++;
  }
}
