/**
 * Remembers, in a file beside the key files, which of them were ingested into which database. Key files that stay in their
 * directory would otherwise be ingested again after a restart with a database in memory, or with another database, and
 * their keys be given out twice.
 */
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import type { KmeId } from "../domain/ids.ts";
import { errorMessage } from "../domain/text.ts";
import { log } from "../log.ts";
import { openRegularFile, platform } from "../platform.ts";

/** Name of the record; not that of a key file. */
const SERVED_FILES = ".kme_ingested_files";

/** Bytes of a record that are read: some 200,000 small files, or some GB of large ones. */
const MAX_BYTES = 64 * 1024 * 1024;

/** Bytes of a mark: two of some million blocks do not agree in them. */
const MARK_BYTES = 8;

/** Deleted files from which on the record is written again without them. */
const MAX_DELETED = 1000;

const APPEND = openRegularFile(constants) | constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT;

/** One line of the record, as JSON. */
export interface ServedFile {
  /** The KME that ingested it. */
  readonly kme: KmeId;
  /** Name without directory. */
  readonly file: string;
  /** SHA-256 of the file's whole blocks, hex. */
  readonly digest: string;
  /**
   * The first bytes of the key_IDs of some of its blocks, hex: the file is recognized when something was appended or cut off, or
   * when its blocks are in other files.
   */
  readonly marks: readonly string[];
  /** Identifies the database, hex; a database in memory is another one after each start. */
  readonly database: string;
  /** ISO 8601. */
  readonly at: string;
}

/** What tells a key file from others. */
export interface FileIdentity {
  /** Name without directory. */
  readonly name: string;
  readonly digest: Uint8Array;
  /** key_IDs of some blocks. */
  readonly marks: readonly Uint8Array[];
}

/**
 * Reads a record; lines that are damaged are left out. An absent record is an empty one.
 *
 * @throws Error when it cannot be read or is not a regular file.
 */
export async function readServedFiles(directory: string): Promise<ServedFile[]> {
  let handle: FileHandle;
  try {
    handle = await open(join(directory, SERVED_FILES), openRegularFile(constants));
  } catch (error) {
    if ((error as { code?: unknown }).code === "ENOENT") return [];
    throw error;
  }
  try {
    const bytes = new Uint8Array(Math.min(await sizeOfRegular(handle), MAX_BYTES));
    let filled = 0;
    while (filled < bytes.length) {
      const { bytesRead } = await handle.read(bytes, filled, bytes.length - filled, filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    return new TextDecoder().decode(bytes.subarray(0, filled)).split("\n").flatMap(parseLine);
  } finally {
    await handle.close();
  }
}

function parseLine(line: string): ServedFile[] {
  try {
    const { kme, file, digest, marks, database, at } = JSON.parse(line) as ServedFile;
    return [kme, file, digest, database, at, ...marks].every((value) => typeof value === "string")
      ? [{ kme, file, digest, marks, database, at }]
      : [];
  } catch {
    return [];
  }
}

/** Others may write the directory: a pipe or a file of another user is not used as the record. */
async function sizeOfRegular(handle: FileHandle): Promise<number> {
  const info = await handle.stat();
  if (!info.isFile() || !platform.isOwn(info.uid)) throw new Error("it is not a regular file of this user");
  return info.size;
}

/** The record of one directory. */
export class ServedFiles {
  readonly #path: string;
  readonly #directory: string;
  readonly #kme: KmeId;
  readonly #database: string;
  #lines?: ServedFile[];
  /** Digests of files that were ingested into this database. */
  readonly #own = new Set<string>();
  /** Digests of files that were ingested into others, and the marks of these files. */
  readonly #served = new Set<string>();
  /** Digests of files that were deleted: their lines are not needed any more. */
  readonly #deleted = new Set<string>();
  #warned = false;

  /** @param database identifies the database that files are ingested into. */
  constructor(directory: string, kme: KmeId, database: Uint8Array) {
    this.#directory = directory;
    this.#path = join(directory, SERVED_FILES);
    this.#kme = kme;
    this.#database = database.toHex();
  }

  /** Whether this KME ingested this file, or one with some of its blocks, into another database. */
  async servedBefore({ digest, marks }: FileIdentity): Promise<boolean> {
    await this.#load();
    return [digest.toHex(), ...marks.map(markOf)].some((key) => this.#served.has(key));
  }

  /** Records files durably, before any of their blocks is stored. */
  async record(files: readonly FileIdentity[]): Promise<void> {
    const lines = await this.#load();
    const at = new Date().toISOString();
    const fresh = files.filter(({ digest }) => !this.#own.has(digest.toHex()))
      .map(({ name, digest, marks }): ServedFile => ({
        kme: this.#kme,
        file: name,
        digest: digest.toHex(),
        marks: marks.map(markOf),
        database: this.#database,
        at,
      }));
    if (fresh.length === 0) return;
    await this.#guarded(() => append(this.#path, fresh));
    lines.push(...fresh);
    for (const line of fresh) this.#add(line);
  }

  /** A file was deleted: it cannot be ingested again. */
  async forget(digest: Uint8Array): Promise<void> {
    this.#deleted.add(digest.toHex());
    if (this.#deleted.size < MAX_DELETED) return;
    const left = (await this.#load()).filter((line) => !this.#deleted.has(line.digest));
    this.#deleted.clear();
    this.#lines = left;
    this.#own.clear();
    this.#served.clear();
    for (const line of left) this.#add(line);
    await this.#guarded(async () => {
      const path = `${this.#path}.${crypto.randomUUID()}`;
      await append(path, left);
      await Deno.rename(path, this.#path);
    });
  }

  async #load(): Promise<ServedFile[]> {
    if (this.#lines !== undefined) return this.#lines;
    const lines = await readServedFiles(this.#directory).catch((error) => {
      this.#warn(error);
      return [];
    });
    for (const line of lines) this.#add(line);
    return this.#lines = lines;
  }

  #add({ kme, digest, marks, database }: ServedFile): void {
    if (kme !== this.#kme) return;
    if (database === this.#database) this.#own.add(digest);
    else for (const key of [digest, ...marks]) this.#served.add(key);
  }

  async #guarded(write: () => Promise<void>): Promise<void> {
    try {
      await write();
    } catch (error) {
      this.#warn(error);
    }
  }

  #warn(error: unknown): void {
    if (this.#warned) return;
    this.#warned = true;
    log("ingest").warn(
      "{path} cannot be used: a later start with another database will not notice that these key files were served " +
        "({reason})",
      { path: this.#path, reason: errorMessage(error) },
    );
  }
}

function markOf(keyId: Uint8Array): string {
  return keyId.subarray(0, MARK_BYTES).toHex();
}

async function append(path: string, lines: readonly ServedFile[]): Promise<void> {
  const handle = await open(path, APPEND, 0o600);
  try {
    await sizeOfRegular(handle);
    await handle.writeFile(lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
    await handle.sync();
  } finally {
    await handle.close();
  }
}
