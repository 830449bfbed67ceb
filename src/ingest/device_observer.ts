/** What becomes of the keys of QKD devices, for counters, the log and the console. */
import type { KmeId } from "../domain/ids.ts";

/**
 * Why blocks of a device are in no stock. `unconfirmed`: the other end does not have them. `refused`: this end's device does not
 * have the key that the other end got. `different`: the two devices gave different bits. `unhealthy`: they do not look random.
 * `repeated`: they were stored before. `size`: the key has another size than the one that was requested. `unanswered`: the device's
 * answer was lost or could not be read, or this KME ended before it had stored them; at most so many.
 */
export const DEVICE_LOSSES = [
  "unconfirmed",
  "refused",
  "different",
  "unhealthy",
  "repeated",
  "size",
  "unanswered",
] as const;

export type DeviceLoss = (typeof DEVICE_LOSSES)[number];

export interface DeviceObserver {
  /** Blocks came into stock. `asked`: this end had requested them from its device; otherwise the other end had. */
  stored(link: KmeId, blocks: number, asked: boolean): void;
  lost(link: KmeId, loss: DeviceLoss, blocks: number): void;
  /** Bits of keys that are not a whole block. */
  rest(link: KmeId, bits: number): void;
  /** Something keeps keys from coming, or does so no longer. */
  problem(link: KmeId, problem: string | undefined): void;
  /** The two ends have different opinions on which of them requests keys, or agree now. Keys come all the same. */
  conflict(link: KmeId, conflict: string | undefined): void;
}

/** The state of a link's device. */
export interface DeviceState {
  readonly link: KmeId;
  /** Host and port. */
  readonly device: string;
  /** Whether the device answered last; absent: it was not asked yet. */
  readonly up?: boolean;
  readonly since?: Date;
  /** What keeps keys from coming now. */
  readonly problem?: string;
  /** Keys in the device's own stock, when it was last asked. */
  readonly stock?: number;
  /** Whether this end requests new keys. */
  readonly asks: boolean;
  /** Blocks of the device that came into stock in the last minute. */
  readonly lastMinute: number;
  /** Blocks that the other end has not confirmed yet. */
  readonly unconfirmed: number;
}

/** Counts what happened in the last minute. */
export class LastMinute {
  readonly #seconds = new Float64Array(60);
  #at = Math.floor(performance.now() / 1000);

  add(count: number): void {
    this.#advance();
    this.#seconds[this.#at % 60]! += count;
  }

  get sum(): number {
    this.#advance();
    return this.#seconds.reduce((sum, count) => sum + count, 0);
  }

  #advance(): void {
    const now = Math.floor(performance.now() / 1000);
    for (let at = Math.max(this.#at + 1, now - 59); at <= now; at++) this.#seconds[at % 60] = 0;
    this.#at = now;
  }
}
