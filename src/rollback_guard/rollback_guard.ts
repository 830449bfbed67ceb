/**
 * Keeps an old backup of the database from being used: the keys that were given out since would be given out again.
 * The database's generation grows every few seconds and at each start and stop; a database whose generation is behind the
 * marker is a copy from before.
 */
import { log } from "../log.ts";
import { StoreUnusable } from "../domain/store_errors.ts";
import type { Store } from "../store/store.ts";
import { readMarker, writeMarker } from "./marker.ts";
import { errorMessage } from "../domain/text.ts";

/** Milliseconds between two generations: what was given out in the last ones before a backup is not noticed. */
const PERIOD_MS = 4000;

export interface GenerationGuard {
  /** Resolves, with why, when the database was replaced by an older one while it was in use. */
  readonly replaced: Promise<string>;
  /** Why the database could not record the latest generation durably; undefined if it could. */
  readonly failure: string | undefined;
  /** Records the last generation. */
  close(): Promise<void>;
}

export interface GuardOptions {
  readonly store: Pick<Store, "generation" | "advance">;
  /** Path of the marker. */
  readonly path: string;
  /** Path of the configuration, for messages. */
  readonly config: string;
  /** Milliseconds; 4000 by default. */
  readonly period?: number;
}

/**
 * Compares database and marker, then lets both grow.
 *
 * @throws StoreUnusable with one line when the database is older than the marker, or the marker cannot be read.
 */
export async function startGuard(options: GuardOptions): Promise<GenerationGuard> {
  const { store, path, period = PERIOD_MS } = options;
  const marker = await readMarker(path).catch((error) => {
    throw new StoreUnusable(error.message);
  });
  const found = await store.generation();
  if (marker !== undefined && found < marker.generation) {
    throw new StoreUnusable(
      `the database is older than it was at ${marker.at} (its generation is ${found}, ${path} says ` +
        `${marker.generation}): it was restored from a backup, or is a new one, and may give out keys a second time. ` +
        `Restore the latest database, or destroy all keys in it and in the key files with: kme burn ${options.config}`,
    );
  }

  const replaced = Promise.withResolvers<string>();
  let last = found;
  let lost = false;
  let warned = false;
  const write = async (generation: number) => {
    try {
      await writeMarker(path, generation);
      warned = false;
    } catch (error) {
      if (!warned) {
        log("store").warn("{path} cannot be written, so an old backup would not be noticed: {reason}", {
          path,
          reason: errorMessage(error),
        });
      }
      warned = true;
    }
  };
  /** The older database is never lifted to the marker: the next start has to refuse it too. */
  const lose = async (generation: number, known: number) => {
    lost = true;
    replaced.resolve(`the database was replaced by an older one (generation ${generation} after ${known})`);
    await write(Math.max(known, generation + 1));
  };
  const grow = async () => {
    if (lost) return;
    // The marker before the database: it may be another process of this KME that has let both grow.
    const written = await readMarker(path).catch(() => undefined);
    const known = Math.max(last, written?.generation ?? 0);
    const found = await store.generation();
    if (found < known) return await lose(found, known);
    const next = await store.advance();
    // Replaced in between.
    if (next <= known) return await lose(next, known);
    last = next;
    await write(next);
  };

  let timer: ReturnType<typeof setTimeout> | undefined;
  let running: Promise<void> | undefined;
  let closed = false;
  let failure: string | undefined;
  let recorded = performance.now();
  const next = () => {
    running = grow().then(() => {
      failure = undefined;
      recorded = performance.now();
    }, (error) => {
      failure = `the database does not record: ${errorMessage(error)}`;
    }).finally(() => {
      if (!closed && !lost) timer = setTimeout(next, period);
    });
  };
  await grow();
  timer = setTimeout(next, period);
  return {
    replaced: replaced.promise,
    get failure() {
      // A write that hangs does not fail.
      const overdue = performance.now() - recorded > 3 * period;
      return failure ??
        (overdue ? `the database has recorded nothing for ${3 * period / 1000} s` : undefined);
    },
    async close() {
      closed = true;
      clearTimeout(timer);
      await running;
      await grow().catch(() => {});
    },
  };
}
