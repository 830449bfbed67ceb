/** Work that would hold up everything else, in slices. */

/** Milliseconds of work after which others have their turn. */
const SLICE_MS = 4;

/** Work that can be interrupted wherever it yields. */
export type Steps<T = void> = Generator<void, T>;

/** Does the work to its end, with pauses for others; rejects with what it throws. */
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
