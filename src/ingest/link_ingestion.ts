/** Ingestion of one link's directory: one loop that looks, waits for files to come to rest, and takes them up. */
import { join } from "node:path";
import { type Block, BLOCK_BYTES } from "../domain/block.ts";
import type { KmeId } from "../domain/ids.ts";
import { log } from "../log.ts";
import { DirectoryWatch } from "./directory_watch.ts";
import type { IngestionOptions, WatchedDirectory } from "./ingestion.ts";
import {
  compareNames,
  type FileState,
  fileState,
  isKeyFileName,
  readBlocks,
  sameState,
  wholeBytes,
} from "./key_file.ts";
import { errorMessage } from "../domain/text.ts";

const logger = log("ingest");

/** Blocks in one transaction: about 3 ms of hashing between two turns of the loop, then some more of inserting. */
const BATCH_BLOCKS = 2048;
/**
 * Most blocks in one transaction while no request is waiting for the store. Key_IDs are random, so a transaction writes pages all
 * over, the larger the fewer of them again; but a request that comes then waits for it.
 */
const MAX_BATCH_BLOCKS = 16_384;
/** Milliseconds of a transaction below which the next one may be larger, and above which it has to be small. */
const QUICK_MS = 200;
const SLOW_MS = 500;
const PROGRESS_MS = 5_000;
const MAX_RETRY_MS = 30_000;
/** Pokes come with every key that is delivered; looking for room costs the store a query. */
const POKE_MS = 250;

/** What this process knows of a file; the store knows the rest. */
interface Known {
  /** As last seen. */
  state?: FileState;
  /** When it was first seen like that, in milliseconds of the monotonic clock. */
  since: number;
  /** As it was when nothing was left to be read. */
  settled?: FileState;
  /** The system has told that nobody is writing it any more. */
  complete: boolean;
  /** To be deleted as soon as its writer is done with it. */
  deletable?: boolean;
  /** What was last warned about, so that it is said once. */
  warned?: string;
  /** Blocks and milliseconds so far, over interruptions. */
  tally: { stored: number; known: number; ms: number };
}

/** Why nothing can be taken up, and when to try again. */
interface Pause {
  readonly why: "full" | "store" | "not ours";
  until: number;
}

/** How taking up a file ended. */
type Outcome = "settled" | "look again" | "unreadable" | "paused";

/** The store's failures, apart from the file's. */
class StoreFailure extends Error {}

/** Takes up the key files of one directory. */
export class LinkIngestion {
  readonly link: KmeId;
  /** Resolves when what was found at the start has been taken up, or could not be. */
  readonly started: Promise<void>;

  readonly #directory: string;
  readonly #options: IngestionOptions;
  readonly #restMs: number;
  readonly #quietMs: number;
  readonly #rescanMs: number;
  readonly #retryMs: number;
  readonly #watch: DirectoryWatch;
  readonly #started = Promise.withResolvers<void>();

  readonly #known = new Map<string, Known>();
  /** Names to look at. */
  readonly #hinted = new Set<string>();
  /** Names to look at later, by when. */
  readonly #resting = new Map<string, number>();
  /** Names that are at rest and wait for their turn. */
  readonly #ready = new Set<string>();
  #readyInOrder: string[] | undefined;
  /** Names found at the start whose fate is not known yet; `undefined` before the first scan. */
  #atStart: Set<string> | undefined;

  #closed = false;
  #wake: (() => void) | undefined;
  #scanAt = 0;
  #directoryIdentity: string | undefined;
  #directoryLost = false;

  #pause: Pause | undefined;
  #triedAt = -Infinity;
  #poked = false;
  #saidFull = false;
  #storeFailures = 0;
  /** Blocks in the next transaction. */
  #batch = BATCH_BLOCKS;

