/** Random choices that can be repeated: all follow from one seed. */

export class Random {
  readonly seed: number;
  #state: number;

  /** @param seed `KME_TEST_SEED` by default, else a fresh one. */
  constructor(seed = Number(Deno.env.get("KME_TEST_SEED") ?? crypto.getRandomValues(new Uint32Array(1))[0])) {
    this.seed = seed;
    this.#state = seed;
  }

  /** At least 0, less than 1 (mulberry32). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** An integer, both ends included. */
  between(min: number, max: number): number {
    return min + Math.floor(this.next() * (max - min + 1));
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(items: readonly T[]): T {
    return items[Math.floor(this.next() * items.length)]!;
  }
}
