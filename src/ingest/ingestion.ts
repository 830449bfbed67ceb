/**
 * Ingestion: key files appear in watched directories, their blocks go to the store.
 *
 * Links are independent of each other; of one link one file is read at a time, in the order of the files' names.
 */
import type { KmeId } from "../domain/ids.ts";
import type { BlockStore } from "../store/block_store.ts";
import type { Watcher } from "./directory_watch.ts";
import { LinkIngestion } from "./link_ingestion.ts";

/** A directory in which key files of one link appear. */
export interface WatchedDirectory {
  /** The KME with which the keys are shared; this KME's own id for the local directory. */
  readonly link: KmeId;
  readonly directory: string;
}

/** A file whose whole blocks are all durably stored or known. */
export interface IngestedFile {
  readonly link: KmeId;
  /** Name without directory. */
  readonly file: string;
  /** Blocks newly stored by this process. */
  readonly stored: number;
  /** Blocks left out because they had been stored before, at any time. */
  readonly known: number;
}

/** What {@linkcode startIngestion} needs. */
export interface IngestionOptions {
  readonly directories: readonly WatchedDirectory[];
  readonly store: BlockStore;
  /** Cap of free blocks per link. */
  readonly maxKeyCount: number;
  /** Delete a file once its blocks are durably stored. A file with a rest of 1 to 31 bytes, or an empty one, stays. */
  readonly deleteAfterRead: boolean;
  /** May this process ingest now? Asked before every transaction; for several processes on one database. */
  readonly mayIngest?: () => boolean | Promise<boolean>;
  /** Milliseconds for which a file's size and mtime must stand still before it is read; default 500. */
  readonly restMs?: number;
  /**
   * Milliseconds for which a file must stand unchanged before it is deleted, where the system does not tell that its writer
   * has closed it or that it was renamed in; default 60000.
   */
  readonly quietMs?: number;
  /** Milliseconds between two scans of a directory; default 10000. */
  readonly rescanMs?: number;
  /** Milliseconds before the first new try after the store failed, doubled up to 30 s; default 500. */
  readonly retryMs?: number;
  /** Starts a watcher; default `Deno.watchFs`, not recursive. */
  readonly watch?: (directory: string) => Watcher;
  /** Told once a file was taken up, after its deletion if it is to be deleted at once. */
  readonly onIngested?: (event: IngestedFile) => void;
}

/** Running ingestion. */
export interface Ingestion {
  /** Resolves when every file found at the start has been taken up, or could not be. Never rejects. */
  readonly started: Promise<void>;
  /** Takes up what waits now, of one link or of all, e.g. when room was made. Cheap, may be called often. */
  poke(link?: KmeId): void;
  /** Stops; a transaction under way is finished, and nothing stays open. */
  close(): Promise<void>;
}

/**
 * Starts to take up key files. Never throws: what is wrong with a directory or file is logged and tried again.
 *
 * @example
 * ```ts
 * const ingestion = startIngestion({
 *   directories: [{ link: "1", directory: "keys/local" }, { link: "2", directory: "keys/kme2" }],
 *   store,
 *   maxKeyCount: 1_000_000,
 *   deleteAfterRead: true,
 * });
 * await ingestion.started;
 * await ingestion.close();
 * ```
 */
export function startIngestion(options: IngestionOptions): Ingestion {
  const links = options.directories.map((watched) => new LinkIngestion(watched, options));
  const runs = links.map((link) => link.run());
  return {
    started: Promise.all(links.map((link) => link.started)).then(() => undefined),
    poke: (id) => {
      for (const link of links) if (id === undefined || link.link === id) link.poke();
    },
    close: async () => {
      for (const link of links) link.stop();
      await Promise.all(runs);
    },
  };
}
