/** The history as the page keeps it: counts by interval, and what is calculated from them. */

/** Milliseconds of the times that can be chosen. */
export const RANGES = [
  { name: "15 min", words: "15 minutes", milliseconds: 900_000 },
  { name: "1 h", words: "hour", milliseconds: 3_600_000 },
  { name: "24 h", words: "24 hours", milliseconds: 86_400_000 },
];

const FINE_POINTS = 360;
const COARSE_POINTS = 288;

export class Series {
  #fine = [];
  #coarse = [];
  #bounds = [];

  begin({ fine, coarse, bounds }) {
    this.#fine = fine;
    this.#coarse = coarse;
    this.#bounds = bounds;
  }

  add({ fine, coarse }) {
    if (fine) this.#fine = [...this.#fine, fine].slice(-FINE_POINTS);
    if (coarse) this.#coarse = [...this.#coarse, coarse].slice(-COARSE_POINTS);
  }

  /** Points of the last `milliseconds`, oldest first, none finer than can be drawn. */
  points(milliseconds, now) {
    const isRecent = ({ at }) => now - at <= milliseconds;
    if (milliseconds <= 3_600_000) return this.#fine.filter(isRecent);
    const end = this.#coarse.at(-1)?.at ?? 0;
    const rest = this.#fine.filter(({ at }) => at > end);
    const points = rest.length === 0 ? this.#coarse : [...this.#coarse, merge(rest)];
    return points.filter(isRecent);
  }

  /** Seconds within which a part of the durations lies; null if there are none. */
  quantile(part, buckets) {
    const total = buckets.reduce((sum, [, count]) => sum + count, 0);
    let wanted = part * total;
    for (const [bucket, count] of buckets) {
      if (wanted <= count) {
        const low = bucket === 0 ? 0 : this.#bounds[bucket - 1];
        const high = this.#bounds[bucket] ?? low;
        return low + (high - low) * (wanted / count);
      }
      wanted -= count;
    }
    return null;
  }
}

/** One point for several; counts of no point at all are 0. */
export function merge(points) {
  const total = (name) => points.reduce((sum, point) => sum + point[name], 0);
  const refused = {};
  const durations = { enc_keys: [], dec_keys: [], activation: [] };
  for (const point of points) {
    for (const [name, count] of Object.entries(point.refused)) refused[name] = (refused[name] ?? 0) + count;
  }
  for (const name of Object.keys(durations)) {
    const buckets = new Map();
    for (const point of points) {
      for (const [bucket, count] of point.durations[name]) {
        buckets.set(bucket, (buckets.get(bucket) ?? 0) + count);
      }
    }
    durations[name] = [...buckets].sort(([a], [b]) => a - b);
  }
  return {
    at: points.at(-1)?.at ?? 0,
    free: points.at(-1)?.free ?? {},
    seconds: total("seconds"),
    delivered: total("delivered"),
    collected: total("collected"),
    ingested: total("ingested"),
    burnt: total("burnt"),
    refused,
    durations,
  };
}

/** A count of a point as a rate per second. */
export function rate(count, { seconds }) {
  return count / Math.max(1, seconds);
}

/** All refused requests of a point. */
export function refusedOf({ refused }) {
  return Object.values(refused).reduce((sum, count) => sum + count, 0);
}
