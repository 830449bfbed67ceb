/** Free space of the disk that holds a database file. */
import { statfs } from "node:fs/promises";
import { dirname } from "node:path";
import type { Database } from "../config/config.ts";

/** Bytes without which a database file counts as full: a commit must fit, and so must its log. */
export const FULL_BYTES = 1024 * 1024;

/**
 * Bytes that the user of this process can still write beside the database file.
 *
 * @returns undefined without a database file, or where the system does not tell.
 */
export async function freeDiskBytes(database: Database): Promise<number | undefined> {
  if (database.kind !== "sqlite") return undefined;
  try {
    const { bavail, bsize } = await statfs(dirname(database.path));
    return bavail * bsize;
  } catch {
    return undefined;
  }
}
