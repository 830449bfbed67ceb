/** What ingestion is given, and what it tells. */
import type { WatchedDirectory } from "../domain/network.ts";
import type { KmeId } from "../domain/ids.ts";
import type { BlockStore } from "../store/block_store.ts";
import type { Watcher } from "./directory_watch.ts";

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

/** A file that is not ingested as it is. */
export interface RefusedFile {
  readonly link: KmeId;
  /** Name without directory. */
  readonly file: string;
  /** In words. */
  readonly reason: string;
}

/** What is done with a file whose bytes do not look random, see `key_health.ts`. */
export type HealthAction = "refuse" | "warn" | "off";

export interface IngestionOptions {
  /** This KME. */
  readonly kme: KmeId;
  readonly directories: readonly WatchedDirectory[];
  readonly store: BlockStore;
  /** Cap of free blocks per link. */
  readonly maxKeyCount: number;
  /** Delete a file once its blocks are durably stored. A file with a rest of 1 to 31 bytes, or an empty one, stays. */
  readonly deleteAfterRead: boolean;
  /** Default `refuse`. */
  readonly health?: HealthAction;
  /**
   * What is done with files that were ingested into another database before: ingest them with a warning, since the database
   * is in memory or the configuration says so, or refuse them. Default `ingest`.
   */
  readonly servedFiles?: "ingest" | "refuse";
  /** May this process ingest now? Asked before every transaction; for several processes on one database. */
  readonly mayIngest?: () => boolean | Promise<boolean>;
  /** Milliseconds for which a file's size and mtime must not change before it is read; default 500. */
  readonly restMs?: number;
  /**
   * Milliseconds for which a file must be unchanged before it is deleted, where the system does not tell that its writer
   * has closed it or that it was renamed in; default 60000.
   */
  readonly quietMs?: number;
  /** Milliseconds between two scans of a directory; default 10000. */
  readonly rescanMs?: number;
  /** Milliseconds before the first retry after the store failed, doubled up to 30 s; default 500. */
  readonly retryMs?: number;
  /**
   * Milliseconds of a transaction below which the next one may be larger while no request comes; after one that takes 2.5 times
   * as long it is small again; default 200.
   */
  readonly quickMs?: number;
  /** Starts a watcher; default `Deno.watchFs`, not recursive. */
  readonly watch?: (directory: string) => Watcher;
  /** Told once a file was ingested, after its deletion if it is to be deleted at once. */
  readonly onIngested?: (file: IngestedFile) => void;
  /** Told once for each state of a file that is refused or cannot be read. */
  readonly onRefused?: (file: RefusedFile) => void;
  /** Told of each file that is ingested although it was ingested into another database before. */
  readonly onServedAgain?: (file: RefusedFile) => void;
}

/** What is wrong with a link's directory and files now. */
export interface IngestionState {
  readonly link: KmeId;
  /** Why the directory cannot be read. */
  readonly directoryProblem?: string;
  /** Files that are refused or cannot be read. */
  readonly refused: readonly RefusedFile[];
  /** Files ingested by this process that an earlier run may have served: their keys may be given out twice. */
  readonly servedAgain: number;
}
