/**
 * Counts the keys of a master that wait for slaves at this KME. The database is asked, which with several processes is the
 * only one to know; in between, what this process delivers and hands to slaves is added and taken away. Counting reads
 * many rows, so it may take a fiftieth of the time at most.
 */
import type { SaeId } from "../domain/ids.ts";
import type { Store } from "../store/store.ts";

/** Milliseconds after which a count is made again. */
const FRESH_MS = 5000;

/** The same where the limit is reached. */
const AT_LIMIT_MS = 250;

/** Milliseconds of rest for each that counting took. */
const REST = 50;

interface Master {
  /** At the last count, and since. */
  waiting: number;
  /** Admitted, and not yet delivered. */
  underWay: number;
  /** When the last count ended, milliseconds of a monotonic clock. */
  countedAt: number;
  /** Milliseconds. */
  took: number;
  counting?: Promise<void>;
}

export class WaitingKeys {
  readonly #store: Pick<Store, "keysWaiting">;
  readonly #masters = new Map<SaeId, Master>();

  constructor(store: Pick<Store, "keysWaiting">) {
    this.#store = store;
  }

  /**
   * Admits keys of a master, unless more than `max` would wait.
   *
   * @returns ends the admission; told whether the keys were delivered. `undefined`: not admitted.
   * @throws StoreUnavailable
   */
  async admit(id: SaeId, keys: number, max: number): Promise<((delivered: boolean) => void) | undefined> {
    const master = this.#masters.getOrInsertComputed(id, () => ({
      waiting: 0,
      underWay: 0,
      countedAt: -Infinity,
      took: 0,
    }));
    await this.#countAfter(master, id, FRESH_MS);
    if (!fits(master, keys, max)) await this.#countAfter(master, id, AT_LIMIT_MS);
    if (!fits(master, keys, max)) return undefined;
    master.underWay += keys;
    return (delivered) => {
      master.underWay -= keys;
      if (delivered) master.waiting += keys;
    };
  }

  /** Slaves have fetched keys of a master. A key for several slaves may be counted as fetched too early, until the next count. */
  fetched(id: SaeId, keys: number): void {
    const master = this.#masters.get(id);
    if (master !== undefined) master.waiting = Math.max(0, master.waiting - keys);
  }

  async #countAfter(master: Master, id: SaeId, ms: number): Promise<void> {
    if (performance.now() - master.countedAt < Math.max(ms, master.took * REST)) return;
    await (master.counting ??= this.#count(master, id).finally(() => master.counting = undefined));
  }

  async #count(master: Master, id: SaeId): Promise<void> {
    const begin = performance.now();
    master.waiting = await this.#store.keysWaiting(id);
    master.countedAt = performance.now();
    master.took = master.countedAt - begin;
  }
}

function fits({ waiting, underWay }: Master, keys: number, max: number): boolean {
  return waiting + underWay + keys <= max;
}
