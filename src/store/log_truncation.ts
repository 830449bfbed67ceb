/**
 * Empties the write-ahead log of an SQLite file while the program runs. In the file itself, deleted content is overwritten
 * (`secure_delete`), but the log holds copies of pages with bits that were spent since.
 */

/** Milliseconds between two truncations; nothing is done while nothing changes. */
const PERIOD_MS = 10_000;

/**
 * @param changes a number that differs whenever something was written.
 * @param truncate may reject; it is called again.
 * @returns ends it.
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
