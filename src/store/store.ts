/** The key store: one database, opened, migrated, and its operations. */
import { randomBytes } from "node:crypto";
import type { Database, StoreEncryption } from "../config/config.ts";
import type { AddedBlocks, BlockBatch, BlockStore, FileProgress } from "./block_store.ts";
import { type Block, formatKeyId, type KeyIdBytes } from "../domain/block.ts";
import { log } from "../log.ts";
import type { ConfiguredId, KmeId, SaeId } from "../domain/ids.ts";
import { StoreUnusable } from "../domain/store_errors.ts";
import type { Operation } from "./work.ts";
import type { StoreDialect } from "./dialects/dialect.ts";
import { openDialect, STATEMENT_LIMIT_MS } from "./dialects/open.ts";
import { BatchQueue } from "./batch_queue.ts";
import { startLogTruncation } from "./log_truncation.ts";
import { StoreClock } from "./store_clock.ts";
import { Availability } from "./availability.ts";
import type { Executor, Query } from "./engine/executor.ts";
import { LocalExecutor, type LocalOptions } from "./engine/local_executor.ts";
import type { DamagedBits } from "./damaged_bits.ts";
import { type DamagedKey, describeDamaged } from "./damaged_key.ts";
import { readMasterKey } from "./encryption/master_key.ts";
import { prepareSqlite } from "./dialects/sqlite_library.ts";
import { NoThread, WorkerExecutor } from "./engine/worker_executor.ts";
import {
  blockPageQuery,
  fileNamesQuery,
  fileProgressQuery,
  forgottenFilesQuery,
  freeAmongQuery,
  freeBlocksQuery,
  type FreeRange,
  freeRangeQuery,
  generationQuery,
  hasTransactionQuery,
  heldPageQuery,
  ingestedFilesQuery,
  keptCrlsQuery,
  keysWaitingQuery,
  livingProcessesQuery,
  openedBatchesQuery,
  peerDatabaseQuery,
  pingQuery,
  presenceQuery,
  totalEntropyQuery,
  truncateLogQuery,
  unmatchedByFileQuery,
} from "./engine/queries.ts";
import type { Key } from "../domain/key.ts";
import type { DeviceKey, DeviceKeyBits } from "../domain/device_keys.ts";
import type { Link } from "../domain/link.ts";
import type { FileTag, StockFile } from "../domain/stock_questions.ts";
import type { BlockPage, HeldPage, PageOfBlocks } from "./matching.ts";
import { type MatchBlocks, matchBlocks, MAX_FORGOTTEN } from "./operations/match_blocks.ts";
import { activate, type Activated, type PeerActivation } from "./operations/activate.ts";
import { adopt, type AdoptedReservation } from "./operations/adopt.ts";
import { burn, type Burnt, discardDataKeys } from "./operations/burn_blocks.ts";
import { collect, type Collected, type Collection } from "./operations/collect.ts";
import { deliver, type Delivery } from "./operations/deliver.ts";
import {
  giveUpBatch,
  openBatch,
  type OpenedBatch,
  type ReceivedKeys,
  type ReceiveKeys,
  receiveKeys,
  type SettleBatch,
  settleBatch,
  type Settled,
  storeBatch,
} from "./operations/device_batches.ts";
import { expire, type Expired, type Expiry } from "./operations/expire.ts";
import { advance } from "./operations/advance_generation.ts";
import { keepCrl, type KeptCrl, MAX_KEPT_CRL } from "./operations/keep_crl.ts";
import { releaseLease, renewLease } from "./operations/leases.ts";
import { type Reserve, reserve } from "./operations/reserve.ts";
import { type SetAside, setAside } from "./operations/set_aside.ts";
import {
  finishReservation,
  type ReservationOutcome,
  type ReservationResult,
} from "./operations/finish_reservation.ts";
import { type TakeBack, takeBack, type TakenBack } from "./operations/take_back.ts";
import { ingestBlocks } from "./operations/ingest_blocks.ts";

export interface StoreOptions {
  readonly database: Database;
  readonly thisKme: ConfiguredId;
  /** The KMEs with which this one shares a link. */
  readonly neighbours: readonly ConfiguredId[];
  /**
   * Where the master key of the bits is; absent: bits are stored in the clear. `discard`: none is needed, since all bits are to be
   * removed.
   */
  readonly encryption?: StoreEncryption | "discard";
  /** Called for each block or key that cannot be used because its stored bits were altered or moved; default: an error in the log. */
  readonly onDamaged?: (key: DamagedKey) => void;
  /** Called for every failure of the database, once per failed transaction. */
  readonly onFailure?: (error: unknown) => void;
  /** Called when free blocks of a link were used: the link may have room again. */
  readonly onBlocksUsed?: (link: KmeId) => void;
  /** A database that is already open; absent: the store opens it. */
  readonly dialect?: StoreDialect;
  /** Starts a thread for an SQLite database, so that commits do not block this one. */
  readonly worker?: () => Worker;
  /** Time limit in milliseconds for a statement of a database server; a caller waits at most 1 s longer. Default 4000. */
  readonly statementLimitMs?: number;
  /** Milliseconds since 1970; absent: the time of the database, see {@linkcode StoreClock}. */
  readonly now?: () => number;
}

