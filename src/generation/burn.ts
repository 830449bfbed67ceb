/** Gives up all keys that may have been given out already, and lets an older database be used again after that. */
import type { Config } from "../config/config.ts";
import { isNeighbour } from "../delivery/directory.ts";
import { startIngestion } from "../ingest/ingestion.ts";
import type { KmeId } from "../model/ids.ts";
import { StoreUnusable } from "../store/errors.ts";
import { Store } from "../store/store.ts";
import { markerPath, readMarker, writeMarker } from "./marker.ts";

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
  await using store = await openAlone(config);
  await takeUpAll(config, store.store, link);
  const burnt = await store.store.burn(link);
  const path = markerPath(config);
  if (link === undefined && path !== undefined) {
    // A damaged marker is replaced: whatever it said, nothing of then is left.
    const marker = await readMarker(path).catch(() => undefined);
    await writeMarker(path, await store.store.advance(marker?.generation));
  }
  return burnt;
}

/** What is in the database now; key files are not counted. */
export async function countBurnable(config: Config, link?: KmeId): Promise<BurnReport> {
  await using store = await openAlone(config);
  const links = link === undefined ? linksOf(config).map(({ link }) => link) : [link];
  const free = await Promise.all(links.map((kme) => store.store.freeBlocks(kme)));
  const keys = link === undefined ? await store.store.keysWaiting() : 0;
  return { blocks: free.reduce((sum, count) => sum + count, 0), keys };
}

async function openAlone({ thisKme, otherKmes }: Config) {
  const store = await Store.open({
    database: thisKme.database,
    thisKme: thisKme.id,
    neighbours: otherKmes.filter(isNeighbour).map((kme) => kme.id),
  });
  const close = () => store.close();
  try {
    const processes = await store.livingProcesses();
    if (processes > 0) {
      throw new StoreUnusable(
        `${processes} process${processes === 1 ? "" : "es"} of this KME still use${
          processes === 1 ? "s" : ""
        } ` +
          "the database, or did a moment ago; stop the KME and try again",
      );
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { store, [Symbol.asyncDispose]: close };
}

/** Blocks in files may be among those given out since the backup: they are taken up first, so as to be burnt too. */
async function takeUpAll(config: Config, store: Store, link: KmeId | undefined): Promise<void> {
  const ingestion = startIngestion({
    directories: linksOf(config).filter((watched) => link === undefined || watched.link === link),
    store,
    maxKeyCount: Number.MAX_SAFE_INTEGER,
    deleteAfterRead: config.thisKme.deleteKeyFileAfterRead,
  });
  await ingestion.started;
  await ingestion.close();
}

function linksOf({ thisKme, otherKmes }: Config) {
  return [
    { link: thisKme.id.text, directory: thisKme.keyDirectory },
    ...otherKmes.filter(isNeighbour).map((kme) => ({ link: kme.id.text, directory: kme.keyDirectory })),
  ];
}
