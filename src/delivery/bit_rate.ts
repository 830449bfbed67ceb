/** Limits the bits of keys that a master gets in a second, in this process. */
import type { SaeId } from "../domain/ids.ts";

/**
 * A request may take more than what a second brings; then the next one waits until that is made up for. So the mean over a
 * longer time is the limit, whatever the size of the requests.
 */
export class BitRate {
  readonly #now: () => number;
  /** By master: bits that may be taken now, negative after a large request, and when that was so. */
  readonly #masters = new Map<SaeId, { bits: number; at: number }>();

  /** @param now milliseconds of a monotonic clock. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /**
   * Takes bits.
   *
   * @param perSecond the limit.
   * @returns 0, or the seconds after which to try again: then nothing was taken.
   */
  take(id: SaeId, bits: number, perSecond: number): number {
    const now = this.#now();
    const master = this.#masters.getOrInsertComputed(id, () => ({ bits: perSecond, at: now }));
    master.bits = Math.min(perSecond, master.bits + (now - master.at) / 1000 * perSecond);
    master.at = now;
    const missing = Math.min(bits, perSecond) - master.bits;
    if (missing > 0) return missing / perSecond;
    master.bits -= bits;
    return 0;
  }

  /** Gives back bits that were not delivered. */
  giveBack(id: SaeId, bits: number): void {
    const master = this.#masters.get(id);
    if (master !== undefined) master.bits += bits;
  }
}
