/** Ingestion of one link's directory: one loop that looks for files, waits until they do not change, and reads them. */
import { join } from "node:path";
import { type Block, BLOCK_BYTES, blocksOf } from "../domain/block.ts";
import { overwrite, sameBytes } from "../domain/bytes.ts";
import type { KmeId } from "../domain/ids.ts";
import type { WatchedDirectory } from "../domain/network.ts";
import { errorMessage } from "../domain/text.ts";
import { log } from "../log.ts";
import type { FileProgress } from "../store/block_store.ts";
import { DirectoryWatch } from "./directory_watch.ts";
import { FileTable, type KnownFile } from "./file_table.ts";
import type { IngestionOptions, IngestionState } from "./ingestion_options.ts";
import type { KeySource } from "./key_source.ts";
import {
  type FileState,
  fileState,
  isKeyFileName,
  KeyFile,
  sameState,
  stateAt,
  wholeBytes,
} from "./key_file.ts";
import { ServedFiles } from "./served_files.ts";
import { FIRST_BLOCKS, TransactionSize } from "./transaction_size.ts";

const logger = log("ingest");

/** Files that are looked at at once. */
const LOOKS = 32;
/** Files that share one transaction, and most blocks of such a file. */
const GROUP_FILES = 256;
const GROUP_FILE_BLOCKS = 128;
const PROGRESS_MS = 5_000;
const MAX_RETRY_MS = 30_000;
/** Room is made with every key that is delivered; looking for it costs the store a query. */
const ROOM_MS = 250;

/** Why nothing can be ingested, and when to retry. */
interface Pause {
  readonly why: "full" | "store" | "not ours";
  until: number;
}

/** How reading a file ended. */
type Outcome = "done" | "look again" | "refused" | "paused";

/** A file that was looked through and is to be read from an offset on. */
interface CheckedFile {
  readonly known: KnownFile;
  readonly file: KeyFile;
  readonly state: FileState;
  readonly digest: Uint8Array;
  /** key_IDs of some blocks. */
  readonly marks: readonly Uint8Array[];
  /** Its whole blocks, where it is small. */
  readonly bytes?: Uint8Array;
  /** Bytes whose blocks are stored already. */
  readonly offset: number;
  /** It was ingested into another database before. */
  readonly servedBefore: boolean;
}

/** The store's failures, apart from the file's. */
class StoreFailure extends Error {}

/** Ingests the key files of one directory. */
export class LinkIngestion implements KeySource {
  readonly link: KmeId;
  /** Resolves when what was found at the start has been ingested, or could not be. */
  readonly started: Promise<void>;

  readonly #directory: string;
  readonly #options: IngestionOptions;
  readonly #restMs: number;
  readonly #quietMs: number;
  readonly #rescanMs: number;
  readonly #retryMs: number;
  readonly #watch: DirectoryWatch;
  readonly #served: ServedFiles;
  readonly #files = new FileTable();
  readonly #started = Promise.withResolvers<void>();

  #closed = false;
  #wake: (() => void) | undefined;
  #scanAt = 0;
  #directoryIdentity: string | undefined;
  #directoryProblem: string | undefined;
  #servedAgain = 0;

  #pause: Pause | undefined;
  #triedAt = -Infinity;
  #roomMade = false;
  #saidFull = false;
  #storeFailures = 0;
  readonly #size: TransactionSize;

  constructor(watched: WatchedDirectory, options: IngestionOptions) {
    this.link = watched.link;
    this.#directory = watched.directory;
    this.#options = options;
    this.#restMs = options.restMs ?? 500;
    this.#quietMs = options.quietMs ?? 60_000;
    this.#rescanMs = options.rescanMs ?? 10_000;
    this.#retryMs = options.retryMs ?? 500;
    this.#size = new TransactionSize(options.quickMs ?? 200);
    this.#served = new ServedFiles(watched.directory, options.kme, options.store.databaseId);
    this.started = this.#started.promise;
    const watch = options.watch ?? ((directory) => Deno.watchFs(directory, { recursive: false }));
    this.#watch = new DirectoryWatch(watched.link, watched.directory, watch, {
      onHint: (name) => {
        if (this.#files.isResting(name)) return;
        this.#files.hint(name);
        this.#wake?.();
      },
      onRemoved: (name) => {
        if (!this.#files.knows(name)) return;
        this.#files.hint(name);
        this.#wake?.();
      },
      onDoubt: () => this.#scanSoon(),
    });
  }

