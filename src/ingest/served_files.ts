/**
 * Remembers, in a file beside the key files, which of them were ingested into which database. Key files that stay in their
 * directory would otherwise be ingested again after a restart with a database in memory, or with another database, and
 * their keys be given out twice.
 */
import { join } from "node:path";
import type { KmeId } from "../domain/ids.ts";
import { errorMessage } from "../domain/text.ts";
import { log } from "../log.ts";

/** Name of the record; not that of a key file. */
const SERVED_FILES = ".kme_ingested_files";

/** One line of the record, as JSON. */
export interface ServedFile {
  /** The KME that ingested it. */
  readonly kme: KmeId;
  /** Name without directory. */
  readonly file: string;
  /** SHA-256 of the file's whole blocks, hex. */
  readonly digest: string;
  /** Identifies the database, hex; a database in memory is another one after each start. */
  readonly database: string;
  /** ISO 8601. */
  readonly at: string;
}

/** Reads a record; lines that are damaged are left out. An absent record is an empty one. */
export async function readServedFiles(directory: string): Promise<ServedFile[]> {
  let text: string;
  try {
    text = await Deno.readTextFile(join(directory, SERVED_FILES));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
  return text.split("\n").flatMap((line) => {
    try {
      const { kme, file, digest, database, at } = JSON.parse(line) as ServedFile;
      return [kme, file, digest, database, at].every((value) => typeof value === "string")
        ? [{ kme, file, digest, database, at }]
        : [];
    } catch {
      return [];
    }
  });
}

/** The record of one directory. */
export class ServedFiles {
  readonly #directory: string;
  readonly #kme: KmeId;
  readonly #database: string;
  #databases?: Map<string, Set<string>>;
  #warned = false;

  /** @param database identifies the database that files are ingested into. */
  constructor(directory: string, kme: KmeId, database: Uint8Array) {
    this.#directory = directory;
    this.#kme = kme;
    this.#database = database.toHex();
  }

  /** Whether this KME ingested a file with these blocks into another database. */
  async servedBefore(digest: Uint8Array): Promise<boolean> {
    const databases = (await this.#load()).get(digest.toHex());
    return databases !== undefined && [...databases].some((database) => database !== this.#database);
  }

  /** Records files durably, before any of their blocks is stored. */
  async record(files: readonly { readonly name: string; readonly digest: Uint8Array }[]): Promise<void> {
    const known = await this.#load();
    const fresh = files.filter(({ digest }) => !known.get(digest.toHex())?.has(this.#database));
    if (fresh.length === 0) return;
    const at = new Date().toISOString();
    const lines = fresh.map(({ name, digest }) =>
      JSON.stringify(
        {
          kme: this.#kme,
          file: name,
          digest: digest.toHex(),
          database: this.#database,
          at,
        } satisfies ServedFile,
      )
    );
    try {
      using file = await Deno.open(join(this.#directory, SERVED_FILES), {
        append: true,
        create: true,
        mode: 0o600,
      });
      await file.write(new TextEncoder().encode(`${lines.join("\n")}\n`));
      await file.sync();
    } catch (error) {
      if (!this.#warned) {
        log("ingest").warn(
          "cannot write {path}: a later start with another database will not notice that these key files were served " +
            "({reason})",
          { path: join(this.#directory, SERVED_FILES), reason: errorMessage(error) },
        );
      }
      this.#warned = true;
    }
    for (const { digest } of fresh) this.#add(known, digest.toHex(), this.#database);
  }

  async #load(): Promise<Map<string, Set<string>>> {
    if (this.#databases !== undefined) return this.#databases;
    const databases = new Map<string, Set<string>>();
    for (const { kme, digest, database } of await readServedFiles(this.#directory)) {
      if (kme === this.#kme) this.#add(databases, digest, database);
    }
    return this.#databases = databases;
  }

  #add(databases: Map<string, Set<string>>, digest: string, database: string): void {
    const known = databases.get(digest);
    if (known === undefined) databases.set(digest, new Set([database]));
    else known.add(database);
  }
}
