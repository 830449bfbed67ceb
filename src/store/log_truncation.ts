/**
 * Empties the write-ahead log of an SQLite file while the program runs. SQLite overwrites deleted content in the file itself
 * (`secure_delete`), but the log still has copies of pages with bits of keys that were deleted since.
 */

/** Milliseconds between two truncations; skipped while nothing was written. */
const PERIOD_MS = 10_000;

/**
 * @param changes a number that differs whenever something was written.
 * @param truncate may reject; it is called again.
 * @returns a function that stops it.
 */
export function startLogTruncation(changes: () => number, truncate: () => Promise<unknown>): () => void {
  let truncated: number | undefined;
  let running = false;
  const timer = setInterval(async () => {
    const seen = changes();
    if (running || seen === truncated) return;
    running = true;
    try {
      await truncate();
      truncated = seen;
    } catch {
      // The store reports its own failures.
    }
    running = false;
  }, PERIOD_MS);
  return () => clearInterval(timer);
}
