/** Finds and reads the files that a configuration names. */
import { dirname, isAbsolute, resolve } from "node:path";
import type { Parsed } from "../domain/parsed.ts";
import { errorMessage } from "../domain/text.ts";
import { platform } from "../platform.ts";

/** More than any certificate or key file needs. */
const MAX_BYTES = 1_048_576;

/** Where relative paths are searched. */
export interface PathBase {
  /** Working directory: searched first. */
  readonly cwd: string;
  /** Directory of the configuration file. */
  readonly beside: string;
}

export function pathBase(file: string, cwd: string): PathBase {
  return { cwd, beside: dirname(resolve(cwd, file)) };
}

/**
 * Resolves a path: relative to the working directory, or to the configuration file's directory if it exists only there,
 * or exists there and the working directory may not be searched. A path that exists nowhere is resolved in the working
 * directory.
 */
export async function locate(path: string, { cwd, beside }: PathBase): Promise<string> {
  const here = resolve(cwd, path);
  if (isAbsolute(path) || cwd === beside) return here;
  const isHere = await exists(here);
  if (isHere === true) return here;
  const there = resolve(beside, path);
  const isThere = await exists(there);
  if (isThere === true) return there;
  return isHere === false && isThere === undefined ? there : here;
}

/** `"keys/x" (searched in /here and /there)` */
function describePath(path: string, { cwd, beside }: PathBase): string {
  if (isAbsolute(path)) return JSON.stringify(path);
  return `${JSON.stringify(path)} (searched in ${cwd}${cwd === beside ? "" : ` and ${beside}`})`;
}

/** `undefined`: this user has no permission to find out. */
async function exists(path: string): Promise<boolean | undefined> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    return error instanceof Deno.errors.PermissionDenied ? undefined : false;
  }
}

/** Why the file system refused, as the end of a sentence. */
export function reason(error: unknown): string {
  if (error instanceof Deno.errors.NotFound) return "does not exist";
  if (error instanceof Deno.errors.PermissionDenied || error instanceof Deno.errors.NotCapable) {
    return "is not readable for this user";
  }
  if (error instanceof Deno.errors.NotADirectory) return "is below something that is not a directory";
  return `cannot be read (${errorMessage(error)})`;
}

export interface FoundFile {
  readonly bytes: Uint8Array;
  /** Users that are neither its owner nor in its group may read it (POSIX only). */
  readonly readByOthers: boolean;
}

/** Reads a whole file of at most a mebibyte. */
export async function readSmallFile(path: string, base: PathBase): Promise<Parsed<FoundFile>> {
  const shown = () => describePath(path, base);
  try {
    const found = await locate(path, base);
    const { isFile, size, mode } = await Deno.stat(found);
    if (!isFile) return { problem: `${shown()} is not a file; write the path of a file` };
    if (size > MAX_BYTES) {
      return { problem: `${shown()} is too large for a certificate or key; write another path` };
    }
    const bytes = await Deno.readFile(found);
    return {
      value: { bytes, readByOthers: platform.hasFileModes && mode !== null && (mode & 0o004) !== 0 },
    };
  } catch (error) {
    return { problem: `${shown()} ${reason(error)}; write the path of a readable file` };
  }
}

/** Finds a file and checks that it can be opened; its absolute path. */
export async function findFile(path: string, base: PathBase): Promise<Parsed<string>> {
  try {
    const found = await locate(path, base);
    if (!(await Deno.stat(found)).isFile) {
      return { problem: `${describePath(path, base)} is not a file; write the path of a file` };
    }
    (await Deno.open(found)).close();
    return { value: found };
  } catch (error) {
    return { problem: `${describePath(path, base)} ${reason(error)}; write the path of a readable file` };
  }
}

export interface FoundDirectory {
  /** Absolute. */
  readonly path: string;
  /** Without symbolic links: equal for the same directory. */
  readonly realPath: string;
}

/** Finds a directory and checks that it can be listed. */
export async function findDirectory(path: string, base: PathBase): Promise<Parsed<FoundDirectory>> {
  try {
    const found = await locate(path, base);
    if (!(await Deno.stat(found)).isDirectory) {
      return { problem: `${describePath(path, base)} is not a directory; write the path of a directory` };
    }
    for await (const _ of Deno.readDir(found)) break;
    return { value: { path: found, realPath: await Deno.realPath(found) } };
  } catch (error) {
    return {
      problem: `${describePath(path, base)} ${reason(error)}; create the directory or write another path`,
    };
  }
}

/** The absolute path of an SQLite file. The file need not exist, its directory must. */
export async function findDatabaseFile(path: string, base: PathBase): Promise<Parsed<string>> {
  const found = await locate(path, base);
  try {
    if ((await Deno.stat(found)).isDirectory) {
      return {
        problem: `the database ${describePath(path, base)} is a directory; write the path of a file in it`,
      };
    }
  } catch {
    // The start creates it, or reports why it cannot be opened.
  }
  const directory = dirname(found);
  try {
    if ((await Deno.stat(directory)).isDirectory) return { value: found };
    return {
      problem: `${directory}, where the database should be, is not a directory; write another path`,
    };
  } catch (error) {
    return {
      problem: `the database's directory ${directory} ${reason(error)}; create it or write another path`,
    };
  }
}