  get state(): IngestionState {
    return {
      link: this.link,
      directoryProblem: this.#directoryProblem,
      refused: this.#files.refused.map(({ name, refused }) => ({
        link: this.link,
        file: name,
        reason: refused!,
      })),
      servedAgain: this.#servedAgain,
    };
  }

  /** Runs until {@linkcode stop}; resolves when nothing is left open. */
  async run(): Promise<void> {
    while (!this.#closed) {
      try {
        await this.#turn();
      } catch (error) {
        // Nothing is expected here; an error of the program must not end ingestion for good.
        logger.error("Ingestion of link {link} failed, will retry: {reason}", {
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

  /** Retries soon when the link was full. */
  roomMade(): void {
    this.#roomMade = true;
    if (this.#pause?.why !== "full") return;
    this.#pause.until = Math.min(this.#pause.until, this.#triedAt + ROOM_MS);
    this.#wake?.();
  }

  async #turn(): Promise<void> {
    if (performance.now() >= this.#scanAt) await this.#scan();
    const hinted = this.#files.takeHints(performance.now());
    for (let i = 0; i < hinted.length; i += LOOKS) {
      if (this.#closed) return;
      await Promise.all(hinted.slice(i, i + LOOKS).map((name) => this.#look(name)));
    }
    // The files found at the start are read in order: the first of them may be the last that was looked at.
    const next = this.#files.isOrderOpen ? [] : this.#files.nextReady(GROUP_FILES);
    if (next.length > 0 && (!this.#pause || performance.now() >= this.#pause.until)) {
      await this.#ingest(next);
      return;
    }
    if (this.#files.isStarted) this.#started.resolve();
    let until = Math.min(this.#scanAt, this.#files.nextLook);
    if (next.length > 0 && this.#pause) until = Math.min(until, this.#pause.until);
    await this.#sleepUntil(until);
  }

  /** Sleeps until a moment of the monotonic clock, or until something happens. */
  async #sleepUntil(until: number): Promise<void> {
    if (this.#closed || this.#files.hasHints) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      // Rounded up, so that the moment has come when the timer fires.
      timer = setTimeout(resolve, Math.max(0, Math.ceil(until - performance.now())));
    });
    clearTimeout(timer);
    this.#wake = undefined;
  }

  #scanSoon(): void {
    this.#scanAt = 0;
    this.#wake?.();
  }

  /** Lists the directory; before that it opens the watcher, so that no file is missed in between. */
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
      await this.#directoryLost(errorMessage(error));
      return;
    }
    if (this.#directoryProblem !== undefined) {
      this.#directoryProblem = undefined;
      logger.info("The directory {directory} of link {link} is back", {
        directory: this.#directory,
        link: this.link,
      });
    }
    for (const name of this.#files.names) if (!names.has(name)) this.#files.forget(name);
    for (const name of names) this.#files.hint(name);
    this.#files.begin(names);
  }

  async #directoryLost(reason: string): Promise<void> {
    if (this.#directoryProblem === undefined) {
      logger.error("Cannot read the directory {directory} of link {link}: {reason}", {
        directory: this.#directory,
        link: this.link,
        reason,
      });
    }
    this.#directoryProblem = reason;
    await this.#watch.close();
    for (const name of this.#files.names) this.#files.forget(name);
    this.#files.begin([]);
  }

  /** Finds out whether a file is to be read now, later, or not at all. */
  async #look(name: string): Promise<void> {
    const known = this.#files.remember(name);
    // Read the hint before the state, so that no change is missed.
    const hint = this.#watch.takeCompletionHint(name);
    let info: Deno.FileInfo;
    try {
      info = await Deno.lstat(this.#path(name));
    } catch (error) {
      if (name.includes("\uFFFD")) this.#refuse(known, "name", "has a name that is not UTF-8");
      else if (error instanceof Deno.errors.NotFound) this.#files.forget(name);
      else this.#unreadable(known, error);
      this.#files.notReady(name);
      this.#files.startedWith(name);
      return;
    }
    if (!info.isFile) {
      this.#files.notReady(name);
      const kind = info.isSymlink ? "is a symbolic link" : "is not a regular file";
      this.#refuse(known, `kind ${info.ino}`, kind);
      this.#files.startedWith(name);
      return;
    }

    const state = fileState(info);
    const now = performance.now();
    if (sameState(state, known.state)) known.complete = hint ?? known.complete;
    else {
      // A file that is still being written does not hold up the start.
      if (known.state) this.#files.startedWith(name);
      known.state = state;
      known.since = now;
      known.complete = hint ?? false;
      known.refused = undefined;
      known.done = undefined;
      known.deletable = false;
      known.tally = { stored: 0, known: 0, ms: 0 };
    }
    if (sameState(state, known.done)) {
      this.#files.notReady(name);
      this.#files.startedWith(name);
      if (known.deletable) await this.#delete(known);
      return;
    }
    // Unchanged for as long as this process has looked. The mtime of a complete file tells more; otherwise it may come from a
    // host whose clock is slow, and the file may still be written.
    const unchanged = Math.max(now - known.since, known.complete ? Date.now() - state.mtime : 0);
    if (unchanged >= this.#restMs) this.#files.ready(name);
    else this.#files.rest(name, now + this.#restMs - unchanged);
  }

  /** Reads the first of these files, or several small ones in one transaction. */
  async #ingest(next: readonly KnownFile[]): Promise<void> {
    this.#triedAt = performance.now();
    this.#roomMade = false;
    let bytes = 0;
    const fits = ({ state }: KnownFile) => {
      bytes += state!.size;
      return state!.size <= GROUP_FILE_BLOCKS * BLOCK_BYTES && bytes <= this.#size.blocks * BLOCK_BYTES;
    };
    const end = next.findIndex((known) => !fits(known));
    const small = next.slice(0, end < 0 ? next.length : end);
    try {
      if (!await this.#mayIngest()) return this.#files.startedWithAll();
      const room = await this.#room();
      // A full link is not read for: opening and checking its files would be for nothing.
      if (room <= 0 && next[0]!.state!.size >= BLOCK_BYTES) {
        this.#pauseForRoom(next[0]!);
        return this.#files.startedWithAll();
      }
      this.#pause = undefined;
      if (small.length > 1 && await this.#ingestSmall(small, room)) return;
      await this.#ingestFile(next[0]!);
    } catch (error) {
      if (!(error instanceof StoreFailure)) throw error;
      this.#pauseForStore(error.cause);
      this.#files.startedWithAll();
    }
  }

  /**
   * @param room free places of the link, in blocks.
   * @returns false when there is no room for the first of them.
   */
  async #ingestSmall(files: readonly KnownFile[], room: number): Promise<boolean> {
    await using opened = new AsyncDisposableStack();
    const { store, maxKeyCount } = this.#options;
    const progress = await this.#ask(() => store.fileProgress(this.link, files.map(({ name }) => name)));
    const checked = await Promise.all(files.map((known) =>
      this.#guarded(known, async () => {
        const file = await this.#check(known, progress.get(known.name), true);
        return typeof file === "string" ? file : opened.use(file.file) && file;
      })
    ));
    const read: { file: CheckedFile; blocks: Block[] }[] = [];
    // Bytes that were never given to the store.
    const unstored = new Set(checked.flatMap((result) => typeof result === "string" ? [] : [result.bytes!]));
    opened.defer(() => unstored.forEach((bytes) => bytes.fill(0)));
    for (const [i, result] of checked.entries()) {
      const known = files[i]!;
      if (typeof result === "string") {
        await this.#finish(known, result);
        continue;
      }
      const count = (wholeBytes(result.state.size) - result.offset) / BLOCK_BYTES;
      // The next turn reads a part of it.
      if (count > room) break;
      const blocks = blocksOf(result.bytes!.subarray(result.offset));
      this.#resume(room, count);
      room -= count;
      read.push({ file: result, blocks });
    }
    if (read.length === 0) return checked.some((result) => typeof result === "string");
    if (this.#closed || !await this.#mayIngest()) return true;
    await this.#recordServed(read.map(({ file }) => file));
    for (const { file } of read) unstored.delete(file.bytes!);
    const { result: added, pause } = await this.#store(() =>
      Promise.all(
        read.map(({ file, blocks }) =>
          store.addBlocks({
            link: this.link,
            blocks,
            maxFree: maxKeyCount,
            file: progressOf(file, file.offset),
          })
        ),
      )
    );
    const ms = performance.now() - this.#triedAt;
    await Promise.all(read.map(async ({ file: { known, bytes }, blocks }, i) => {
      const { stored, known: left, taken } = added[i]!;
      known.tally.stored += stored;
      known.tally.known += left;
      known.tally.ms += ms / read.length;
      bytes!.fill(0);
      if (taken < blocks.length) return this.#pauseForRoom(known);
      this.#report(known);
      await this.#finish(known, "done");
    }));
    await turnOfOthers(pause);
    return true;
  }

  async #ingestFile(known: KnownFile): Promise<void> {
    const outcome = await this.#guarded(known, () => this.#read(known));
    known.tally.ms += performance.now() - this.#triedAt;
    if (outcome === "paused") return this.#files.startedWithAll();
    await this.#finish(known, outcome);
  }

  /** What becomes of a file after it was read, or could not be. */
  async #finish(known: KnownFile, outcome: Outcome): Promise<void> {
    this.#files.notReady(known.name);
    if (outcome === "look again") {
      this.#files.rest(known.name, performance.now() + this.#restMs);
      return;
    }
    if (outcome === "done") await this.#done(known);
    this.#files.startedWith(known.name);
  }

  /** Turns the errors of a file into what becomes of it. Throws {@linkcode StoreFailure}. */
  async #guarded<T>(known: KnownFile, action: () => Promise<T>): Promise<T | Outcome> {
    try {
      return await action();
    } catch (error) {
      if (error instanceof StoreFailure) throw error;
      // It became a symbolic link after it was looked at.
      if (isAbsent(error) || (error as { code?: unknown }).code === "ELOOP") return "look again";
      this.#unreadable(known, error);
      return "refused";
    }
  }

  /** Opens a file and looks through it; says what becomes of it when it is not to be read. The caller closes it. */
  async #check(
    known: KnownFile,
    progress: FileProgress | undefined,
    keepsBytes = false,
  ): Promise<CheckedFile | Outcome> {
    const { health = "refuse", servedFiles = "ingest" } = this.#options;
    const state = known.state!;
    const file = await KeyFile.open(this.#path(known.name), state);
    if (file === undefined) return "look again";
    await using unused = new AsyncDisposableStack();
    unused.use(file);
    const whole = wholeBytes(state.size);
    if (whole === 0) return "done";
    const check = await file.check(health !== "off", turnOfOthers, keepsBytes);
    unused.defer(() => void check?.bytes?.fill(0));
    if (check === undefined || !sameState(state, await stateAt(this.#path(known.name)))) return "look again";
    const { digest, marks, healthProblem, bytes } = check;
    known.digest = digest;
    // Only the same bytes count as ingested before, whatever name and times the file has.
    const same = progress?.size === state.size && progress.digest !== undefined &&
      sameBytes(progress.digest, digest);
    const offset = same ? wholeBytes(Math.min(progress!.offset, whole)) : 0;
    if (offset === whole) {
      logger.debug("{file} of link {link} was ingested before", { file: known.name, link: this.link });
      return "done";
    }
    if (healthProblem !== undefined && health === "refuse") {
      this.#refuse(known, `health ${stateText(state)}`, `does not look random (${healthProblem})`, state);
      return "refused";
    }
    if (healthProblem !== undefined) {
      this.#warn(
        known,
        `health ${stateText(state)}`,
        `does not look random (${healthProblem}), ingested all the same`,
      );
    }
    const servedBefore = await this.#served.servedBefore({ name: known.name, digest, marks });
    if (servedBefore && servedFiles === "refuse") {
      this.#refuse(
        known,
        `served ${stateText(state)}`,
        "was ingested into another database before, so its keys may have been given out; remove it, or set " +
          "this_kme.reingest_served_files",
        state,
      );
      return "refused";
    }
    unused.move();
    return { known, file, state, digest, marks, bytes, offset, servedBefore };
  }

  /** Reads what is left of a file into the store. Throws the file's errors, and {@linkcode StoreFailure}. */
  async #read(known: KnownFile): Promise<Outcome> {
    const { store, maxKeyCount } = this.#options;
    const { name } = known;
    const progress = await this.#ask(() => store.fileProgress(this.link, [name]));
    const checked = await this.#check(known, progress.get(name));
    if (typeof checked === "string") return checked;
    await using _open = checked.file;
    const { state } = checked;
    const whole = wholeBytes(state.size);
    let { offset } = checked;
    let room = 0;
    let saidAt = performance.now();
    // Blocks behind those that the store is storing: read with them, or after them.
    let rest: Block[] | undefined;
    let ahead: Promise<Block[] | undefined> | undefined;
    await using reading = new AsyncDisposableStack();
    reading.defer(async () => {
      overwrite(rest ?? []);
      overwrite(await ahead?.catch(() => undefined) ?? []);
    });
    const read = (from: number, most: number, size: number) =>
      this.#readBlocks(checked, from, Math.min(size, most, (whole - from) / BLOCK_BYTES));
    while (offset < whole) {
      if (this.#closed) return "paused";
      if (room <= 0) {
        room = await this.#room();
        if (room <= 0) return this.#pauseForRoom(known);
        this.#resume(room, (whole - offset) / BLOCK_BYTES);
      }
      const ready = rest ?? await (ahead ?? read(offset, room, this.#size.blocks));
      if (!rest) ahead = undefined;
      if (!ready) return "look again";
      const size = this.#size.blocks;
      const blocks = ready.slice(0, size);
      rest = ready.length > size ? ready.slice(size) : undefined;
      await turnOfOthers();
      if (this.#closed || !await this.#mayIngest()) {
        overwrite(blocks);
        return "paused";
      }
      await this.#recordServed([checked]);
      const adding = this.#store(() =>
        store.addBlocks({ link: this.link, blocks, maxFree: maxKeyCount, file: progressOf(checked, offset) })
      );
      const behind = offset + blocks.length * BLOCK_BYTES;
      if (!rest && behind < whole && blocks.length < room) {
        ahead = read(behind, room - blocks.length, size);
        // A failure is for the turn that needs these blocks.
        ahead.catch(() => {});
      }
      const { result: added, pause } = await adding;
      overwrite(blocks);
      offset += added.taken * BLOCK_BYTES;
      room -= added.stored;
      known.tally.stored += added.stored;
      known.tally.known += added.known;
      if (added.taken < blocks.length) return this.#pauseForRoom(known);
      if (offset < whole && performance.now() - saidAt >= PROGRESS_MS) {
        saidAt = performance.now();
        logger.info("{file} of link {link}: {percent} % of {size} bytes ingested", {
          file: name,
          link: this.link,
          percent: Math.floor(100 * offset / whole),
          size: state.size,
        });
      }
      await turnOfOthers(pause);
    }
    this.#resume(Infinity, 0);
    this.#report(known, performance.now() - this.#triedAt);
    return "done";
  }

  /** @returns `undefined` when the file is not the one that was checked any more: nothing of it may be stored. */
  async #readBlocks({ file, known, state }: CheckedFile, offset: number, count: number) {
    const blocks: Block[] = [];
    while (blocks.length < count) {
      if (blocks.length > 0) await turnOfOthers();
      const missing = Math.min(FIRST_BLOCKS, count - blocks.length);
      const part = await file.blocks(offset + blocks.length * BLOCK_BYTES, missing);
      if (part === undefined) break;
      blocks.push(...part);
    }
    if (blocks.length === count && sameState(state, await stateAt(this.#path(known.name)))) return blocks;
    overwrite(blocks);
    return undefined;
  }

  /** Files are recorded beside them before any of their blocks is stored: one that is to be deleted may stay for a while. */
  async #recordServed(files: readonly CheckedFile[]): Promise<void> {
    for (const { known, servedBefore } of files) {
      if (!servedBefore || known.tally.stored + known.tally.known > 0) continue;
      this.#servedAgain++;
      const reason =
        "was ingested into another database before: keys that were given out then may be given out again. " +
        "Use a database file (db_uri) and delete_key_file_after_read, or fresh key files";
      this.#options.onServedAgain?.({ link: this.link, file: known.name, reason });
      this.#warn(known, `served ${stateText(known.state)}`, reason);
    }
    await this.#served.record(files.map(({ known, digest, marks }) => ({ name: known.name, digest, marks })));
  }

  #report({ name, tally }: KnownFile, ms = 0): void {
    logger.info("{file} of link {link}: {stored} keys stored, {known} known before, in {ms} ms", {
      file: name,
      link: this.link,
      stored: tally.stored,
      known: tally.known,
      ms: Math.round(tally.ms + ms),
    });
  }

  /** Nothing is left to be read of a file. */
  async #done(known: KnownFile): Promise<void> {
    const state = known.state!;
    known.done = state;
    known.refused = undefined;
    const rest = state.size - wholeBytes(state.size);
    if (state.size === 0) {
      this.#warn(known, `empty ${stateText(state)}`, "is empty");
    } else if (rest > 0) {
      this.#warn(
        known,
        `rest ${stateText(state)}`,
        `ends with ${rest} of the ${BLOCK_BYTES} bytes of a block, which are ignored`,
      );
    } else if (this.#options.deleteAfterRead) {
      known.deletable = true;
      await this.#delete(known);
    }
    const { stored, known: left } = known.tally;
    if (stored + left === 0) return;
    known.tally = { stored: 0, known: 0, ms: 0 };
    this.#options.onIngested?.({ link: this.link, file: known.name, stored, known: left });
  }

  /** Deletes a file whose blocks are durable, unless it is no longer the one that was read. */
  async #delete(known: KnownFile): Promise<void> {
    const path = this.#path(known.name);
    try {
      // What a writer adds to a deleted file would be lost: a writer of which nothing is known may only be slow.
      known.complete = this.#watch.takeCompletionHint(known.name) ?? known.complete;
      const due = known.since + this.#quietMs;
      if (!known.complete && performance.now() < due) {
        this.#files.rest(known.name, due);
        return;
      }
      known.deletable = false;
      if (!await this.#isWhatWasRead(known)) {
        known.done = undefined;
        this.#files.hint(known.name);
        return;
      }
      await Deno.remove(path);
      if (known.digest !== undefined) await this.#served.forget(known.digest);
      this.#files.forget(known.name);
      logger.debug("{file} of link {link} deleted", { file: known.name, link: this.link });
    } catch (error) {
      if (isAbsent(error)) return;
      this.#warn(known, `delete ${stateText(known.done)}`, `cannot be deleted: ${errorMessage(error)}`);
    }
  }

  /** Whether a file that is about to be deleted has the contents that were read: its times alone do not prove that. */
  async #isWhatWasRead({ name, done, digest }: KnownFile): Promise<boolean> {
    if (digest === undefined) return false;
    await using file = await KeyFile.open(this.#path(name), done!);
    const check = await file?.check(false, turnOfOthers);
    return check !== undefined && sameBytes(check.digest, digest);
  }

  /** Asks the store something, telling its failures from a file's. */
  async #ask<T>(question: () => T | Promise<T>): Promise<T> {
    try {
      return await question();
    } catch (error) {
      throw new StoreFailure("store", { cause: error });
    }
  }

  /**
   * Runs a transaction that stores blocks.
   *
   * @returns its result, and the milliseconds to leave the database to requests.
   */
  async #store<T>(transaction: () => Promise<T>): Promise<{ result: T; pause: number }> {
    const { store } = this.#options;
    const { requests, blocking } = store;
    const begun = performance.now();
    try {
      const result = await this.#ask(transaction);
      this.#storeAnswers();
      const requested = store.requests !== requests;
      const milliseconds = performance.now() - begun;
      return { result, pause: this.#size.stored({ milliseconds, requested, blocking }) };
    } catch (error) {
      this.#size.failed();
      throw error;
    }
  }

  #storeAnswers(): void {
    if (this.#storeFailures === 0) return;
    this.#storeFailures = 0;
    logger.info("The key store of link {link} answers again", { link: this.link });
  }

  async #mayIngest(): Promise<boolean> {
    const { mayIngest } = this.#options;
    if (!mayIngest || await this.#ask(mayIngest)) return true;
    this.#pauseUntil("not ours", performance.now() + this.#rescanMs);
    return false;
  }

  /** Blocks that the link may get until it is full. */
  async #room(): Promise<number> {
    return this.#options.maxKeyCount - await this.#ask(() => this.#options.store.freeBlocks(this.link));
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

  #pauseForRoom({ name }: KnownFile): "paused" {
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
    // Room that was made meanwhile may not have been counted.
    if (this.#roomMade) this.roomMade();
  }

  #resume(room: number, needed: number): void {
    if (!this.#saidFull || room < needed) return;
    this.#saidFull = false;
    logger.info("Link {link} has room again, key files are ingested", { link: this.link });
  }

  #unreadable(known: KnownFile, error: unknown): void {
    const reason = `cannot be read: ${errorMessage(error)}`;
    this.#refuse(known, `read ${stateText(known.state)} ${errorMessage(error)}`, reason);
  }

  /** @param state of a file that is not looked at again until it changes. */
  #refuse(known: KnownFile, about: string, reason: string, state?: FileState): void {
    known.done = state;
    known.refused = reason;
    if (known.warned !== about) {
      this.#options.onRefused?.({ link: this.link, file: known.name, reason });
    }
    this.#warn(known, about, `${reason}; it is not ingested`);
  }

  #warn(known: KnownFile, about: string, text: string): void {
    const properties = { file: known.name, directory: this.#directory, link: this.link, text };
    if (known.warned === about) {
      logger.debug("{file} in {directory} of link {link} still {text}", properties);
      return;
    }
    known.warned = about;
    logger.warning("{file} in {directory} of link {link} {text}", properties);
  }

  #path(name: string): string {
    return join(this.#directory, name);
  }
}

/** As the runtime or its Node.js library tells that a file is not there. */
function isAbsent(error: unknown): boolean {
  return error instanceof Deno.errors.NotFound || (error as { code?: unknown }).code === "ENOENT";
}

function progressOf({ known, state, digest }: CheckedFile, offset: number): FileProgress {
  return { name: known.name, size: state.size, digest, offset };
}

/** Lets the rest of the program, requests above all, have a turn of so many milliseconds. */
function turnOfOthers(milliseconds = 0): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

function stateText(state: FileState | undefined): string {
  return state ? `${state.size} ${state.mtime} ${state.dev} ${state.ino}` : "";
}
