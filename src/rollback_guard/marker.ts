/**
 * The marker: a small file outside of the database that holds a generation which the database had once. It is written
 * after the database has durably recorded that generation, so a crash in between leaves it behind, never ahead.
 */
import { open, rename } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Config } from "../config/config.ts";
import { errorMessage } from "../domain/text.ts";
import { platform } from "../platform.ts";

export interface Marker {
  readonly generation: number;
  /** When it was written, for whoever reads it. */
  readonly at: string;
}

/** Beside an SQLite file; in the directory of this KME's own keys for a database server; none for a database in memory. */
export function markerPath({ thisKme }: Pick<Config, "thisKme">): string | undefined {
  switch (thisKme.database.kind) {
    case "memory":
      return undefined;
    case "sqlite":
      return `${thisKme.database.path}.generation`;
    case "postgres":
    case "mysql":
      return join(thisKme.keyDirectory, "kme.generation");
  }
}

/**
 * @returns `undefined` where there is none, as before the first start.
 * @throws Error with one line when it cannot be read.
 */
export async function readMarker(path: string): Promise<Marker | undefined> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw new Error(`${path} cannot be read: ${errorMessage(error)}`);
  }
  const found = /^(\d{1,15}) (\S+)\s*$/.exec(text);
  if (found === null) {
    throw new Error(`${path} is damaged; if the database is the latest one there was, remove the file`);
  }
  return { generation: Number(found[1]), at: found[2]! };
}

/**
 * Whole or not at all, and durable. Written by root, it belongs to whom the marker before it, or else the database's file,
 * belongs to: the KME runs as another user and has to read it.
 *
 * @param database path of an SQLite file.
 */
export async function writeMarker(path: string, generation: number, database?: string): Promise<void> {
  const temporary = `${path}.${crypto.randomUUID()}`;
  try {
    const file = await open(temporary, "wx", 0o600);
    try {
      await file.writeFile(`${generation} ${new Date().toISOString()}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    if (platform.isRoot) await giveAway(temporary, [path, database]);
    await rename(temporary, path);
  } catch (error) {
    await Deno.remove(temporary).catch(() => {});
    throw error;
  }
}

/** To the owner of the first of the files, or else of the first's directory. */
async function giveAway(path: string, [marker, database]: [string, string | undefined]): Promise<void> {
  for (const like of [marker, database, dirname(marker)]) {
    const info = like === undefined ? undefined : await Deno.stat(like).catch(() => undefined);
    if (info === undefined) continue;
    if (info.uid !== null && info.gid !== null) await Deno.chown(path, info.uid, info.gid);
    return;
  }
}
