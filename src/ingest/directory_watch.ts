/**
 * Events of one watched directory. An event is only a hint to look at a file: no platform reports every way in which a file
 * can arrive, so a periodic scan finds what no event told.
 */
import { basename } from "node:path";
import type { KmeId } from "../domain/ids.ts";
import { log } from "../log.ts";
import { isKeyFileName } from "./key_file.ts";
import { errorMessage } from "../domain/text.ts";
import { platform } from "../platform.ts";

const logger = log("ingest");

/** What `Deno.watchFs` gives. */
export type Watcher = AsyncIterable<Deno.FsEvent> & { close(): void };

/** What is told of events. */
export interface WatchListener {
  /** Something happened to a key file. */
  onHint(name: string): void;
  /** A key file was removed, or renamed. */
  onRemoved(name: string): void;
  /** Something happened that may have been missed, or to the directory itself. */
  onDoubt(): void;
}

// After so many errors in a row the watcher is broken. A name that is not UTF-8 causes a few.
const MAX_ERRORS = 32;

const COMPLETE: ReadonlySet<Deno.FsEvent["kind"]> = new Set(platform.completeEvents);

/** Watches one directory, and can be opened again after it went away. */
export class DirectoryWatch {
  readonly #link: KmeId;
  readonly #directory: string;
  readonly #start: (directory: string) => Watcher;
  readonly #listener: WatchListener;
  /** Whether a file is complete, as its last event told, until it is asked for. */
  readonly #hints = new Map<string, boolean>();
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

  /** True when the watched directory was removed: the path may lead to another one now. */
  get isStale(): boolean {
    return this.#stale;
  }

  /**
   * What events told of a file since this was asked before: true when it is complete, since its writer has closed it or it was
   * renamed in, false when it may not be; `undefined` when nothing was told.
   */
  takeCompletionHint(name: string): boolean | undefined {
    const hint = this.#hints.get(name);
    this.#hints.delete(name);
    return hint;
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

  /** Stops watching; resolves when no more events come. */
  async close(): Promise<void> {
    const watcher = this.#watcher;
    this.#watcher = undefined;
    this.#stale = false;
    this.#hints.clear();
    try {
      watcher?.close();
    } catch {
      // It had already ended.
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
        // For example a name that is not UTF-8; the watcher goes on.
        failure = error;
        errors++;
        this.#listener.onDoubt();
      }
    }
    if (this.#watcher !== watcher) return;
    this.#fail(failure ?? "it ended");
    this.#watcher = undefined;
    this.#hints.clear();
    try {
      watcher.close();
    } catch {
      // It had already ended.
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
      if (event.kind === "remove") {
        this.#hints.delete(name);
        this.#listener.onRemoved(name);
        continue;
      }
      this.#hints.set(name, COMPLETE.has(event.kind));
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
