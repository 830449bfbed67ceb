/**
 * Counts the keys of a master that wait for slaves at this KME. The database is asked, which with several processes is the
 * only one to know; in between, what this process delivers and hands to slaves is added and taken away. Counting reads
 * many rows, so it takes about a fiftieth of the time at most.
 *
 * A count may or may not include what changes while it is made. So what is delivered meanwhile is added to it, and what is fetched
 * meanwhile is not taken away: until the next count there may seem to be more keys of this process than there are, never fewer.
 */
import type { SaeId } from "../domain/ids.ts";
import type { Store } from "../store/store.ts";

/** Milliseconds after which a count is made again. */
const FRESH_MS = 5000;

/** The same where the limit is reached. */
const AT_LIMIT_MS = 250;

/** Milliseconds of rest for each that counting took. */
const REST = 50;

/** The longest rest: other processes may deliver keys meanwhile, and keys expire. */
const MAX_REST_MS = 60_000;

/** What became of keys that were admitted. `unknown`: they may be in the database, because the commit had no answer, or to be taken back. */
export type AdmittedKeys = "delivered" | "undelivered" | "unknown";

interface Master {
  /** By the last count, and by what has become known since. */
  waiting: number;
  /** Admitted, and not yet delivered. */
  underWay: number;
  /** Delivered since the count under way began. */
  meanwhile: number;
  /** Counts so far. */
  counts: number;
  /** When the last count ended, milliseconds of a monotonic clock. */
  countedAt: number;
  /** Milliseconds. */
  took: number;
  counting?: Promise<void>;
}

export class WaitingKeys {
  readonly #store: Pick<Store, "keysWaiting">;
  readonly #now: () => number;
  readonly #masters = new Map<SaeId, Master>();

  /** @param now milliseconds of a monotonic clock. */
  constructor(store: Pick<Store, "keysWaiting">, now: () => number = () => performance.now()) {
    this.#store = store;
    this.#now = now;
  }

  /**
   * Admits keys of a master, unless more than `max` would wait.
   *
   * @returns ends the admission. `undefined`: not admitted.
   * @throws StoreUnavailable
   */
  async admit(id: SaeId, keys: number, max: number): Promise<((keys: AdmittedKeys) => void) | undefined> {
    const master = this.#masters.getOrInsertComputed(id, () => ({
      waiting: 0,
      underWay: 0,
      meanwhile: 0,
      counts: 0,
      countedAt: -Infinity,
      took: 0,
    }));
    await this.#countAfter(master, id, FRESH_MS);
    if (!fits(master, keys, max)) await this.#countAfter(master, id, AT_LIMIT_MS);
    // From here on at once, so that two requests do not find the same room.
    if (!fits(master, keys, max)) return undefined;
    master.underWay += keys;
    return (became) => {
      master.underWay -= keys;
      if (became === "undelivered") return;
      master.waiting += keys;
      master.meanwhile += keys;
    };
  }

  /**
   * A slave begins to fetch keys of a master.
   *
   * @returns to be called with the number of keys that then wait for no slave any more.
   */
  fetching(id: SaeId): (keys: number) => void {
    const counts = this.#masters.get(id)?.counts;
    return (keys) => {
      const master = this.#masters.get(id);
      // A count that ended meanwhile may have left them out already.
      if (master === undefined || master.counts !== counts) return;
      master.waiting = Math.max(0, master.waiting - keys);
    };
  }

  async #countAfter(master: Master, id: SaeId, ms: number): Promise<void> {
    const rest = Math.max(ms, Math.min(master.took * REST, MAX_REST_MS));
    if (this.#now() - master.countedAt < rest) return;
    await (master.counting ??= this.#count(master, id).finally(() => master.counting = undefined));
  }

  async #count(master: Master, id: SaeId): Promise<void> {
    const begin = this.#now();
    master.meanwhile = 0;
    const counted = await this.#store.keysWaiting(id);
    master.waiting = counted + master.meanwhile;
    master.counts++;
    master.countedAt = this.#now();
    master.took = master.countedAt - begin;
  }
}

function fits({ waiting, underWay }: Master, keys: number, max: number): boolean {
  return waiting + underWay + keys <= max;
}
