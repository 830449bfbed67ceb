/** Destroys the keys of a restored backup, and lets its database be used again. */
import { join } from "node:path";
import type { Config } from "../config/config.ts";
import { watchedDirectories } from "../config/watched_directories.ts";
import { sameBytes } from "../domain/bytes.ts";
import { isNeighbour, type WatchedDirectory } from "../domain/network.ts";
import { startIngestion } from "../ingest/ingestion.ts";
import { isKeyFileName, KeyFile, stateAt, wholeBytes } from "../ingest/key_file.ts";
import type { KmeId } from "../domain/ids.ts";
import type { Store } from "../store/store.ts";
import { markerPath, readMarker, writeMarker } from "./marker.ts";
import { inspectStopped, openStopped, requireDatabase } from "./stopped_database.ts";

export interface BurnReport {
  readonly blocks: number;
  /** Keys that waited for a slave. */
  readonly keys: number;
}

/**
 * Burns the database and the key files that lie there now.
 *
 * @param link only the blocks of this link.
 * @throws StoreUnusable, StoreUnavailable, Error with one line.
 */
export async function burn(config: Config, link?: KmeId): Promise<BurnReport> {
  await requireDatabase(config);
  // What is to be burnt needs no master key, which may be lost.
  await using store = await openStopped(config, link === undefined ? "discard" : undefined);
  await ingestAll(config, store.store, link);
  const burnt = await store.store.burn(link);
  if (link === undefined) await store.store.discardDataKeys();
  const path = markerPath(config);
  if (link === undefined && path !== undefined) {
    // A damaged marker is replaced: nothing that it was about is left.
    const marker = await readMarker(path).catch(() => undefined);
    const { database } = config.thisKme;
    await writeMarker(
      path,
      await store.store.advance(marker?.generation),
      database.kind === "sqlite" ? database.path : undefined,
    );
  }
  return burnt;
}

/**
 * What is in the database now; key files are not counted. Nothing is created or changed.
 *
 * @throws StoreUnusable, Error of the driver, Error with one line.
 */
export async function countBurnable(config: Config, link?: KmeId): Promise<BurnReport> {
  const inspection = await inspectStopped(config, { count: true });
  const links = link === undefined
    ? [config.thisKme, ...config.otherKmes.filter(isNeighbour)].map(({ id }) => id.text)
    : [link];
  return {
    blocks: links.reduce((sum, kme) => sum + (inspection?.stock?.blocks.get(kme) ?? 0), 0),
    keys: link === undefined ? inspection?.stock?.keys ?? 0 : 0,
  };
}

/**
 * Blocks in files may be among those given out since the backup: they are ingested first, to be burnt too.
 *
 * @throws Error that names the files of which not all blocks could be ingested.
 */
async function ingestAll(config: Config, store: Store, link: KmeId | undefined): Promise<void> {
  const directories = watchedDirectories(config).filter((watched) =>
    link === undefined || watched.link === link
  );
  const ingestion = startIngestion({
    kme: config.thisKme.id.text,
    directories,
    store,
    maxKeyCount: Number.MAX_SAFE_INTEGER,
    deleteAfterRead: config.thisKme.deleteKeyFileAfterRead,
    health: "off",
  });
  await ingestion.started;
  await ingestion.close();
  const left = (await Promise.all(directories.map((watched) => filesLeft(store, watched)))).flat();
  if (left.length > 0) {
    throw new Error(
      `nothing was burnt: not all blocks of these key files could be read (is one still being written?): ${
        left.join(", ")
      }`,
    );
  }
}

/** Paths of the key files of which the store does not have all whole blocks. */
async function filesLeft(store: Store, { link, directory }: WatchedDirectory): Promise<string[]> {
  const left: string[] = [];
  for await (const { name } of Deno.readDir(directory)) {
    if (!isKeyFileName(name)) continue;
    const path = join(directory, name);
    if (!await isIngested(store, link, name, path)) left.push(path);
  }
  return left.sort();
}

/** Whether the store has all whole blocks of a file; a file that is gone has none. */
async function isIngested(store: Store, link: KmeId, name: string, path: string): Promise<boolean> {
  try {
    const state = await stateAt(path);
    if (state === undefined) return true;
    // A symbolic link, or anything else that is not a regular file, is never ingested.
    if (!(await Deno.lstat(path)).isFile) return true;
    await using file = await KeyFile.open(path, state);
    if (file === undefined) return false;
    const whole = wholeBytes(file.size);
    if (whole === 0) return true;
    const check = await file.check(false, () => Promise.resolve());
    const progress = (await store.fileProgress(link, [name])).get(name);
    return check !== undefined && progress !== undefined && progress.offset >= whole &&
      sameBytes(progress.digest, check.digest);
  } catch {
    return false;
  }
}
