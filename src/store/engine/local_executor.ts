/** The database in this thread. */
import { Kysely, type Transaction } from "kysely";
import type { KmeId } from "../../domain/ids.ts";
import type { Link } from "../../domain/link.ts";
import { StoreUnavailable, StoreUnusable } from "../../domain/store_errors.ts";
import { errorMessage } from "../../domain/text.ts";
import type { StoreDialect } from "../dialects/dialect.ts";
import { STOCK_SLOTS } from "../migrations/0001_initial.ts";
import type { DamagedBits } from "../damaged_bits.ts";
import type { BitsCipher } from "../encryption/bits_cipher.ts";
import { applyStock, freeBlocks } from "../stock.ts";
import { StockChanges } from "../stock_changes.ts";
import type { DatabaseTime } from "../store_clock.ts";
import type { Schema } from "../table_schema.ts";
import type { Operation, StatementTexts, Work } from "../work.ts";
import type { Call, Executor, Outcome, Query } from "./executor.ts";
import { type Parties, prepareDatabase } from "./opening.ts";

/** Attempts at a transaction that collides with others. */
const MAX_ATTEMPTS = 12;

export interface LocalOptions extends Parties {
  /** The opened database; the executor closes it. */
  readonly dialect: StoreDialect;
  /** Called for every failure of the database, once per failed transaction. */
  readonly onFailure: (error: unknown) => void;
  /** Called with what a transaction has found damaged, after it has ended. */
  readonly onDamaged: (found: readonly DamagedBits[]) => void;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

export class LocalExecutor implements Executor {
  readonly databaseId: Uint8Array;
  readonly openedAt: DatabaseTime;
  readonly links: ReadonlyMap<KmeId, Link>;
  readonly stock: Map<number, number>;
  readonly blocking: boolean;
  readonly failed: Promise<string>;
  readonly lanes: number;
  /** False: the dialects of servers have their own time limits. */
  readonly mayHang = false;
  readonly #db: Kysely<Schema>;
  readonly #dialect: StoreDialect;
  /** The first of the stock's slots that this process uses, chosen so that processes use different ones. */
  readonly #firstSlot: number;
  readonly encrypts: boolean;
  readonly #cipher: BitsCipher;
  readonly #onFailure: (error: unknown) => void;
  readonly #onDamaged: (found: readonly DamagedBits[]) => void;
  readonly #now: () => number;
  readonly #texts: StatementTexts = new Map();
  readonly #failed = Promise.withResolvers<string>();
  /** Why this process must not use the database any more. */
  #over?: StoreUnusable;

  private constructor(
    db: Kysely<Schema>,
    { databaseId, links, time, cipher }: {
      databaseId: Uint8Array;
      links: ReadonlyMap<KmeId, Link>;
      time: DatabaseTime;
      cipher: BitsCipher;
    },
    stock: Map<number, number>,
    { dialect, processId, onFailure, onDamaged, now }: LocalOptions,
  ) {
    this.#db = db;
    this.failed = this.#failed.promise;
    this.databaseId = databaseId;
    this.openedAt = time;
    this.links = links;
    this.stock = stock;
    this.blocking = dialect.exclusive;
    this.lanes = dialect.lanes;
    this.#dialect = dialect;
    this.#firstSlot = processId[0]! % STOCK_SLOTS;
    this.encrypts = cipher.encrypts;
    this.#cipher = cipher;
    this.#onFailure = onFailure;
    this.#onDamaged = onDamaged;
    this.#now = now;
  }

  /**
   * Creates or migrates the tables.
   *
   * @throws StoreUnusable with one clear line when the database cannot be used.
   */
  static async open(options: LocalOptions): Promise<LocalExecutor> {
    const { dialect } = options;
    const db = new Kysely<Schema>({ dialect: dialect.kysely });
    try {
      const prepared = await prepareDatabase(db, dialect, options);
      const stock = new Map<number, number>();
      if (dialect.exclusive) {
        for (const { id } of prepared.links.values()) stock.set(id, await freeBlocks(db, id));
      }
      return new LocalExecutor(db, prepared, stock, options);
    } catch (error) {
      await db.destroy().catch(() => {});
      if (error instanceof StoreUnusable) throw error;
      throw new StoreUnusable(`cannot open the database: ${errorMessage(error)}`, { cause: error });
    }
  }

  async run(batch: readonly Call[], lane: number): Promise<readonly Outcome[]> {
    const progress = { begun: false };
    try {
      if (this.#over !== undefined) throw this.#over;
      const results = await this.#transaction(batch, lane, progress);
      return results.map((result) => ({ result }));
    } catch (error) {
      if (error instanceof StoreUnusable) this.#lose(error);
      else if (this.#dialect.classify(error) === "fault" && batch.length > 1) {
        // One caller's statement must not fail the others.
        const outcomes: Outcome[] = [];
        for (const call of batch) outcomes.push(...await this.run([call], lane));
        return outcomes;
      }
      this.#onFailure(error);
      return batch.map(() => ({ error: new StoreUnavailable(error, !progress.begun) }));
    }
  }

  async read<Item, Result>(query: Query<Item, Result>, item: Item): Promise<Result> {
    try {
      if (this.#over !== undefined) throw this.#over;
      return await query.run(this.#db, item, this.#cipher);
    } catch (error) {
      this.#onFailure(error);
      throw new StoreUnavailable(error);
    }
  }

  async close(): Promise<void> {
    await this.#db.destroy();
  }

  terminate(): void {}

  #lose(reason: StoreUnusable): void {
    this.#over ??= reason;
    this.#failed.resolve(reason.message);
  }

  async #transaction(
    batch: readonly Call[],
    lane: number,
    progress: { begun: boolean },
  ): Promise<unknown[]> {
    for (let attempt = 1;; attempt++) {
      let cause: unknown;
      try {
        const changes = new StockChanges();
        const damaged: DamagedBits[] = [];
        const results = await this.#db.transaction().execute((trx) => {
          progress.begun = true;
          return this.#operate(trx, batch, lane, changes, damaged).catch((error) => {
            cause = error;
            throw error;
          });
        });
        if (damaged.length > 0) this.#onDamaged(damaged);
        for (const [linkId, change] of changes) {
          const free = this.stock.get(linkId);
          if (free !== undefined) this.stock.set(linkId, free + change);
        }
        return results;
      } catch (error) {
        // If the rollback fails too, the first error is the cause.
        cause ??= error;
        if (attempt === MAX_ATTEMPTS || this.#dialect.classify(cause) !== "again") throw cause;
        // A random pause, so that the same transactions do not collide again.
        await pause(Math.random() * Math.min(100, 2 ** attempt));
      }
    }
  }

  async #operate(
    trx: Transaction<Schema>,
    batch: readonly Call[],
    lane: number,
    stock: StockChanges,
    damaged: DamagedBits[],
  ): Promise<unknown[]> {
    const work: Work = {
      trx,
      dialect: this.#dialect,
      now: this.#now(),
      slot: (this.#firstSlot + lane) % STOCK_SLOTS,
      stock,
      cipher: this.#cipher,
      damaged,
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

/** In a fixed order, so that two transactions do not lock the stocks of links in opposite orders. */
function byOperation(batch: readonly Call[]): Map<Operation<unknown, unknown>, number[]> {
  const groups = new Map<Operation<unknown, unknown>, number[]>();
  batch.forEach(({ operation }, place) => {
    const places = groups.get(operation);
    if (places === undefined) groups.set(operation, [place]);
    else places.push(place);
  });
  return new Map([...groups].sort(([a], [b]) => a.name < b.name ? -1 : 1));
}
