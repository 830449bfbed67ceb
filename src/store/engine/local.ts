/** The database in this thread. */
import { Kysely } from "kysely";
import type { KmeId } from "../../domain/ids.ts";
import { CommitQueue } from "../commit_queue.ts";
import type { Operation } from "../work.ts";
import type { StoreDialect } from "../dialects/dialect.ts";
import { StoreUnavailable, StoreUnusable } from "../../domain/store_errors.ts";
import type { Link } from "../../domain/link.ts";
import { STOCK_SLOTS } from "../migrations/0001_initial.ts";
import type { Schema } from "../table_schema.ts";
import { freeBlocks } from "../stock.ts";
import type { Engine, Query } from "./engine.ts";
import { type Parties, prepareDatabase } from "./opening.ts";
import { errorMessage } from "../../domain/text.ts";

export interface LocalOptions extends Parties {
  /** The opened database; the engine closes it. */
  readonly dialect: StoreDialect;
  /** Identifies this process among those that share the database. */
  readonly processId: Uint8Array;
  /** Told of every failure of the database, once per failed transaction. */
  readonly onFailure: (error: unknown) => void;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

export class LocalEngine implements Engine {
  readonly links: ReadonlyMap<KmeId, Link>;
  readonly stock: ReadonlyMap<number, number>;
  readonly blocking: boolean;
  /** Never: what is lost here is this process. */
  readonly failed: Promise<string> = new Promise(() => {});
  readonly #db: Kysely<Schema>;
  readonly #queue: CommitQueue;
  readonly #onFailure: (error: unknown) => void;

  private constructor(
    db: Kysely<Schema>,
    links: ReadonlyMap<KmeId, Link>,
    stock: Map<number, number>,
    { dialect, processId, onFailure, now }: LocalOptions,
  ) {
    this.#db = db;
    this.links = links;
    this.stock = stock;
    this.blocking = dialect.exclusive;
    this.#onFailure = onFailure;
    this.#queue = new CommitQueue(db, dialect, {
      firstSlot: processId[0]! % STOCK_SLOTS,
      slots: STOCK_SLOTS,
      onFailure,
      now,
      onCommit: (changes) => {
        for (const [linkId, change] of changes) {
          const free = stock.get(linkId);
          if (free !== undefined) stock.set(linkId, free + change);
        }
      },
    });
  }

  /**
   * Creates or migrates the tables.
   *
   * @throws StoreUnusable with one clear line when the database cannot be used.
   */
  static async open(options: LocalOptions): Promise<LocalEngine> {
    const { dialect } = options;
    const db = new Kysely<Schema>({ dialect: dialect.kysely });
    try {
      const links = await prepareDatabase(db, dialect, options);
      const stock = new Map<number, number>();
      if (dialect.exclusive) {
        for (const { id } of links.values()) stock.set(id, await freeBlocks(db, id));
      }
      return new LocalEngine(db, links, stock, options);
    } catch (error) {
      await db.destroy().catch(() => {});
      if (error instanceof StoreUnusable) throw error;
      const reason = errorMessage(error);
      throw new StoreUnusable(`cannot open the database: ${reason}`, { cause: error });
    }
  }

  submit<Item, Result>(operation: Operation<Item, Result>, item: Item): Promise<Result> {
    return this.#queue.submit(operation, item);
  }

  async read<Item, Result>(query: Query<Item, Result>, item: Item): Promise<Result> {
    try {
      return await query.run(this.#db, item);
    } catch (error) {
      this.#onFailure(error);
      throw new StoreUnavailable(error);
    }
  }

  async close(): Promise<void> {
    await this.#queue.drained();
    await this.#db.destroy();
  }
}
