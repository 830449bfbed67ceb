/** How many blocks a transaction of ingestion stores: many while nothing else needs the database, few while requests do. */

/** About 3 ms of hashing between two turns of the event loop, then some more of inserting. */
export const FIRST_BLOCKS = 2048;
/** Digests are random, so a transaction writes to many pages, and a larger one writes fewer of them twice. */
const MOST_BLOCKS = 16_384;
const FEWEST_BLOCKS = 256;
/** Milliseconds that a transaction may take while requests come: each of them waits for one of its own and one of these. */
const BUSY_MS = 10;
/** Milliseconds of pause for each millisecond of a transaction while requests come. A key over two KMEs needs several transactions, one after the other. */
const PAUSE = 3;
/** Milliseconds after a request for which others are expected. */
const QUIET_MS = 1000;
const LONGEST_PAUSE_MS = 500;

export interface StoredTransaction {
  readonly milliseconds: number;
  /** A request called the store meanwhile. */
  readonly requested: boolean;
  /** A long transaction would block this thread. */
  readonly blocking: boolean;
}

export class TransactionSize {
  readonly #quickMs: number;
  readonly #now: () => number;
  #blocks = FIRST_BLOCKS;
  #busyUntil = -Infinity;

  /**
   * @param quickMs milliseconds below which the next transaction may be larger while no request comes.
   * @param now milliseconds of a steady clock.
   */
  constructor(quickMs: number, now: () => number = () => performance.now()) {
    this.#quickMs = quickMs;
    this.#now = now;
  }

  /** Blocks in the next transaction. */
  get blocks(): number {
    return this.#blocks;
  }

  /** @returns milliseconds to leave the database to others, three times as long as the transaction took while requests come. */
  stored({ milliseconds, requested, blocking }: StoredTransaction): number {
    const now = this.#now();
    if (requested) this.#busyUntil = now + QUIET_MS;
    if (now < this.#busyUntil) {
      const blocks = Math.min(this.#blocks, FIRST_BLOCKS);
      this.#blocks = milliseconds > 2 * BUSY_MS
        ? Math.max(blocks / 2, FEWEST_BLOCKS)
        : milliseconds < BUSY_MS
        ? Math.min(2 * blocks, FIRST_BLOCKS)
        : blocks;
      return Math.min(PAUSE * milliseconds, LONGEST_PAUSE_MS);
    }
    if (blocking || milliseconds > 2.5 * this.#quickMs) this.#blocks = FIRST_BLOCKS;
    else {
      const blocks = milliseconds < this.#quickMs ? 2 * this.#blocks : this.#blocks;
      this.#blocks = Math.min(Math.max(blocks, FIRST_BLOCKS), MOST_BLOCKS);
    }
    return 0;
  }

  failed(): void {
    this.#blocks = Math.min(this.#blocks, FIRST_BLOCKS);
  }
}
