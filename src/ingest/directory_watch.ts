/**
 * Events of one watched directory. All that differs between platforms is here; everybody else takes an event as a
 * hint to look at a file, since no platform reports every way in which a file can arrive (a symbolic link raises no
 * event at all on Linux) and a periodic scan has to back them anyway.
 */
import { basename } from "node:path";
import type { KmeId } from "../domain/ids.ts";
import { log } from "../log.ts";
import { isKeyFileName } from "./key_file.ts";
import { errorMessage } from "../domain/text.ts";

const logger = log("ingest");

/** What `Deno.watchFs` gives. */
export type Watcher = AsyncIterable<Deno.FsEvent> & { close(): void };

/** Whom the events are told. */
export interface WatchListener {
  /** Something happened to a key file. */
  onHint(name: string): void;
  /** Something happened that may have been missed, or to the directory itself. */
  onDoubt(): void;
}

// So many in a row without one event between them: the watcher is broken. A name that is not UTF-8 makes a few.
const MAX_ERRORS = 32;

// Only Linux tells that a file that was written was closed, as `access`, and tells it apart from a name that it was given.
// What another host does in a shared directory is told nowhere.
const COMPLETE: ReadonlySet<Deno.FsEvent["kind"]> = new Set(
  Deno.build.os === "linux" ? ["access", "rename"] as const : [],
);

/** Watches one directory, and can be opened again after it went away. */
export class DirectoryWatch {
  readonly #link: KmeId;
  readonly #directory: string;
  readonly #start: (directory: string) => Watcher;
  readonly #listener: WatchListener;
  /** What the last event of a file said of it, until somebody wants to know. */
  readonly #words = new Map<string, boolean>();
  #watcher: Watcher | undefined;
  #ended: Promise<void> = Promise.resolve();
  #warned = false;
  #stale = false;

  constructor(
    link: KmeId,
    directory: string,
    start: (directory: string) => Watcher,
    listener: WatchListener,
  ) {
    this.#link = link;
    this.#directory = directory;
    this.#start = start;
    this.#listener = listener;
  }

  /** True when the directory that is watched was removed: what has its path now is another one. */
  get isStale(): boolean {
    return this.#stale;
  }

  /**
   * The last word on a file since this was asked before: true when it is complete, since its writer has closed it or it came
   * under its name in one step, false when it may not be; `undefined` when nothing was told.
   */
  takeWord(name: string): boolean | undefined {
    const word = this.#words.get(name);
    this.#words.delete(name);
    return word;
  }

  /** Starts watching. One warning when that fails, until it works again. */
  open(): void {
    if (this.#watcher) return;
    try {
      this.#watcher = this.#start(this.#directory);
    } catch (error) {
      this.#fail(error);
      return;
    }
    this.#ended = this.#follow(this.#watcher);
  }

  /** Stops watching; resolves when no event comes any more. */
  async close(): Promise<void> {
    const watcher = this.#watcher;
    this.#watcher = undefined;
    this.#stale = false;
    this.#words.clear();
    try {
      watcher?.close();
    } catch {
      // It had ended by itself.
    }
    await this.#ended;
  }

  async #follow(watcher: Watcher): Promise<void> {
    const events = watcher[Symbol.asyncIterator]();
    let failure: unknown;
    for (let errors = 0; errors < MAX_ERRORS;) {
      try {
        const { done, value } = await events.next();
        if (done) break;
        errors = 0;
        this.#warned = false;
        this.#tell(value);
      } catch (error) {
        // A name that is not UTF-8, for one; the watcher works on.
        failure = error;
        errors++;
        this.#listener.onDoubt();
      }
    }
    if (this.#watcher !== watcher) return;
    this.#fail(failure ?? "it ended");
    this.#watcher = undefined;
    this.#words.clear();
    try {
      watcher.close();
    } catch {
      // It had ended by itself.
    }
  }

  #tell(event: Deno.FsEvent): void {
    if (event.flag === "rescan") this.#listener.onDoubt();
    for (const path of event.paths) {
      const name = basename(path);
      if (event.kind === "remove" && name === basename(this.#directory)) {
        this.#stale = true;
        this.#listener.onDoubt();
      }
      if (!isKeyFileName(name)) continue;
      if (event.kind === "remove") this.#words.delete(name);
      else this.#words.set(name, COMPLETE.has(event.kind));
      this.#listener.onHint(name);
    }
  }

  #fail(error: unknown): void {
    if (this.#warned) return;
    this.#warned = true;
    logger.warning("Cannot watch {directory} of link {link}, relying on the periodic scan: {reason}", {
      directory: this.#directory,
      link: this.#link,
      reason: errorMessage(error),
    });
  }
}
