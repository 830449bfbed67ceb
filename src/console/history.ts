/** What happened in the last day, as counts by interval: 10 s each for the last hour, 5 min each for the last 24 h. */
import { type Counts, sum } from "../metrics/counts.ts";
import type { Histogram } from "../metrics/histogram.ts";
import type { KmeStatus } from "../metrics/kme_status.ts";

/** What is measured: two requests of SAEs, and an exchange with a peer. */
export type Measured = "enc_keys" | "dec_keys" | "activation";

/** Non-empty buckets of a histogram: index and count. */
export type Buckets = readonly (readonly [bucket: number, count: number])[];

/** One interval. */
export interface Point {
  /** Its end, milliseconds since 1970. */
  readonly at: number;
  readonly seconds: number;
  /** Free blocks by link at the end; null: not known. */
  readonly free: Readonly<Record<string, number | null>>;
  /** Keys delivered to masters. */
  readonly delivered: number;
  /** Keys fetched by slaves. */
  readonly collected: number;
  /** Blocks stored from key files. */
  readonly ingested: number;
  readonly burnt: number;
  /** Refused requests by `listener reason`. */
  readonly refused: Readonly<Record<string, number>>;
  readonly durations: Readonly<Record<Measured, Buckets>>;
}

/** Sums that only grow. */
interface Sums {
  readonly at: number;
  readonly delivered: number;
  readonly collected: number;
  readonly ingested: number;
  readonly burnt: number;
  readonly refused: ReadonlyMap<string, number>;
  readonly durations: Readonly<Record<Measured, readonly number[]>>;
}

const MEASURED: readonly Measured[] = ["enc_keys", "dec_keys", "activation"];

/** Turns counts that only grow into what was added since the last reading. */
export class Sampler {
  readonly #counts: Counts;
  #last: Sums;

  /** @param at milliseconds of a steady clock. */
  constructor(counts: Counts, at: number) {
    this.#counts = counts;
    this.#last = sumsOf(counts, at);
  }

  /**
   * @param at milliseconds of the same clock.
   * @param now milliseconds since 1970.
   */
  sample(at: number, now: number, links: KmeStatus["links"] = []): Point {
    const last = this.#last;
    const sums = this.#last = sumsOf(this.#counts, at);
    return {
      at: now,
      seconds: (at - last.at) / 1000,
      free: Object.fromEntries(links.map(({ kme, free }) => [kme, free])),
      delivered: sums.delivered - last.delivered,
      collected: sums.collected - last.collected,
      ingested: sums.ingested - last.ingested,
      burnt: sums.burnt - last.burnt,
      refused: Object.fromEntries(
        [...sums.refused].map(([name, count]) => [name, count - (last.refused.get(name) ?? 0)] as const)
          .filter(([, count]) => count > 0),
      ),
      durations: mapMeasured((each) => difference(sums.durations[each], last.durations[each])),
    };
  }
}

export interface HistorySizes {
  /** Points kept. */
  readonly fine: number;
  readonly coarse: number;
  /** Ticks in a fine point, and fine points in a coarse one. */
  readonly ticksPerFine: number;
  readonly finePerCoarse: number;
}

/** What a tick has completed. */
export interface Completed {
  readonly fine?: Point;
  readonly coarse?: Point;
}

export class History {
  readonly #fine: Point[] = [];
  readonly #coarse: Point[] = [];
  readonly #sizes: HistorySizes;
  /** The latest ticks, as many as a fine point has. */
  readonly #ticks: Point[] = [];
  /** Ticks that are in no fine point yet. */
  #openTicks: Point[] = [];
  /** Fine points that are in no coarse one yet. */
  #openFine: Point[] = [];

  constructor(sizes: HistorySizes = { fine: 360, coarse: 288, ticksPerFine: 5, finePerCoarse: 30 }) {
    this.#sizes = sizes;
  }

  /** Oldest first. */
  get fine(): readonly Point[] {
    return this.#fine;
  }

  /** Complete ones, oldest first. */
  get coarse(): readonly Point[] {
    return this.#coarse;
  }

  /** The latest ticks together. */
  get live(): Point | undefined {
    return this.#ticks.length === 0 ? undefined : mergePoints(this.#ticks);
  }

