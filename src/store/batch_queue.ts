/**
 * Calls that wait at the same time share one transaction, so that one fsync or one round of statements serves many. A result
 * is returned only after the commit.
 */
import { setImmediate } from "node:timers";
import { StoreUnavailable } from "../domain/store_errors.ts";
import type { Availability } from "./availability.ts";
import type { Call, Executor } from "./engine/executor.ts";
import type { Operation } from "./work.ts";

/** Calls in one transaction. */
const MAX_BATCH = 256;

interface Pending extends Call {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
  /** Milliseconds of a monotonic clock. */
  readonly since: number;
  readonly onSent?: () => void;
}

export class BatchQueue {
  readonly #executor: Pick<Executor, "lanes" | "mayHang" | "run">;
  readonly #availability: Availability;
  readonly #limit: number;
  readonly #freeLanes: number[];
  #waiting: Pending[] = [];
  /** Calls that the time limit applies to, the oldest first. */
  readonly #limited = new Set<Pending>();
  readonly #onIdle: (() => void)[] = [];
  #scheduled = false;
  #batches = 0;
  #timer?: ReturnType<typeof setTimeout>;
  #closed = false;

  /** @param limit milliseconds after which a waiting caller gets StoreUnavailable. */
  constructor(
    executor: Pick<Executor, "lanes" | "mayHang" | "run">,
    availability: Availability,
    limit: number,
  ) {
    this.#executor = executor;
    this.#availability = availability;
    this.#limit = limit;
    this.#freeLanes = Array.from({ length: executor.lanes }, (_, lane) => lane);
  }

  /** Number of batches carried out. */
  get batches(): number {
    return this.#batches;
  }

  /** Whether a batch is under way whose callers already got an error. */
  get hangs(): boolean {
    return this.#limited.size === 0 && this.#freeLanes.length < this.#executor.lanes;
  }

  /**
   * Carries out a call, together with others that wait.
   *
   * @param onSent called when the database begins with it.
   * @throws StoreUnavailable when the database failed or no answer came in time.
   */
  submit<Item, Result>(
    operation: Operation<Item, Result>,
    item: Item,
    onSent?: () => void,
  ): Promise<Result> {
    if (this.#closed) return Promise.reject(new StoreUnavailable("it is closed", true));
    return this.#availability.call(() => this.#enqueue(operation, item, onSent));
  }

  #enqueue<Item, Result>(
    operation: Operation<Item, Result>,
    item: Item,
    onSent?: () => void,
  ): Promise<Result> {
    return new Promise<Result>((resolve, reject) => {
      const pending: Pending = {
        operation: operation as Operation<unknown, unknown>,
        item,
        resolve: resolve as (result: unknown) => void,
        reject,
        since: performance.now(),
        onSent,
      };
      this.#waiting.push(pending);
      this.#limited.add(pending);
      this.#timer ??= setTimeout(() => this.#dropLate(), this.#limit);
      this.#schedule();
    });
  }

  /** Accepts no more calls. Resolves when no call waits or runs, except for a batch that hangs. */
  close(): Promise<void> {
    this.#closed = true;
    return new Promise((resolve) => {
      this.#onIdle.push(resolve);
      this.#checkIdle();
    });
  }

  #schedule(): void {
    if (this.#scheduled || this.#waiting.length === 0 || this.#freeLanes.length === 0) return;
    this.#scheduled = true;
    // After the I/O of this turn, so that requests that arrived together share a batch.
    setImmediate(() => {
      this.#scheduled = false;
      const batch = this.#waiting.splice(0, MAX_BATCH);
      if (batch.length === 0) return;
      const lane = this.#freeLanes.shift()!;
      if (!this.#executor.mayHang) { for (const pending of batch) this.#limited.delete(pending); }
      void this.#run(batch, lane);
      for (const { onSent } of batch) onSent?.();
      this.#schedule();
    });
  }

  async #run(batch: readonly Pending[], lane: number): Promise<void> {
    const outcomes = await this.#executor.run(batch, lane);
    this.#batches++;
    if (outcomes.some((outcome) => "error" in outcome)) this.#availability.failed();
    batch.forEach((pending, i) => {
      this.#limited.delete(pending);
      const outcome = outcomes[i]!;
      if ("error" in outcome) pending.reject(outcome.error);
      else pending.resolve(outcome.result);
    });
    this.#freeLanes.push(lane);
    this.#schedule();
    this.#checkIdle();
  }

  /** Fails callers that have waited too long. A call that is dropped before it was sent is never carried out. */
  #dropLate(): void {
    this.#timer = undefined;
    const limit = performance.now() - this.#limit;
    const late = new Set<Pending>();
    for (const pending of this.#limited) {
      if (pending.since > limit) {
        this.#timer = setTimeout(() => this.#dropLate(), Math.max(1, pending.since - limit));
        break;
      }
      late.add(pending);
    }
    const unsent = new Set(this.#waiting);
    this.#waiting = this.#waiting.filter((pending) => !late.has(pending));
    if (late.size > 0) this.#availability.failed();
    for (const pending of late) {
      this.#limited.delete(pending);
      pending.reject(new StoreUnavailable("no answer in time", unsent.has(pending)));
    }
    this.#checkIdle();
  }

  #checkIdle(): void {
    const { lanes } = this.#executor;
    if (
      this.#waiting.length > 0 || (this.#freeLanes.length < lanes && !(this.#executor.mayHang && this.hangs))
    ) {
      return;
    }
    if (this.#closed) clearTimeout(this.#timer);
    for (const resolve of this.#onIdle.splice(0)) resolve();
  }
}
