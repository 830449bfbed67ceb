/** Changes of the counts of free blocks within a transaction. */

/** Changes by link, to be applied once at the end of a transaction. */
export class StockChanges {
  readonly #changes = new Map<number, number>();

  add(linkId: number, change: number): void {
    if (change !== 0) this.#changes.set(linkId, (this.#changes.get(linkId) ?? 0) + change);
  }

  /** The change of one link so far. */
  of(linkId: number): number {
    return this.#changes.get(linkId) ?? 0;
  }

  [Symbol.iterator](): Iterator<[linkId: number, change: number]> {
    return this.#changes[Symbol.iterator]();
  }
}