  /** Whether the next tick completes a fine point: only then its stock is needed. */
  get isFineNext(): boolean {
    return this.#fine.length === 0 || this.#openTicks.length + 1 >= this.#sizes.ticksPerFine;
  }

  add(tick: Point): Completed {
    const isFine = this.isFineNext;
    push(this.#ticks, tick, this.#sizes.ticksPerFine);
    this.#openTicks.push(tick);
    if (!isFine) return {};
    const fine = mergePoints(this.#openTicks);
    this.#openTicks = [];
    push(this.#fine, fine, this.#sizes.fine);
    this.#openFine.push(fine);
    if (this.#openFine.length < this.#sizes.finePerCoarse) return { fine };
    const coarse = mergePoints(this.#openFine);
    this.#openFine = [];
    push(this.#coarse, coarse, this.#sizes.coarse);
    return { fine, coarse };
  }

  /** What {@linkcode restore} needs; the last coarse point may be incomplete. */
  get kept(): { readonly fine: readonly Point[]; readonly coarse: readonly Point[] } {
    const open = this.#openFine.length === 0 ? [] : [mergePoints(this.#openFine)];
    return { fine: this.#fine, coarse: [...this.#coarse, ...open] };
  }

  /** Puts back what an earlier process has saved; called before the first tick. */
  restore({ fine, coarse }: { readonly fine: readonly Point[]; readonly coarse: readonly Point[] }): void {
    this.#fine.push(...fine.slice(-this.#sizes.fine));
    this.#coarse.push(...coarse.slice(-this.#sizes.coarse));
  }
}

/** One point for several that follow each other; at least one. */
function mergePoints(points: readonly Point[]): Point {
  const last = points.at(-1)!;
  const total = (name: "seconds" | "delivered" | "collected" | "ingested" | "burnt") =>
    sum(points.map((point) => point[name]));
  const refused: Record<string, number> = {};
  for (const point of points) {
    for (const [name, count] of Object.entries(point.refused)) refused[name] = (refused[name] ?? 0) + count;
  }
  return {
    at: last.at,
    seconds: total("seconds"),
    free: last.free,
    delivered: total("delivered"),
    collected: total("collected"),
    ingested: total("ingested"),
    burnt: total("burnt"),
    refused,
    durations: mapMeasured((each) => {
      const buckets = new Map<number, number>();
      for (const point of points) {
        for (const [bucket, count] of point.durations[each]) {
          buckets.set(bucket, (buckets.get(bucket) ?? 0) + count);
        }
      }
      return [...buckets].sort(([a], [b]) => a - b);
    }),
  };
}

function push(points: Point[], point: Point, size: number): void {
  points.push(point);
  if (points.length > size) points.shift();
}

function sumsOf(counts: Counts, at: number): Sums {
  const refused = new Map<string, number>();
  for (const { listener, reason, count } of counts.refusals.values()) {
    const name = `${listener} ${reason}`;
    refused.set(name, (refused.get(name) ?? 0) + count);
  }
  return {
    at,
    delivered: sum(counts.delivered.values()),
    collected: counts.collected,
    ingested: sum(counts.ingestion.values().map(({ stored }) => stored)),
    burnt: sum(Object.values(counts.burnt)),
    refused,
    durations: {
      enc_keys: [...counts.durations.enc_keys.buckets],
      dec_keys: [...counts.durations.dec_keys.buckets],
      activation: addUp(counts.activations.values().map(({ durations }) => durations)),
    },
  };
}

function addUp(histograms: Iterable<Histogram>): number[] {
  const all: number[] = [];
  for (const { buckets } of histograms) {
    for (const [i, count] of buckets.entries()) all[i] = (all[i] ?? 0) + count;
  }
  return all;
}

function difference(after: readonly number[], before: readonly number[]): Buckets {
  return after.map((count, bucket) => [bucket, count - (before[bucket] ?? 0)] as const)
    .filter(([, count]) => count > 0);
}

function mapMeasured<T>(make: (each: Measured) => T): Record<Measured, T> {
  return Object.fromEntries(MEASURED.map((each) => [each, make(each)])) as Record<Measured, T>;
}
