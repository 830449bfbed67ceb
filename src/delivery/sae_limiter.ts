/** What a master SAE may have: with whom, how much in a second, how much that waits, how much of the stock. */
import type { KmeId, SaeId } from "../domain/ids.ts";
import { mayReach, type Sae } from "../domain/network.ts";
import { type Limit, LimitReached, NotAuthorized } from "../domain/refusals.ts";
import type { Store } from "../store/store.ts";
import { BitRate } from "./bit_rate.ts";
import type { Directory } from "./directory.ts";
import type { KeyObserver } from "./key_observer.ts";
import { type AdmittedKeys, WaitingKeys } from "./waiting_keys.ts";

/** Seconds after which a request is worth a try that found too many waiting keys, or too few blocks. */
export const RETRY_SECONDS = { max_waiting_keys: 5, reserve_share: 30 } as const;

/** What a request takes. */
export interface Wanted {
  /** Of all keys together. */
  readonly bits: number;
  /** Keys that wait for slaves of this KME. */
  readonly waitingKeys: number;
}

/** Why keys cannot be received, or what ends their admission. */
export type ReceivedAdmission = ReceivedRefusal | { readonly end: EndAdmission };

export interface ReceivedRefusal {
  readonly refusal: string;
  readonly limit?: "max_waiting_keys";
  /** To be called if the keys are refused; they are not if they are here already. */
  readonly refused?: () => void;
}

/** Ends an admission; told what became of the keys. */
export type EndAdmission = (keys: AdmittedKeys) => void;

export interface SaeLimitsOptions {
  readonly directory: Pick<Directory, "reserveOf">;
  readonly store: Pick<Store, "keysWaiting">;
  readonly observer: Pick<KeyObserver, "limited">;
}

export class SaeLimiter {
  readonly #options: SaeLimitsOptions;
  readonly #rate = new BitRate();
  readonly #waiting: WaitingKeys;

  constructor(options: SaeLimitsOptions) {
    this.#options = options;
    this.#waiting = new WaitingKeys(options.store);
  }

  /** @throws NotAuthorized when the master may not have keys with one of the slaves. */
  requireReach(master: Sae, slaves: readonly SaeId[]): void {
    const refused = slaves.find((slave) => !mayReach(master, slave));
    if (refused === undefined) return;
    throw new NotAuthorized(`SAE ${master.id.text} may not have keys with SAE ${refused}`);
  }

  /**
   * Admits a request of a master of this KME.
   *
   * @throws LimitReached, StoreUnavailable: nothing was taken.
   */
  async admit(master: Sae, wanted: Wanted): Promise<EndAdmission> {
    const { maxBitsPerSecond, maxWaitingKeys } = master.limits ?? {};
    const ends: EndAdmission[] = [];
    try {
      if (maxWaitingKeys !== undefined && wanted.waitingKeys > 0) {
        const keys = await this.#waiting.admit(master.id.text, wanted.waitingKeys, maxWaitingKeys);
        if (keys === undefined) {
          throw this.#reached(master, "max_waiting_keys", RETRY_SECONDS.max_waiting_keys);
        }
        ends.push(keys);
      }
      if (maxBitsPerSecond !== undefined) ends.push(this.#admitBits(master, wanted.bits, maxBitsPerSecond));
    } catch (error) {
      for (const end of ends) end("undelivered");
      throw error;
    }
    return (keys) => {
      for (const end of ends) end(keys);
    };
  }

  /**
   * Admits keys that a master of another KME gets for slaves of this one.
   *
   * @returns why not, or what ends the admission.
   * @throws StoreUnavailable
   */
  async admitReceived(
    master: Sae,
    slaves: readonly SaeId[],
    waitingKeys: number,
  ): Promise<ReceivedAdmission> {
    const refused = slaves.find((slave) => !mayReach(master, slave));
    if (refused !== undefined) {
      return { refusal: `SAE ${master.id.text} may not have keys with SAE ${refused}` };
    }
    const max = master.limits?.maxWaitingKeys;
    if (max === undefined || waitingKeys === 0) return { end: () => {} };
    const end = await this.#waiting.admit(master.id.text, waitingKeys, max);
    if (end !== undefined) return { end };
    const limit = "max_waiting_keys";
    const { id } = master;
    return {
      refusal: reachedMessage(id.text, limit),
      limit,
      refused: () => this.#options.observer.limited(id.text, limit),
    };
  }

  /**
   * A slave of this KME begins to fetch keys of a master.
   *
   * @returns to be called with the number of keys that then wait for no slave any more.
   */
  fetching(master: SaeId): (keys: number) => void {
    return this.#waiting.fetching(master);
  }

  /** Blocks of a link that are kept from an SAE. The database leaves them when it takes blocks for a request. */
  keptFrom(sae: SaeId, link: KmeId): number {
    const reserve = this.#options.directory.reserveOf(link);
    return reserve === undefined || reserve.saes.includes(sae) ? 0 : reserve.blocks;
  }

  #admitBits(master: Sae, bits: number, perSecond: number): EndAdmission {
    const seconds = this.#rate.take(master.id.text, bits, perSecond);
    if (seconds > 0) throw this.#reached(master, "max_bits_per_second", seconds);
    return (keys) => {
      if (keys !== "delivered") this.#rate.giveBack(master.id.text, bits);
    };
  }

  #reached({ id }: Sae, limit: Limit, seconds: number): LimitReached {
    this.#options.observer.limited(id.text, limit);
    return new LimitReached(reachedMessage(id.text, limit), limit, Math.max(1, Math.ceil(seconds)));
  }
}

function reachedMessage(sae: SaeId, limit: Limit): string {
  return `SAE ${sae} has reached its limit ${limit}`;
}
