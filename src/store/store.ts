/** The key store: one database, opened, migrated, and its operations. */
import { Kysely } from "kysely";
import { randomBytes } from "node:crypto";
import type { Database } from "../config/config.ts";
import type { AddedBlocks, BlockBatch, BlockStore, FileProgress } from "../ingest/block_store.ts";
import type { Block, KeyIdBytes } from "../model/block.ts";
import { shannonEntropy } from "../model/entropy.ts";
import type { ConfiguredId, KmeId } from "../model/ids.ts";
import { buffer } from "./bytes.ts";
import { CommitQueue } from "./commit_queue.ts";
import type { StoreDialect } from "./dialects/dialect.ts";
import { openDialect } from "./dialects/open.ts";
import { StoreUnavailable, StoreUnusable } from "./errors.ts";
import { freeAmong } from "./free_among.ts";
import type { Key } from "./keys.ts";
import { type Link, ownHalf } from "./link.ts";
import { STOCK_SLOTS } from "./migrations/0001_ledger.ts";
import { migrate } from "./migrations/migrate.ts";
import { activate, type Activated, type PeerActivation } from "./operations/activate.ts";
import { adopt, type AdoptedReservation } from "./operations/adopt.ts";
import { burn, type Burnt } from "./operations/burn.ts";
import { collect, type Collected, type Collection } from "./operations/collect.ts";
import { deliver, type Delivery } from "./operations/deliver.ts";
import { expire, type Expired, type Expiry } from "./operations/expire.ts";
import { advance, currentGeneration } from "./operations/generation.ts";
import { endOfLife, livingProcesses, signOfLife } from "./operations/leases.ts";
import { type Reserve, reserve } from "./operations/reserve.ts";
import { type SetAside, setAside } from "./operations/set_aside.ts";
import { settle, type Settled, type Settlement } from "./operations/settle.ts";
import { freeBlocks } from "./stock.ts";
import { keysWaiting } from "./operations/waiting.ts";
import { type TakeBack, takeBack, type TakenBack } from "./operations/take_back.ts";
import { takeUp } from "./operations/take_up.ts";
import type { Schema } from "./schema.ts";

export interface StoreOptions {
  readonly database: Database;
  readonly thisKme: ConfiguredId;
  /** The KMEs with which this one shares a link. */
  readonly neighbours: readonly ConfiguredId[];
  /** Told of every failure of the database, once per failed transaction. */
  readonly onFailure?: (error: unknown) => void;
  /** The opened database, when it is not for the store alone to open it. */
  readonly dialect?: StoreDialect;
  /** Milliseconds since 1970. */
  readonly now?: () => number;
}

export class Store implements BlockStore {
  /** Identifies this process among those that share the database. */
  readonly processId: Uint8Array = Uint8Array.from(randomBytes(16));
  readonly #db: Kysely<Schema>;
  readonly #queue: CommitQueue;
  readonly #links: ReadonlyMap<KmeId, Link>;
  readonly #onFailure: (error: unknown) => void;
  /** Free blocks by link where no other process can change them; elsewhere the database is asked. */
  readonly #ownStock = new Map<number, number>();
  /** The count under way or done last, and the one that begins after it, by link. */
  readonly #count = new Map<number, Promise<number>>();
  readonly #counting = new Map<number, Promise<number>>();

