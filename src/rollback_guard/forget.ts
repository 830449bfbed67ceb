/** Drops blocks that the other end of a link will never get. */
import type { Config } from "../config/config.ts";
import type { KmeId } from "../domain/ids.ts";
import type { UnmatchedOfFile } from "../store/matching.ts";
import { inspectStopped, openStopped } from "./stopped_database.ts";

export type { UnmatchedOfFile };

/**
 * Files of a link with blocks that the other end does not have, as the KME found out while it ran. Nothing is changed.
 *
 * @throws StoreUnusable, Error of the driver.
 */
export async function unmatchedFiles(config: Config, link: KmeId): Promise<readonly UnmatchedOfFile[]> {
  const inspection = await inspectStopped(config, { unmatchedOf: link });
  return inspection?.unmatched ?? [];
}

/**
 * Removes the unmatched blocks of these files for good.
 *
 * @returns how many there were.
 * @throws StoreUnusable, StoreUnavailable.
 */
export async function forget(
  config: Config,
  link: KmeId,
  files: readonly UnmatchedOfFile[],
): Promise<number> {
  await using opened = await openStopped(config);
  let blocks = 0;
  for (const { tag } of files) blocks += await opened.store.forgetFile(link, tag);
  return blocks;
}
