/** Long work in slices, so that it does not block the thread. */

/** Milliseconds of work between two pauses. */
const SLICE_MS = 4;

/** Work that can be interrupted wherever it yields. */
export type Steps<T = void> = Generator<void, T>;

/** Does all the work, with pauses in which other work can run; rejects with what it throws. */
export async function inSlices<T>(steps: Steps<T>): Promise<T> {
  let end = performance.now() + SLICE_MS;
  while (true) {
    const { done, value } = steps.next();
    if (done) return value;
    if (performance.now() < end) continue;
    await new Promise((resolve) => setTimeout(resolve, 0));
    end = performance.now() + SLICE_MS;
  }
}
