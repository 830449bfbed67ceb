/**
 * Ingestion: key files appear in watched directories, their blocks go to the store.
 *
 * Links are independent of each other; the files of one link are read in the order of their names.
 */
import type { KmeId } from "../domain/ids.ts";
import type { IngestionOptions, IngestionState } from "./ingestion_options.ts";
import { LinkIngestion } from "./link_ingestion.ts";

/** Running ingestion. */
export interface Ingestion {
  /** Resolves when every file found at the start has been ingested, or could not be. Never rejects. */
  readonly started: Promise<void>;
  /** By link. */
  readonly states: readonly IngestionState[];
  /** Blocks of the link were used: if it was full, there is room again. Cheap, may be called often. */
  roomMade(link: KmeId): void;
  /** Stops; a transaction under way is finished, and nothing stays open. */
  close(): Promise<void>;
}

/**
 * Starts to ingest key files. Never throws: what is wrong with a directory or file is logged and retried.
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
export function startIngestion(options: IngestionOptions): Ingestion {
  const links = options.directories.map((watched) => new LinkIngestion(watched, options));
  const runs = links.map((link) => link.run());
  return {
    started: Promise.all(links.map((link) => link.started)).then(() => undefined),
    get states() {
      return links.map((link) => link.state);
    },
    roomMade: (id) => {
      for (const link of links) if (link.link === id) link.roomMade();
    },
    close: async () => {
      for (const link of links) link.stop();
      await Promise.all(runs);
    },
  };
}
