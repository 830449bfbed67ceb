/** A bounded number of places; a caller that finds none free waits in line. */
export class Slots {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(count: number) {
    this.#free = count;
  }

  /**
   * Takes a place. After `true`, call {@linkcode release}.
   *
   * @param timeout milliseconds to wait in line.
   * @returns false when no place became free in time.
   */
  acquire(timeout: number): Promise<boolean> {
    if (this.#free > 0) {
      this.#free--;
      return Promise.resolve(true);
    }
    return new Promise((resolve) => {
      const leave = (got: boolean) => {
        clearTimeout(timer);
        this.#waiting.delete(take);
        resolve(got);
      };
      const take = () => leave(true);
      const timer = setTimeout(() => leave(false), timeout);
      this.#waiting.add(take);
    });
  }

  /** Gives a place back; the first caller in line gets it. */
  release(): void {
    const [next] = this.#waiting;
    if (next) next();
    else this.#free++;
  }
}
