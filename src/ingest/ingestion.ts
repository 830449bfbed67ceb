/**
 * Ingestion: blocks come from key sources, above all from key files in watched directories, and go to the store.
 *
 * Sources are independent of each other; the files of one directory are read in the order of their names.
 */
import type { KmeId } from "../domain/ids.ts";
import type { IngestionOptions, IngestionState } from "./ingestion_options.ts";
import type { KeySource } from "./key_source.ts";
import { LinkIngestion } from "./link_ingestion.ts";

/** Running ingestion. */
export interface Ingestion {
  /** Resolves when all that was there at the start has been ingested, or could not be. Never rejects. */
  readonly started: Promise<void>;
  /** Of the directories, by link. */
  readonly states: readonly IngestionState[];
  /** Blocks of the link were used: if it was full, there is room again. Cheap, may be called often. */
  roomMade(link: KmeId): void;
  /** Stops; a transaction under way is finished, and nothing stays open. */
  close(): Promise<void>;
}

/**
 * Starts to ingest. Never throws: what is wrong with a source, directory or file is logged and retried.
 *
 * @param others sources besides the directories.
 *
 * @example
 * ```ts
 * const ingestion = startIngestion({
 *   kme: "1",
 *   directories: [{ link: "1", directory: "keys/local" }, { link: "2", directory: "keys/kme2" }],
 *   store,
 *   maxKeyCount: 1_000_000,
 *   deleteAfterRead: true,
 * });
 * await ingestion.started;
 * await ingestion.close();
 * ```
 */
export function startIngestion(options: IngestionOptions, others: readonly KeySource[] = []): Ingestion {
  const directories = options.directories.map((watched) => new LinkIngestion(watched, options));
  const sources: readonly KeySource[] = [...directories, ...others];
  const runs = sources.map((source) => source.run());
  return {
    started: Promise.all(sources.map((source) => source.started)).then(() => undefined),
    get states() {
      return directories.map((directory) => directory.state);
    },
    roomMade: (id) => {
      for (const source of sources) if (source.link === id) source.roomMade();
    },
    close: async () => {
      for (const source of sources) source.stop();
      await Promise.all(runs);
    },
  };
}
