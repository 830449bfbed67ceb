/** Free space of the disk that holds a database file. */
import { statfs } from "node:fs/promises";
import { dirname } from "node:path";
import type { Database } from "../config/config.ts";

/** A disk with less free space counts as full: a commit and its log need this much. */
export const FULL_BYTES = 1024 * 1024;

/**
 * Bytes that the user of this process can still write beside the database file.
 *
 * @returns undefined without a database file, or if the system does not report it.
 */
export async function freeDiskBytes(database: Database): Promise<number | undefined> {
  return database.kind === "sqlite" ? await freeBytes(dirname(database.path)) : undefined;
}

/** The same for a directory. */
export async function freeBytes(directory: string): Promise<number | undefined> {
  try {
    const { bavail, bsize } = await statfs(directory);
    return bavail * bsize;
  } catch {
    return undefined;
  }
}