/** By how many milliseconds a caller waits longer than a statement of a database server may take. */
const CALL_EXTRA_MS = 1000;

/** What a store is made of besides its executor. */
interface Parts {
  /** Milliseconds that a caller waits. */
  readonly limit: number;
  readonly now: () => number;
  readonly clock: StoreClock;
  readonly onBlocksUsed: (link: KmeId) => void;
}

export class Store implements BlockStore {
  /** Identifies this process among those that share the database. */
  readonly processId: Uint8Array;
  /** Resolves with the reason when the database is lost for good; the program must then end. */
  readonly failed: Promise<string>;
  /** The time by which keys expire, milliseconds since 1970: a step of the system clock does not change it. */
  readonly now: () => number;
  readonly #clock: StoreClock;
  readonly #executor: Executor;
  readonly #queue: BatchQueue;
  readonly #availability: Availability;
  readonly #onBlocksUsed: (link: KmeId) => void;
  #requests = 0;
  #endTruncation: () => void = () => {};
  #closing?: Promise<void>;
  /** By link: the count that is under way or was done last, and the one that starts after it. */
  readonly #count = new Map<number, Promise<number>>();
  readonly #counting = new Map<number, Promise<number>>();

  private constructor(executor: Executor, processId: Uint8Array, { limit, now, clock, onBlocksUsed }: Parts) {
    this.#executor = executor;
    this.#availability = new Availability(() => executor.read(pingQuery, null));
    this.#queue = new BatchQueue(executor, this.#availability, limit);
    this.processId = processId;
    this.failed = executor.failed;
    this.#onBlocksUsed = onBlocksUsed;
    this.#clock = clock;
    this.now = now;
  }

