/** The last hour: stock and rates. */
import type { Totals } from "../metrics/counts.ts";
import type { KmeStatus } from "../metrics/kme_status.ts";

/** Keys or blocks a second. */
export type Rates = Totals;

export interface Point {
  /** Milliseconds since 1970. */
  readonly at: number;
  /** Free blocks in the order of the status' links; null: not known. */
  readonly free: readonly (number | null)[];
  readonly rates: Rates;
}

const ZERO: Totals = { delivered: 0, collected: 0, takenUp: 0 };

/** Turns sums that only grow into rates over the last looks. */
export class RateMeter {
  readonly #looks: { readonly at: number; readonly totals: Totals }[] = [];
  readonly #window: number;

  /** @param window looks that a rate spans. */
  constructor(window: number) {
    this.#window = window;
  }

  /** @param at milliseconds of any steady clock. */
  look(at: number, totals: Totals): void {
    this.#looks.push({ at, totals });
    if (this.#looks.length > this.#window + 1) this.#looks.shift();
  }

  get rates(): Rates {
    const first = this.#looks[0];
    const last = this.#looks.at(-1);
    if (first === undefined || last === undefined || last.at <= first.at) return ZERO;
    const seconds = (last.at - first.at) / 1000;
    const rate = (name: keyof Totals) => round((last.totals[name] - first.totals[name]) / seconds);
    return { delivered: rate("delivered"), collected: rate("collected"), takenUp: rate("takenUp") };
  }
}

export class History {
  readonly #points: Point[] = [];
  readonly #length: number;

  /** @param length points kept. */
  constructor(length: number) {
    this.#length = length;
  }

  get points(): readonly Point[] {
    return this.#points;
  }

  add(at: number, { links }: KmeStatus, rates: Rates): Point {
    const point = { at, free: links.map(({ free }) => free), rates };
    this.#points.push(point);
    if (this.#points.length > this.#length) this.#points.shift();
    return point;
  }
}

function round(rate: number): number {
  return rate < 10 ? Math.round(rate * 100) / 100 : Math.round(rate);
}
