/** Long work in slices, so that it does not block the thread. */
import { setImmediate } from "node:timers";

/** Milliseconds of work between two pauses. */
const SLICE_MS = 4;

/** Milliseconds in one turn after which {@linkcode ShortTurns} begins no other step. Short, because a request of others waits for several turns. */
const TURN_MS = 1;

/**
 * Limits how long one turn of the event loop lasts, for work whose steps come from several callers.
 *
 * ```ts
 * const turns = new ShortTurns();
 * for (const step of steps) {
 *   await turns.next(); // usually at once; after 1 ms in one turn, in the next turn
 *   step();
 * }
 * ```
 */
export class ShortTurns {
  /** When the current turn's first step began. */
  #begin: number | undefined;

  /** To be awaited before each step. */
  async next(): Promise<void> {
    if (this.#begin === undefined) {
      this.#begin = performance.now();
      setImmediate(() => this.#begin = undefined);
    } else if (performance.now() - this.#begin > TURN_MS) {
      await new Promise<void>((resolve) => setImmediate(() => resolve()));
    }
  }
}

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
