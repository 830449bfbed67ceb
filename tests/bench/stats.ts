/** Summaries of interleaved runs. */

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { median, min: sorted[0]!, max: sorted.at(-1)! };
}

/** Ratios of each run, so that a drift of the machine's speed does not matter. */
export function ratios(values: readonly number[], baseline: readonly number[]): Spread {
  return spread(values.map((value, i) => value / baseline[i]!));
}

export function round(value: number): number {
  if (!Number.isFinite(value)) return value;
  return value >= 100 ? Math.round(value) : Number(value.toPrecision(3));
}
