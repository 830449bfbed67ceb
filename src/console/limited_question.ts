/** Questions to a database that may not answer. */
import { within } from "../domain/within.ts";

export interface QuestionLimits {
  /** Milliseconds to wait for an answer. */
  readonly timeout: number;
  /** How long an answer may be reused, as a multiple of the time that it took; 0: always ask again. */
  readonly rest?: number;
}

/**
 * Asks a question, but never twice at the same time.
 *
 * @returns a function that resolves with the answer, or with null if there is none in time or the question failed.
 */
export function limitQuestion<T>(
  ask: () => Promise<T>,
  { timeout, rest = 0 }: QuestionLimits,
): () => Promise<T | null> {
  let asking: Promise<T | null> | undefined;
  let last: T | null = null;
  let goodUntil = -Infinity;
  return async () => {
    if (performance.now() < goodUntil) return last;
    if (asking === undefined) {
      const begin = performance.now();
      asking = Promise.try(ask).catch(() => null).then((answer) => {
        const end = performance.now();
        asking = undefined;
        last = answer;
        goodUntil = answer === null ? -Infinity : end + (end - begin) * rest;
        return answer;
      });
    }
    return await within(asking, timeout, () => null);
  };
}