  private constructor(
    db: Kysely<Schema>,
    dialect: StoreDialect,
    links: ReadonlyMap<KmeId, Link>,
    onFailure: (error: unknown) => void,
    now: () => number,
  ) {
    this.#db = db;
    this.#links = links;
    this.#onFailure = onFailure;
    const firstSlot = this.processId[0]! % STOCK_SLOTS;
    this.#queue = new CommitQueue(db, dialect, {
      firstSlot,
      slots: STOCK_SLOTS,
      onFailure,
      now,
      onCommit: (changes) => {
        for (const [linkId, change] of changes) {
          const free = this.#ownStock.get(linkId);
          if (free !== undefined) this.#ownStock.set(linkId, free + change);
        }
      },
    });
  }

  /**
   * Opens the database, creates or migrates its tables.
   *
   * @throws StoreUnusable with one clear line when it cannot be used.
   */
  static async open(options: StoreOptions): Promise<Store> {
    const onFailure = options.onFailure ?? (() => {});
    const dialect = options.dialect ?? openDialect(options.database, onFailure);
    const db = new Kysely<Schema>({ dialect: dialect.kysely });
    try {
      await migrate(db, dialect);
      await claimDatabase(db, dialect, options.thisKme);
      if (dialect.exclusive) {
        await db.deleteFrom("processes").execute();
        await db.deleteFrom("leases").execute();
      }
      const links = await openLinks(db, dialect, options);
      const store = new Store(db, dialect, links, onFailure, options.now ?? Date.now);
      if (dialect.exclusive) {
        for (const { id } of links.values()) store.#ownStock.set(id, await freeBlocks(db, id));
      }
      return store;
    } catch (error) {
      await db.destroy().catch(() => {});
      if (error instanceof StoreUnusable) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      throw new StoreUnusable(`cannot open the database: ${reason}`, { cause: error });
    }
  }

  /** The link shared with a KME, or this KME's own pool; `undefined` when there is none. */
  link(kme: KmeId): Link | undefined {
    return this.#links.get(kme);
  }

  /** Those of the blocks that are free on the link now. */
  freeAmong(link: Link, ids: readonly KeyIdBytes[]): Promise<KeyIdBytes[]> {
    return this.#read(() => freeAmong(this.#db, link.id, ids));
  }

  /** Keys for slaves of this KME; `undefined`: too few blocks, nothing taken. */
  deliver(delivery: Delivery): Promise<Key[] | undefined> {
    return this.#queue.submit(deliver, delivery);
  }

  /** Blocks of each claim, set aside until {@linkcode settle}; `undefined`: too few blocks, nothing reserved. */
  reserve(item: Omit<Reserve, "processId">): Promise<Block[][] | undefined> {
    return this.#queue.submit(reserve, { ...item, processId: this.processId });
  }

  /** Ends a reservation of this process, or a part of it. */
  settle(item: Settlement): Promise<Settled> {
    return this.#queue.submit(settle, { ...item, processId: this.processId });
  }

  activate(activation: PeerActivation): Promise<Activated> {
    return this.#queue.submit(activate, activation);
  }

  collect(collection: Collection): Promise<Collected> {
    return this.#queue.submit(collect, collection);
  }

  expire(expiry: Expiry): Promise<Expired> {
    return this.#queue.submit(expire, expiry);
  }

  /** Takes blocks out of the pool that the peer does not have free; returns how many were free until now. */
  setAside(item: Omit<SetAside, "processId">): Promise<number> {
    return this.#queue.submit(setAside, { ...item, processId: this.processId });
  }

  /** A peer takes a transaction back. */
  takeBack(item: TakeBack): Promise<TakenBack> {
    return this.#queue.submit(takeBack, item);
  }

  /** Takes over reservations that nobody settles: unresolved ones, and those of processes that are gone. */
  adopt(limit: number, after = 0): Promise<AdoptedReservation[]> {
    return this.#queue.submit(adopt, { processId: this.processId, limit, after });
  }

  /** Tells the other processes on this database that this one lives; returns the work that is its own. */
  signOfLife(lease: number, work: readonly string[]): Promise<string[]> {
    return this.#queue.submit(signOfLife, { processId: this.processId, lease, work });
  }

  /** A number that only grows, by which this database is told from an older copy of itself. */
  generation(): Promise<number> {
    return this.#read(() => currentGeneration(this.#db));
  }

  /** Makes the generation grow, beyond the given number; returns the new one once it is durable. */
  advance(beyond = 0): Promise<number> {
    return this.#queue.submit(advance, { beyond });
  }

  /**
   * Removes the blocks of a link, or of all links and the keys that wait too: they are never given out again. In several
   * transactions: one that fails leaves the rest, and the same call goes on from there.
   */
  async burn(link?: KmeId): Promise<Pick<Burnt, "blocks" | "keys">> {
    const item = { link: link === undefined ? undefined : this.#requireLink(link) };
    let blocks = 0;
    let keys = 0;
    let after: number | undefined = 0;
    while (after !== undefined) {
      const part: Burnt = await this.#queue.submit(burn, { ...item, after });
      blocks += part.blocks;
      keys += part.keys;
      after = part.after;
    }
    return { blocks, keys };
  }

  /** Other processes on this database that gave a sign of life of late. */
  livingProcesses(): Promise<number> {
    return this.#read(() => livingProcesses(this.#db, Date.now()));
  }

  /** The KME at the other end of a link, by the link's row. */
  linkById(id: number): Link | undefined {
    return [...this.#links.values()].find((link) => link.id === id);
  }

  async addBlocks(batch: BlockBatch): Promise<AddedBlocks> {
    return await this.#queue.submit(takeUp, { ...batch, link: this.#requireLink(batch.link) });
  }

  fileProgress(link: KmeId, name: string): Promise<FileProgress | undefined> {
    return this.#read(async () => {
      const row = await this.#db.selectFrom("key_files").selectAll()
        .where("link_id", "=", this.#requireLink(link).id).where("name", "=", name).executeTakeFirst();
      return row && { name, size: row.size, mtime: row.mtime, offset: row.taken };
    });
  }

  freeBlocks(link: KmeId): Promise<number> {
    const { id } = this.#requireLink(link);
    const own = this.#ownStock.get(id);
    if (own !== undefined) return Promise.resolve(own);
    // Callers that ask while an answer is under way share the next one: it is never older than their question.
    let next = this.#counting.get(id);
    if (next === undefined) {
      const current = this.#count.get(id) ?? Promise.resolve(0);
      next = current.catch(() => {}).then(() => {
        this.#counting.delete(id);
        const count = this.#read(() => freeBlocks(this.#db, id));
        this.#count.set(id, count);
        return count;
      });
      this.#counting.set(id, next);
    }
    return next;
  }

  /** Keys that a slave of this KME has not fetched yet. Looks at every key there is: not for every request. */
  keysWaiting(): Promise<number> {
    return this.#read(() => keysWaiting(this.#db, Date.now()));
  }

  /** Shannon entropy in bits per byte over the bytes of all blocks ever stored. */
  totalEntropy(): Promise<number> {
    return this.#read(async () => {
      const { counts } = await this.#db.selectFrom("byte_counts").select("counts").executeTakeFirstOrThrow();
      return shannonEntropy(Array.from(new BigUint64Array(Uint8Array.from(counts).buffer), Number));
    });
  }

  /** Lets what is under way finish, then closes the database. */
  async close(): Promise<void> {
    // Without it the other processes would wait for the lease to end.
    await this.#queue.submit(endOfLife, { processId: this.processId }).catch(() => {});
    await this.#queue.drained();
    await this.#db.destroy();
  }

  #requireLink(kme: KmeId): Link {
    const link = this.#links.get(kme);
    if (link === undefined) throw new Error(`no link with KME ${kme}`);
    return link;
  }

  async #read<T>(query: () => Promise<T>): Promise<T> {
    try {
      return await query();
    } catch (error) {
      this.#onFailure(error);
      throw new StoreUnavailable(error);
    }
  }
}

