/** Waits for states for which there is no event. */

export interface EventuallyOptions {
  /** Time limit in milliseconds; 10 s by default. */
  timeout?: number;
  /** Milliseconds between two calls; 20 by default. */
  interval?: number;
  /** What is awaited, for the error message. */
  what?: string;
}

/**
 * Calls `look` repeatedly until it returns something truthy without throwing, and returns that.
 *
 * @throws Error when the time limit has passed; its cause is what `look` threw last.
 */
export async function eventually<T>(
  look: () => T | Promise<T>,
  options: EventuallyOptions = {},
): Promise<Exclude<T, undefined | null | false | 0 | "">> {
  const { timeout = 10_000, interval = 20, what = "the expected state" } = options;
  const end = performance.now() + timeout;
  while (true) {
    let cause: unknown;
    try {
      const seen = await look();
      if (seen) return seen as Exclude<T, undefined | null | false | 0 | "">;
    } catch (error) {
      cause = error;
    }
    if (performance.now() >= end) throw new Error(`${what} did not come within ${timeout} ms`, { cause });
    await new Promise((resolve) => setTimeout(resolve, interval));
  }
}
