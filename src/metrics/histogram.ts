/** Durations in fixed buckets: one addition for each, whatever is asked of them later. */

/** Upper bounds in seconds. Neighbouring bounds differ by at most two thirds, and so does a quantile from its true value. */
export const DURATION_BOUNDS: readonly number[] = [
  ...[1e-4, 1e-3, 1e-2, 1e-1, 1].flatMap((power) =>
    [1, 1.5, 2, 3, 5, 7].map((factor) => Number((factor * power).toPrecision(2)))
  ),
  10,
  20,
];

export class Histogram {
  /** Durations up to each bound, and those above the last. */
  readonly buckets: number[] = new Array(DURATION_BOUNDS.length + 1).fill(0);
  /** Sum of all durations in seconds. */
  sum = 0;

  get count(): number {
    return this.buckets.reduce((sum, count) => sum + count, 0);
  }

  /** An upper bound of the shortest durations that are this part of all; 0 without any. */
  quantile(part: number): number {
    const wanted = part * this.count;
    let count = 0;
    const bucket = this.buckets.findIndex((inBucket) => inBucket > 0 && (count += inBucket) >= wanted);
    return bucket < 0 ? 0 : DURATION_BOUNDS[bucket] ?? Infinity;
  }

  record(seconds: number): void {
    let low = 0;
    let high = DURATION_BOUNDS.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (seconds <= DURATION_BOUNDS[middle]!) high = middle;
      else low = middle + 1;
    }
    this.buckets[low]!++;
    this.sum += seconds;
  }
}