async function claimDatabase(
  db: Kysely<Schema>,
  dialect: StoreDialect,
  thisKme: ConfiguredId,
): Promise<void> {
  await dialect.insertIgnoring(db.insertInto("kme").values({ one: 1, kme_id: thisKme.text })).execute();
  const { kme_id } = await db.selectFrom("kme").select("kme_id").executeTakeFirstOrThrow();
  if (kme_id !== thisKme.text) {
    throw new StoreUnusable(`the database belongs to KME ${kme_id}, not to KME ${thisKme.text}`);
  }
  await dialect.insertIgnoring(
    db.insertInto("byte_counts").values({ one: 1, counts: buffer(new Uint8Array(2048)) }),
  )
    .execute();
  await dialect.insertIgnoring(db.insertInto("generation").values({ one: 1, value: 0 })).execute();
}

async function openLinks(db: Kysely<Schema>, dialect: StoreDialect, { thisKme, neighbours }: StoreOptions) {
  const links = new Map<KmeId, Link>();
  for (const kme of [thisKme, ...neighbours]) {
    const known = () => db.selectFrom("links").select("id").where("kme_id", "=", kme.text).executeTakeFirst();
    if (await known() === undefined) {
      await dialect.insertIgnoring(db.insertInto("links").values({ kme_id: kme.text })).execute();
    }
    const { id } = (await known())!;
    await dialect.insertIgnoring(
      db.insertInto("stock").values(
        Array.from({ length: STOCK_SLOTS }, (_, slot) => ({ link_id: id, slot, free: 0 })),
      ),
    ).execute();
    links.set(kme.text, { id, kme: kme.text, ownHalf: ownHalf(thisKme, kme) });
  }
  return links;
}