  /**
   * Opens the database, creates or migrates its tables.
   *
   * @throws StoreUnusable with one clear line when it cannot be used.
   */
  static async open(options: StoreOptions): Promise<Store> {
    const processId = Uint8Array.from(randomBytes(16));
    const onBlocksUsed = options.onBlocksUsed ?? (() => {});
    // Set before the first call: until then no time is asked for.
    const time: { clock?: StoreClock } = {};
    const now = options.now ?? (() => time.clock!.now());
    const { statementLimitMs = STATEMENT_LIMIT_MS } = options;
    const limit = statementLimitMs + CALL_EXTRA_MS;
    const { onFailure = () => {} } = options;
    const executor = await openExecutor({ ...options, statementLimitMs, limit, now, processId, onFailure });
    const { openedAt } = executor;
    const clock = time.clock = new StoreClock(openedAt.now);
    if (openedAt.passed < -60_000) {
      log("store").warn(
        "the system clock is {seconds} s behind the time at which the database was last used; no time is counted since then",
        { seconds: Math.round(-openedAt.passed / 1000) },
      );
    }
    const store = new Store(executor, processId, { limit, now, clock, onBlocksUsed });
    if (options.database.kind === "sqlite") {
      store.#endTruncation = startLogTruncation(
        () => store.#queue.batches,
        () => store.#read(truncateLogQuery, null),
      );
    }
    return store;
  }

  get databaseId(): Uint8Array {
    return this.#executor.databaseId;
  }

  /** Whether the bits in the database are encrypted. */
  get encrypts(): boolean {
    return this.#executor.encrypts;
  }

  get blocking(): boolean {
    return this.#executor.blocking;
  }

  get requests(): number {
    return this.#requests;
  }

  /** The link shared with a KME, or this KME's own pool; `undefined` when there is none. */
  link(kme: KmeId): Link | undefined {
    return this.#executor.links.get(kme);
  }

  /** The blocks of these that are free on the link now. */
  freeAmong(link: Link, ids: readonly KeyIdBytes[]): Promise<KeyIdBytes[]> {
    return this.#read(freeAmongQuery, { link, ids });
  }

  /** Whether keys of this transaction, received over this link, are stored: until they expire or are taken back. */
  hasTransaction(link: Link, transaction: KeyIdBytes): Promise<boolean> {
    return this.#read(hasTransactionQuery, { link, transaction });
  }

  /**
   * Keys for slaves of this KME; `undefined` if there are too few blocks, or too few would be left: then none is used.
   *
   * @param onSent called when the database begins with it.
   */
  async deliver(delivery: Delivery, onSent?: () => void): Promise<Key[] | undefined> {
    const keys = await this.#request(deliver, delivery, onSent);
    if (keys !== undefined) this.#onBlocksUsed(delivery.link.kme);
    return keys;
  }

  /**
   * Reserves blocks for each claim until {@linkcode finishReservation}; `undefined` if there are too few, or too few would be left:
   * then none is reserved.
   */
  async reserve(item: Omit<Reserve, "processId">): Promise<Block[][] | undefined> {
    const blocks = await this.#request(reserve, { ...item, processId: this.processId });
    if (blocks !== undefined) { for (const { link } of item.claims) this.#onBlocksUsed(link.kme); }
    return blocks;
  }

  /** Finishes a reservation of this process, or a part of it. */
  finishReservation(item: ReservationOutcome): Promise<ReservationResult> {
    return this.#request(finishReservation, { ...item, processId: this.processId });
  }

  async activate(activation: PeerActivation): Promise<Activated> {
    const activated = await this.#request(activate, activation);
    if (activated.kind === "activated") this.#onBlocksUsed(activation.link.kme);
    return activated;
  }

  collect(item: Omit<Collection, "processId">): Promise<Collected> {
    return this.#request(collect, { ...item, processId: this.processId });
  }

  #read<Item, Result>(query: Query<Item, Result>, item: Item): Promise<Result> {
    return this.#availability.call(async () => {
      try {
        return await this.#executor.read(query, item);
      } catch (error) {
        this.#availability.failed();
        throw error;
      }
    });
  }

  /** A call that a request waits for. */
  #request<Item, Result>(
    operation: Operation<Item, Result>,
    item: Item,
    onSent?: () => void,
  ): Promise<Result> {
    this.#requests++;
    return this.#queue.submit(operation, item, onSent);
  }

  expire(expiry: Expiry): Promise<Expired> {
    return this.#queue.submit(expire, expiry);
  }

  /** The lowest and the highest `seq` of the link's free blocks; `undefined`: there are none. */
  freeRange(link: Link): Promise<FreeRange | undefined> {
    return this.#read(freeRangeQuery, { link });
  }

  /** Takes blocks out of the pool that the peer does not have free; returns how many were free until now. */
  setAside(item: Omit<SetAside, "processId">): Promise<number> {
    return this.#queue.submit(setAside, { ...item, processId: this.processId });
  }

  /** A peer takes a transaction back. */
  takeBack(item: TakeBack): Promise<TakenBack> {
    return this.#queue.submit(takeBack, item);
  }

  /** Adopts reservations to be resolved: unresolved ones, and those of processes that have ended. */
  adopt(limit: number, after = 0): Promise<AdoptedReservation[]> {
    return this.#queue.submit(adopt, { processId: this.processId, limit, after });
  }

  /** Sends a heartbeat to the other processes on this database; returns the work that is this process's. */
  async renewLease(lease: number, work: readonly string[]): Promise<readonly string[]> {
    const renewed = await this.#queue.submit(renewLease, { processId: this.processId, lease, work });
    this.#clock.advanceTo(renewed.time);
    return renewed.work;
  }

  /** A number that only grows. It distinguishes this database from an older copy of itself. */
  generation(): Promise<number> {
    return this.#read(generationQuery, null);
  }

  /** Raises the generation above the given number; returns the new one once it is durable. */
  advance(beyond = 0): Promise<number> {
    return this.#queue.submit(advance, { beyond });
  }

  /** DER of the CRLs that were kept, one for each CA. */
  keptCrls(): Promise<Uint8Array[]> {
    return this.#read(keptCrlsQuery, null);
  }

  /**
   * Keeps a CRL until a newer one of its CA is kept.
   *
   * @throws RangeError when it, or its number, is too large to be kept.
   */
  async keepCrl(crl: KeptCrl): Promise<void> {
    if (crl.der.length > MAX_KEPT_CRL) {
      throw new RangeError(`it has ${crl.der.length} bytes, more than ${MAX_KEPT_CRL}`);
    }
    if ((crl.number ?? "").length > 255) throw new RangeError("its CRL number has more than 255 digits");
    await this.#queue.submit(keepCrl, crl);
  }

  /**
   * Burns the blocks of a link, or all blocks and the waiting keys. This takes several transactions: if one fails, call again to
   * burn the rest.
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

  /**
   * Removes the keys that the bits were encrypted with, after all was burnt. No bits may be stored any more.
   *
   * @throws StoreUnusable when another process has opened the database meanwhile; the keys stay then.
   */
  async discardDataKeys(): Promise<void> {
    if (await this.#queue.submit(discardDataKeys, { processId: this.processId })) return;
    throw new StoreUnusable(
      "a process of this KME has begun to use the database; stop every KME process on it and burn again",
    );
  }

  /** Key files of the link of which blocks were ingested, except forgotten ones. */
  ingestedFiles(link: Link): Promise<StockFile[]> {
    return this.#read(ingestedFilesQuery, { link });
  }

  /** Names of the files that these blocks came from, those of the most blocks first. */
  fileNamesOf(link: Link, ids: readonly KeyIdBytes[]): Promise<string[]> {
    return this.#read(fileNamesQuery, { link, ids });
  }

  /** Files of the link of which the operator has dropped the unmatched blocks. */
  forgottenFiles(link: Link): Promise<FileTag[]> {
    return this.#read(forgottenFilesQuery, { link });
  }

  /** Removes the unmatched blocks of a file for good, in several transactions; returns how many there were. */
  async forgetFile(link: KmeId, tag: FileTag): Promise<number> {
    let blocks = 0;
    for (let part = MAX_FORGOTTEN; part === MAX_FORGOTTEN; blocks += part) {
      part = await this.matchBlocks({ link: this.#requireLink(link), forget: tag });
    }
    return blocks;
  }

  /** Blocks of a link in the order in which they were stored. */
  blockPage(page: BlockPage): Promise<PageOfBlocks> {
    return this.#read(blockPageQuery, page);
  }

  /** What is held of each file, over so many blocks: pages are to be added up. */
  heldPage(page: { linkId: number; after: number; limit: number }): Promise<HeldPage> {
    return this.#read(heldPageQuery, page);
  }

  /** A `BlockPresence` for each block. */
  presenceOf(link: Link, ids: readonly KeyIdBytes[]): Promise<Uint8Array> {
    return this.#read(presenceQuery, { link, ids });
  }

  /** Blocks of each file that the other end does not have. */
  unmatchedByFile(link: Link): Promise<{ tag: FileTag; blocks: number }[]> {
    return this.#read(unmatchedByFileQuery, { link });
  }

  /** The database of the other end with which the stocks were compared block by block last. */
  peerDatabase(link: Link): Promise<string | null> {
    return this.#read(peerDatabaseQuery, { link });
  }

  /** Takes blocks out of the stock, or puts them back, by what the other end has; returns how many changed. */
  matchBlocks(item: MatchBlocks): Promise<number> {
    return this.#queue.submit(matchBlocks, item);
  }

  /** Records that keys are requested from the QKD device of a link; returns the id of the batch. */
  async openDeviceBatch(link: KmeId, asked: number): Promise<Uint8Array> {
    const batch = Uint8Array.from(randomBytes(16));
    const item = { link: this.#requireLink(link), batch, asked, processId: this.processId };
    await this.#queue.submit(openBatch, item);
    return batch;
  }

  /** Stores what the device gave, as unconfirmed; see {@linkcode storeBatch} for the result. */
  storeDeviceBatch(
    link: KmeId,
    batch: Uint8Array,
    keys: readonly DeviceKeyBits[],
  ): Promise<DeviceKey[] | undefined> {
    return this.#queue.submit(storeBatch, { link: this.#requireLink(link), batch, keys });
  }

  /** Gives up a batch for which no keys were stored; see {@linkcode giveUpBatch} for the result. */
  giveUpDeviceBatch(batch: Uint8Array): Promise<boolean> {
    return this.#queue.submit(giveUpBatch, batch);
  }

  /** Does what the other end said about the blocks of a batch. */
  settleDeviceBatch(link: KmeId, item: Omit<SettleBatch, "link">): Promise<Settled> {
    return this.#queue.submit(settleBatch, { ...item, link: this.#requireLink(link) });
  }

  /** Stores blocks that the other end has got from its device and stored, and gives up others. */
  receiveDeviceKeys(link: KmeId, item: Omit<ReceiveKeys, "link">): Promise<ReceivedKeys> {
    return this.#queue.submit(receiveKeys, { ...item, link: this.#requireLink(link) });
  }

  /** Batches of device keys of the link that are not settled: those of this process, and of processes that have ended. */
  openedDeviceBatches(link: KmeId): Promise<OpenedBatch[]> {
    const { id: linkId } = this.#requireLink(link);
    return this.#read(openedBatchesQuery, { linkId, processId: this.processId, now: this.now() });
  }

  /** Other processes on this database whose lease has not ended. */
  livingProcesses(): Promise<number> {
    return this.#read(livingProcessesQuery, { now: this.now(), processId: this.processId });
  }

  async addBlocks(batch: BlockBatch): Promise<AddedBlocks> {
    return await this.#queue.submit(ingestBlocks, { ...batch, link: this.#requireLink(batch.link) });
  }

  async fileProgress(link: KmeId, names: readonly string[]): Promise<ReadonlyMap<string, FileProgress>> {
    const found = await this.#read(fileProgressQuery, { link: this.#requireLink(link), names });
    return new Map(found.map((progress) => [progress.name, progress]));
  }

  /** Free blocks after the last commit; `undefined` where only the database knows, since others use it too. */
  knownFreeBlocks(link: KmeId): number | undefined {
    return this.#executor.stock.get(this.#requireLink(link).id);
  }

  freeBlocks(link: KmeId): Promise<number> {
    const known = this.knownFreeBlocks(link);
    if (known !== undefined) return Promise.resolve(known);
    const { id } = this.#requireLink(link);
    // Callers that come while a count is under way share the next one, so that no result is older than its call.
    let next = this.#counting.get(id);
    if (next === undefined) {
      const current = this.#count.get(id) ?? Promise.resolve(0);
      next = current.catch(() => {}).then(() => {
        this.#counting.delete(id);
        const count = this.#read(freeBlocksQuery, { link: { id } });
        this.#count.set(id, count);
        return count;
      });
      this.#counting.set(id, next);
    }
    return next;
  }

  /** Keys that a slave of this KME has not fetched yet, of all masters or of one. Reads every key: too slow to be called for every request. */
  keysWaiting(master?: SaeId): Promise<number> {
    return this.#read(keysWaitingQuery, { now: this.now(), master });
  }

  /** Shannon entropy in bits per byte over the bytes of all blocks ever stored. */
  totalEntropy(): Promise<number> {
    return this.#read(totalEntropyQuery, null);
  }

  /** Waits for calls under way, then closes the database. */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #close(): Promise<void> {
    // Without it the other processes would wait for the lease to end.
    await this.#queue.submit(releaseLease, { processId: this.processId }).catch(() => {});
    this.#availability.close();
    this.#endTruncation();
    await this.#queue.close();
    if (this.#queue.hangs) this.#executor.terminate();
    else await this.#executor.close();
  }

  #requireLink(kme: KmeId): Link {
    const link = this.#executor.links.get(kme);
    if (link === undefined) throw new Error(`no link with KME ${kme}`);
    return link;
  }
}

/** All that opening an executor needs. */
interface Opening extends StoreOptions {
  readonly limit: number;
  readonly now: () => number;
  readonly processId: Uint8Array;
  readonly onFailure: (error: unknown) => void;
}

async function openExecutor(options: Opening): Promise<Executor> {
  const { encryption } = options;
  const masterKey = encryption === undefined || encryption === "discard"
    ? encryption
    : await readMasterKey(encryption);
  const names = new Map<number, KmeId>();
  const onDamaged = (found: readonly DamagedBits[]) => {
    for (const { what, id, linkId } of found) {
      const link = names.get(linkId) ?? String(linkId);
      (options.onDamaged ?? logDamaged)({ what, keyId: formatKeyId(id), link });
    }
  };
  try {
    const opened = await openInThread({ ...options, masterKey, onDamaged });
    for (const { id, kme } of opened.links.values()) names.set(id, kme);
    return opened;
  } finally {
    if (masterKey instanceof Uint8Array) masterKey.fill(0);
  }
}

/** Opens the database in a thread of its own if that is wanted and possible. */
async function openInThread(
  options: Omit<Opening, "onDamaged"> & Pick<LocalOptions, "masterKey" | "onDamaged">,
): Promise<Executor> {
  const { database, dialect, worker, onFailure } = options;
  if (worker !== undefined && (database.kind === "memory" || database.kind === "sqlite")) {
    const path = database.kind === "memory" ? ":memory:" : database.path;
    prepareSqlite();
    try {
      return await WorkerExecutor.open(worker, { ...options, path });
    } catch (error) {
      if (!(error instanceof NoThread)) throw error;
      log("store").warn(
        "the database runs in the program's main thread, its own cannot be started: {reason}",
        {
          reason: error.message,
        },
      );
    }
  }
  return await LocalExecutor.open({
    ...options,
    dialect: dialect ?? openDialect(database, onFailure, options.statementLimitMs),
  });
}

function logDamaged(key: DamagedKey): void {
  log("store").error("{message}", { message: describeDamaged(key) });
}
