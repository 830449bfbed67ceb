/** What prevents this KME from handing out keys, besides an empty stock and a peer that is down. */
import { access, constants, stat } from "node:fs/promises";
import type { Config } from "../config/config.ts";
import { watchedDirectories } from "../config/watched_directories.ts";
import { errorMessage } from "../domain/text.ts";
import { freeDiskBytes, FULL_BYTES } from "../store/disk_space.ts";

/**
 * @param notRecorded why the database could not record the latest change durably.
 * @returns one line, or undefined.
 */
export async function findObstacle(
  config: Config,
  notRecorded: string | undefined,
): Promise<string | undefined> {
  if (notRecorded !== undefined) return notRecorded;
  const free = await freeDiskBytes(config.thisKme.database);
  if (free !== undefined && free < FULL_BYTES) return "the disk of the database is full";
  const failures = await Promise.all(
    watchedDirectories(config).map(({ directory }) => whyNotReadable(directory)),
  );
  return failures.find((failure) => failure !== undefined);
}

async function whyNotReadable(directory: string): Promise<string | undefined> {
  try {
    if (!(await stat(directory)).isDirectory()) return `the key directory ${directory} is not a directory`;
    await access(directory, constants.R_OK | constants.X_OK);
    return undefined;
  } catch (error) {
    return `the key directory ${directory} cannot be read: ${errorMessage(error)}`;
  }
}
