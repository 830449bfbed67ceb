/** Notices when the system clock is set while the program runs. */

/** Milliseconds between two looks. */
const PERIOD_MS = 1000;

/** Milliseconds by which the two clocks may differ after that: what is corrected gradually stays far below. */
const STEP_MS = 2000;

/**
 * Compares the system clock with the monotonic clock.
 *
 * @param onStep told by how many milliseconds the clock was set forward, or back when negative.
 * @returns ends it.
 */
export function startClockWatch(onStep: (ms: number) => void): () => void {
  const difference = () => Date.now() - performance.now();
  let last = difference();
  const timer = setInterval(() => {
    const now = difference();
    if (Math.abs(now - last) > STEP_MS) onStep(now - last);
    last = now;
  }, PERIOD_MS);
  return () => clearInterval(timer);
}