  constructor(watched: WatchedDirectory, options: IngestionOptions) {
    this.link = watched.link;
    this.#directory = watched.directory;
    this.#options = options;
    this.#restMs = options.restMs ?? 500;
    this.#quietMs = options.quietMs ?? 60_000;
    this.#rescanMs = options.rescanMs ?? 10_000;
    this.#retryMs = options.retryMs ?? 500;
    this.started = this.#started.promise;
    const watch = options.watch ?? ((directory) => Deno.watchFs(directory, { recursive: false }));
    this.#watch = new DirectoryWatch(watched.link, watched.directory, watch, {
      onHint: (name) => {
        // One that comes to rest is looked at when it should have, however many events its writer causes.
        if (this.#resting.has(name) && !this.#known.get(name)?.deletable) return;
        this.#hinted.add(name);
        this.#wake?.();
      },
      onDoubt: () => this.#scanSoon(),
    });
  }

  /** Runs until {@linkcode stop}; resolves when nothing is left open. */
  async run(): Promise<void> {
    while (!this.#closed) {
      try {
        await this.#turn();
      } catch (error) {
        // Nothing is expected here; a mistake must not end ingestion for good.
        logger.error("Ingestion of link {link} failed, trying again: {reason}", {
          link: this.link,
          reason: errorMessage(error),
        });
        this.#started.resolve();
        await this.#sleepUntil(performance.now() + this.#rescanMs);
      }
    }
    await this.#watch.close();
    this.#started.resolve();
  }

  /** Makes {@linkcode run} end after the transaction under way. */
  stop(): void {
    this.#closed = true;
    this.#wake?.();
  }

  /** Tries again now what is paused. */
  poke(): void {
    this.#poked = true;
    if (!this.#pause) return;
    this.#pause.until = Math.min(this.#pause.until, this.#triedAt + POKE_MS);
    this.#wake?.();
  }

  async #turn(): Promise<void> {
    if (performance.now() >= this.#scanAt) await this.#scan();
    for (const [name, due] of this.#resting) {
      if (performance.now() < due) continue;
      this.#resting.delete(name);
      this.#hinted.add(name);
    }
    const hinted = [...this.#hinted];
    this.#hinted.clear();
    for (const name of hinted) {
      if (this.#closed) return;
      await this.#look(name);
    }

    const next = this.#nextReady();
    const now = performance.now();
    if (next !== undefined && (!this.#pause || now >= this.#pause.until)) {
      await this.#ingestBlocks(next);
      return;
    }
    this.#checkStarted();
    let until = this.#scanAt;
    for (const due of this.#resting.values()) until = Math.min(until, due);
    if (next !== undefined && this.#pause) until = Math.min(until, this.#pause.until);
    await this.#sleepUntil(until);
  }

  /** Sleeps until a moment of the monotonic clock, or until something happens. */
  async #sleepUntil(until: number): Promise<void> {
    if (this.#closed || this.#hinted.size > 0) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      // Rounded up, so that the moment has come when it rings.
      timer = setTimeout(resolve, Math.max(0, Math.ceil(until - performance.now())));
    });
    clearTimeout(timer);
    this.#wake = undefined;
  }

  #scanSoon(): void {
    this.#scanAt = 0;
    this.#wake?.();
  }

  /** Lists the directory, and opens the watcher before that if it is not open, so that nothing falls in between. */
  async #scan(): Promise<void> {
    this.#scanAt = performance.now() + this.#rescanMs;
    const names = new Set<string>();
    try {
      const { dev, ino } = await Deno.stat(this.#directory);
      // Another directory under the same path: the watcher still follows the old one.
      const identity = `${dev} ${ino}`;
      if (this.#watch.isStale || identity !== this.#directoryIdentity) await this.#watch.close();
      this.#directoryIdentity = identity;
      this.#watch.open();
      for await (const entry of Deno.readDir(this.#directory)) {
        if (isKeyFileName(entry.name)) names.add(entry.name);
      }
    } catch (error) {
      if (!this.#directoryLost) {
        logger.error("Cannot read the directory {directory} of link {link}: {reason}", {
          directory: this.#directory,
          link: this.link,
          reason: errorMessage(error),
        });
      }
      this.#directoryLost = true;
      await this.#watch.close();
      for (const name of [...this.#known.keys()]) this.#forget(name);
      this.#atStart ??= new Set();
      return;
    }
    if (this.#directoryLost) {
      this.#directoryLost = false;
      logger.info("The directory {directory} of link {link} is back", {
        directory: this.#directory,
        link: this.link,
      });
    }
    for (const name of [...this.#known.keys()]) if (!names.has(name)) this.#forget(name);
    for (const name of names) this.#hinted.add(name);
    this.#atStart ??= new Set(names);
  }

  /** Finds out whether a file is to be taken up now, later, or not at all. */
  async #look(name: string): Promise<void> {
    this.#resting.delete(name);
    const known = this.#remember(name);
    // Before the state, so that what is told later is about what is seen now or later.
    const word = this.#watch.takeWord(name);
    let info: Deno.FileInfo;
    try {
      info = await Deno.stat(this.#path(name));
    } catch (error) {
      this.#unready(name);
      const listed = await Deno.lstat(this.#path(name)).then(() => true, () => false);
      if (listed) this.#warn(name, `stat ${errorMessage(error)}`, "cannot be read: {reason}", error);
      else if (name.includes("\uFFFD")) this.#warn(name, "name", "has a name that is not UTF-8, ignored");
      else this.#forget(name);
      this.#atStart?.delete(name);
      return;
    }
    if (!info.isFile) {
      this.#unready(name);
      this.#warn(name, `kind ${info.ino}`, "is not a regular file, ignored");
      this.#atStart?.delete(name);
      return;
    }

    const state = fileState(info);
    const now = performance.now();
    if (sameState(state, known.state)) known.complete = word ?? known.complete;
    else {
      // One that is still being written does not hold up the start.
      if (known.state) this.#atStart?.delete(name);
      known.state = state;
      known.since = now;
      known.complete = word ?? false;
      known.tally = { stored: 0, known: 0, ms: 0 };
    }
    if (sameState(state, known.settled)) {
      this.#unready(name);
      this.#atStart?.delete(name);
      if (known.deletable) await this.#delete(name, known);
      return;
    }
    // Unchanged for as long as this process has looked. The mtime of one that is complete tells more; otherwise it may be of
    // a host whose clock is slow, and the file in the middle of being written.
    const rest = Math.max(now - known.since, known.complete ? Date.now() - state.mtime : 0);
    if (rest >= this.#restMs) {
      if (!this.#ready.has(name)) this.#readyInOrder = undefined;
      this.#ready.add(name);
    } else {
      this.#unready(name);
      this.#resting.set(name, now + this.#restMs - rest);
    }
  }

  async #ingestBlocks(name: string): Promise<void> {
    const known = this.#remember(name);
    this.#triedAt = performance.now();
    this.#poked = false;
    let outcome: Outcome;
    try {
      outcome = await this.#read(name, known);
    } catch (error) {
      if (error instanceof StoreFailure) {
        this.#pauseForStore(error.cause);
        outcome = "paused";
      } else if (error instanceof Deno.errors.NotFound) {
        outcome = "look again";
      } else {
        this.#warn(name, `read ${stateText(known.state)}`, "cannot be read: {reason}", error);
        outcome = "unreadable";
      }
    }
    known.tally.ms += performance.now() - this.#triedAt;
    if (outcome === "paused") {
      this.#atStart?.clear();
      return;
    }
    this.#pause = undefined;
    this.#unready(name);
    if (outcome === "settled") this.#storeAnswers();
    if (outcome === "look again") {
      this.#resting.set(name, performance.now() + this.#restMs);
      return;
    }
    // One that is unreadable is tried again by the next scan or event.
    if (outcome === "settled") await this.#settle(name, known);
    this.#atStart?.delete(name);
  }

  /** Reads what is left of a file into the store. Throws the file's errors, and {@linkcode StoreFailure}. */
  async #read(name: string, known: Known): Promise<Outcome> {
    const { store, maxKeyCount } = this.#options;
    if (!await this.#mayIngest()) return "paused";
    const path = this.#path(name);
    using file = await Deno.open(path);
    // The path's states are compared with each other only: a platform may number an open file differently.
    const state = known.state!;
    if ((await file.stat()).size !== state.size) return "look again";

    const whole = wholeBytes(state.size);
    let offset = 0;
    if (whole > 0) {
      const progress = await this.#ask(() => store.fileProgress(this.link, name));
      // A file that has grown may as well be another one: it is read from the start, the store knows its blocks.
      if (progress?.size === state.size && progress.mtime === state.mtime) {
        offset = wholeBytes(Math.min(progress.offset, whole));
        if (offset === whole) {
          logger.debug("{file} of link {link} was taken up before", { file: name, link: this.link });
          return "settled";
        }
      }
    }

    let room = 0;
    let saidAt = performance.now();
    // Blocks behind those that the store is taking in: read with them, or after them.
    let rest: Block[] | undefined;
    let ahead: Promise<Block[] | undefined> | undefined;
    await using reading = new AsyncDisposableStack();
    reading.defer(() => ahead?.then(() => {}, () => {}));
    const read = async (from: number, most: number, size: number): Promise<Block[] | undefined> => {
      const count = Math.min(size, most, (whole - from) / BLOCK_BYTES);
      const blocks: Block[] = [];
      while (blocks.length < count) {
        if (blocks.length > 0) await turnOfOthers();
        const missing = Math.min(BATCH_BLOCKS, count - blocks.length);
        const part = await readBlocks(file, from + blocks.length * BLOCK_BYTES, missing);
        if (part === undefined) return undefined;
        blocks.push(...part);
      }
      // What was read while the file changed may be torn: it is not stored.
      return sameState(state, await stateAt(path)) ? blocks : undefined;
    };
    while (offset < whole) {
      if (this.#closed) return "paused";
      if (room <= 0) {
        room = maxKeyCount - await this.#ask(() => store.freeBlocks(this.link));
        if (room <= 0) return this.#pauseForRoom(name);
        this.#resume(room, (whole - offset) / BLOCK_BYTES);
      }
      const ready = rest ?? await (ahead ?? read(offset, room, this.#batch));
      if (!rest) ahead = undefined;
      if (!ready) return "look again";
      const size = this.#batch;
      const blocks = ready.slice(0, size);
      rest = ready.length > size ? ready.slice(size) : undefined;
      await turnOfOthers();
      if (this.#closed || !await this.#mayIngest()) return "paused";
      const { requests } = store;
      const begun = performance.now();
      // Small again after a failure.
      this.#batch = BATCH_BLOCKS;
      const adding = this.#ask(() =>
        store.addBlocks({
          link: this.link,
          blocks,
          maxFree: maxKeyCount,
          file: { name, size: state.size, mtime: state.mtime, offset },
        })
      );
      const behind = offset + blocks.length * BLOCK_BYTES;
      if (!rest && behind < whole && blocks.length < room) {
        ahead = read(behind, room - blocks.length, size);
        // A failure is for the turn that needs these blocks.
        ahead.catch(() => {});
      }
      const added = await adding;
      const mayBeLong = !store.blocking && store.requests === requests;
      if (mayBeLong) this.#batch = nextBatch(blocks.length, performance.now() - begun);
      this.#storeAnswers();
      offset += added.taken * BLOCK_BYTES;
      room -= added.stored;
      known.tally.stored += added.stored;
      known.tally.known += added.known;
      if (added.taken < blocks.length) return this.#pauseForRoom(name);
      if (offset < whole && performance.now() - saidAt >= PROGRESS_MS) {
        saidAt = performance.now();
        logger.info("{file} of link {link}: {percent} % of {size} bytes taken up", {
          file: name,
          link: this.link,
          percent: Math.floor(100 * offset / whole),
          size: state.size,
        });
      }
      await turnOfOthers();
    }
    if (whole > 0) {
      this.#resume(Infinity, 0);
      this.#report(name, known);
    }
    return "settled";
  }

  #report(name: string, known: Known): void {
    const { stored, known: left } = known.tally;
    logger.info("{file} of link {link}: {stored} keys stored, {known} known before, in {ms} ms", {
      file: name,
      link: this.link,
      stored,
      known: left,
      ms: Math.round(known.tally.ms + performance.now() - this.#triedAt),
    });
  }

  /** Nothing is left to be read of a file. */
  async #settle(name: string, known: Known): Promise<void> {
    const state = known.state!;
    known.settled = state;
    const rest = state.size - wholeBytes(state.size);
    if (state.size === 0) {
      this.#warn(name, `empty ${stateText(state)}`, "is empty");
    } else if (rest > 0) {
      this.#warn(
        name,
        `rest ${stateText(state)}`,
        `ends in ${rest} of a key's ${BLOCK_BYTES} bytes, left out`,
      );
    } else if (this.#options.deleteAfterRead) {
      known.deletable = true;
      await this.#delete(name, known);
    }
    const { stored, known: left } = known.tally;
    if (stored + left === 0) return;
    known.tally = { stored: 0, known: 0, ms: 0 };
    try {
      this.#options.onIngested?.({ link: this.link, file: name, stored, known: left });
    } catch (error) {
      logger.error("A listener of ingestion failed: {reason}", { reason: errorMessage(error) });
    }
  }

  /** Deletes a file whose blocks are durable, unless it is no longer the one that was read. */
  async #delete(name: string, known: Known): Promise<void> {
    const path = this.#path(name);
    try {
      const state = await stateAt(path);
      if (!sameState(state, known.settled)) {
        this.#hinted.add(name);
        return;
      }
      // What a writer adds to a deleted file would be lost: one of which is not known that it is done may only be slow.
      known.complete = this.#watch.takeWord(name) ?? known.complete;
      const due = known.since + this.#quietMs;
      if (!known.complete && performance.now() < due) {
        this.#resting.set(name, due);
        return;
      }
      known.deletable = false;
      await Deno.remove(path);
      this.#forget(name);
      logger.debug("{file} of link {link} deleted", { file: name, link: this.link });
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return;
      this.#warn(name, `delete ${stateText(known.settled)}`, "cannot be deleted: {reason}", error);
    }
  }

  /** Asks the store something, telling its failures from a file's. */
  async #ask<T>(question: () => T | Promise<T>): Promise<T> {
    try {
      return await question();
    } catch (error) {
      throw new StoreFailure("store", { cause: error });
    }
  }

  #storeAnswers(): void {
    if (this.#storeFailures === 0) return;
    this.#storeFailures = 0;
    logger.info("The key store of link {link} answers again", { link: this.link });
  }

  async #mayIngest(): Promise<boolean> {
    const { mayIngest } = this.#options;
    if (!mayIngest) return true;
    let may: boolean;
    try {
      may = await mayIngest();
    } catch (error) {
      throw new StoreFailure("store", { cause: error });
    }
    if (!may) this.#pauseUntil("not ours", performance.now() + this.#rescanMs);
    return may;
  }

  #pauseForStore(error: unknown): void {
    const first = this.#storeFailures++ === 0;
    if (first) {
      logger.error("Key files of link {link} wait, the key store failed: {reason}", {
        link: this.link,
        reason: errorMessage(error),
      });
    }
    const delay = Math.min(this.#retryMs * 2 ** Math.min(this.#storeFailures - 1, 16), MAX_RETRY_MS);
    this.#pause = { why: "store", until: performance.now() + delay };
  }

  #pauseForRoom(name: string): "paused" {
    if (!this.#saidFull) {
      this.#saidFull = true;
      logger.info("Link {link} is full with {count} free keys, {file} waits", {
        link: this.link,
        count: this.#options.maxKeyCount,
        file: name,
      });
    }
    this.#pauseUntil("full", performance.now() + this.#rescanMs);
    return "paused";
  }

  #pauseUntil(why: Pause["why"], until: number): void {
    this.#pause = { why, until };
    // A poke that came meanwhile may have been for room that was counted too early.
    if (this.#poked) this.poke();
  }

  /** Says that a full link has room again, but not for every single key that is taken from it. */
  #resume(room: number, wanted: number): void {
    if (!this.#saidFull || room < Math.min(this.#options.maxKeyCount / 100, wanted)) return;
    this.#saidFull = false;
    logger.info("Link {link} has room again, its key files are taken up", { link: this.link });
  }

  #warn(name: string, about: string, text: string, error?: unknown): void {
    const known = this.#remember(name);
    const properties = {
      file: name,
      directory: this.#directory,
      link: this.link,
      reason: errorMessage(error),
    };
    if (known.warned === about) {
      logger.debug(`{file} in {directory} of link {link} still ${text}`, properties);
      return;
    }
    known.warned = about;
    logger.warning(`{file} in {directory} of link {link} ${text}`, properties);
  }

  #checkStarted(): void {
    if (this.#atStart?.size === 0) this.#started.resolve();
  }

  #remember(name: string): Known {
    let known = this.#known.get(name);
    if (known === undefined) {
      known = { since: 0, complete: false, tally: { stored: 0, known: 0, ms: 0 } };
      this.#known.set(name, known);
    }
    return known;
  }

  #forget(name: string): void {
    this.#known.delete(name);
    this.#resting.delete(name);
    this.#unready(name);
    this.#atStart?.delete(name);
  }

  #unready(name: string): void {
    if (!this.#ready.delete(name)) return;
    if (this.#readyInOrder?.at(-1) === name) this.#readyInOrder.pop();
    else this.#readyInOrder = undefined;
  }

  #nextReady(): string | undefined {
    // Kept in reverse: the next one is taken off the end.
    this.#readyInOrder ??= [...this.#ready].sort(compareNames).reverse();
    return this.#readyInOrder.at(-1);
  }

  #path(name: string): string {
    return join(this.#directory, name);
  }
}

/** Blocks for the transaction after one of so many that took so long, when nobody else waited for the store. */
function nextBatch(blocks: number, milliseconds: number): number {
  if (milliseconds > SLOW_MS) return BATCH_BLOCKS;
  const size = milliseconds < QUICK_MS ? 2 * blocks : blocks;
  return Math.min(Math.max(size, BATCH_BLOCKS), MAX_BATCH_BLOCKS);
}

/** State of the file at a path now, `undefined` when there is none. */
async function stateAt(path: string): Promise<FileState | undefined> {
  try {
    return fileState(await Deno.stat(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Lets what else the process has to do, requests above all, have a turn. */
function turnOfOthers(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

function stateText(state: FileState | undefined): string {
  return state ? `${state.size} ${state.mtime} ${state.ino}` : "";
}
