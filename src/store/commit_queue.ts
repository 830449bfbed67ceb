/**
 * Operations that wait at the same moment share one transaction, so one fsync or one round of statements serves many.
 * A result is given out only after the commit.
 */
import type { Kysely, Transaction } from "kysely";
import { setImmediate } from "node:timers";
import type { StoreDialect } from "./dialects/dialect.ts";
import { StoreUnavailable } from "../domain/store_errors.ts";
import type { Schema } from "./table_schema.ts";
import { applyStock } from "./stock.ts";
import { StockChanges } from "./stock_changes.ts";
import type { Operation, StatementTexts, Work } from "./work.ts";

interface Waiting {
  readonly operation: Operation<unknown, unknown>;
  readonly item: unknown;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
  readonly since: number;
}

/** Callers in one transaction. */
const MAX_BATCH = 256;

/** Milliseconds after which a caller that still waits for its turn is told that the store is unavailable. */
export const PATIENCE_MS = 5000;

/** Attempts at a transaction that lost against another one. */
const MAX_ATTEMPTS = 12;

export class CommitQueue {
  readonly #db: Kysely<Schema>;
  readonly #dialect: StoreDialect;
  readonly #firstSlot: number;
  readonly #slots: number;
  readonly #onFailure: (error: unknown) => void;
  readonly #now: () => number;
  readonly #freeLanes: number[];
  readonly #texts: StatementTexts = new Map();
  readonly #idle: (() => void)[] = [];
  readonly #onCommit: (stock: StockChanges) => void;
  #waiting: Waiting[] = [];
  #scheduled = false;
  #patience?: ReturnType<typeof setTimeout>;

  /** @param firstSlot where this process starts among the stock's `slots`, so that processes spread over them. */
  constructor(
    db: Kysely<Schema>,
    dialect: StoreDialect,
    options: {
      firstSlot: number;
      slots: number;
      onFailure: (error: unknown) => void;
      /** Milliseconds since 1970. */
      now: () => number;
      /** Told of the changes of stock after each commit. */
      onCommit?: (stock: StockChanges) => void;
    },
  ) {
    this.#db = db;
    this.#dialect = dialect;
    this.#firstSlot = options.firstSlot;
    this.#slots = options.slots;
    this.#onFailure = options.onFailure;
    this.#onCommit = options.onCommit ?? (() => {});
    this.#now = options.now;
    this.#freeLanes = Array.from({ length: dialect.lanes }, (_, lane) => lane);
  }

  /**
   * Runs an operation with whatever else waits.
   *
   * @throws StoreUnavailable when the database failed or no turn came in time.
   */
  submit<Item, Result>(operation: Operation<Item, Result>, item: Item): Promise<Result> {
    return new Promise<Result>((resolve, reject) => {
      this.#waiting.push({
        operation: operation as Operation<unknown, unknown>,
        item,
        resolve: resolve as (result: unknown) => void,
        reject,
        since: Date.now(),
      });
      this.#schedule();
    });
  }

  /** Resolves when nothing waits or runs. */
  drained(): Promise<void> {
    return new Promise((resolve) => {
      this.#idle.push(resolve);
      this.#resolveIdle();
    });
  }

  #schedule(): void {
    if (this.#scheduled || this.#waiting.length === 0) return;
    if (this.#freeLanes.length === 0) {
      // Every lane is busy, maybe with a database that does not answer.
      this.#patience ??= setTimeout(() => this.#dropLate(), PATIENCE_MS);
      return;
    }
    this.#scheduled = true;
    // After the I/O of this turn: requests that have arrived together go together.
    setImmediate(() => {
      this.#scheduled = false;
      const lane = this.#freeLanes.shift();
      if (lane === undefined) return this.#schedule();
      const batch = this.#waiting.splice(0, MAX_BATCH);
      this.#runBatch(batch, lane).finally(() => {
        this.#freeLanes.push(lane);
        this.#schedule();
        this.#resolveIdle();
      });
      this.#schedule();
    });
  }

  #dropLate(): void {
    this.#patience = undefined;
    const limit = Date.now() - PATIENCE_MS;
    const late = this.#waiting.filter((waiting) => waiting.since <= limit);
    this.#waiting = this.#waiting.filter((waiting) => waiting.since > limit);
    for (const waiting of late) waiting.reject(new StoreUnavailable("no turn in time"));
    const next = this.#waiting[0];
    if (next !== undefined) {
      this.#patience = setTimeout(() => this.#dropLate(), Math.max(1, next.since + PATIENCE_MS - Date.now()));
    }
  }

  #resolveIdle(): void {
    if (this.#waiting.length > 0 || this.#freeLanes.length < this.#dialect.lanes) return;
    if (this.#patience !== undefined) clearTimeout(this.#patience);
    this.#patience = undefined;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  async #runBatch(batch: readonly Waiting[], lane: number): Promise<void> {
    try {
      const results = await this.#transaction(batch, lane);
      batch.forEach((waiting, i) => waiting.resolve(results[i]));
    } catch (error) {
      const failure = this.#dialect.classify(error);
      if (failure === "fault" && batch.length > 1) {
        // One caller's statement must not fail the others.
        for (const waiting of batch) await this.#runBatch([waiting], lane);
        return;
      }
      this.#onFailure(error);
      for (const waiting of batch) waiting.reject(new StoreUnavailable(error));
    }
  }

  async #transaction(batch: readonly Waiting[], lane: number): Promise<unknown[]> {
    for (let attempt = 1;; attempt++) {
      let cause: unknown;
      try {
        const stock = new StockChanges();
        const results = await this.#db.transaction().execute((trx) =>
          this.#operate(trx, batch, lane, stock).catch((error) => {
            cause = error;
            throw error;
          })
        );
        this.#onCommit(stock);
        return results;
      } catch (error) {
        // Where the rollback fails too, the first error says why.
        cause ??= error;
        if (attempt === MAX_ATTEMPTS || this.#dialect.classify(cause) !== "again") throw cause;
        // At different moments, or the same ones meet again.
        await pause(Math.random() * Math.min(100, 2 ** attempt));
      }
    }
  }

  async #operate(
    trx: Transaction<Schema>,
    batch: readonly Waiting[],
    lane: number,
    stock: StockChanges,
  ): Promise<unknown[]> {
    const work: Work = {
      trx,
      dialect: this.#dialect,
      now: this.#now(),
      slot: (this.#firstSlot + lane) % this.#slots,
      stock,
      texts: this.#texts,
    };
    const results = new Array<unknown>(batch.length);
    for (const [operation, places] of byOperation(batch)) {
      const part = await operation.run(work, places.map((place) => batch[place]!.item));
      places.forEach((place, i) => results[place] = part[i]);
    }
    await applyStock(work);
    return results;
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function byOperation(batch: readonly Waiting[]): Map<Operation<unknown, unknown>, number[]> {
  const groups = new Map<Operation<unknown, unknown>, number[]>();
  batch.forEach(({ operation }, place) => {
    const places = groups.get(operation);
    if (places === undefined) groups.set(operation, [place]);
    else places.push(place);
  });
  return groups;
}
