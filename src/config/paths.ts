/** Finds and reads the files that a configuration names. */
import { dirname, isAbsolute, resolve } from "node:path";
import type { Parsed } from "../domain/parsed.ts";
import { errorMessage } from "../domain/text.ts";

/** More than any certificate or key file has. */
const MAX_BYTES = 1_048_576;

/** Where relative paths are looked for. */
export interface PathBase {
  /** Working directory: comes first. */
  readonly cwd: string;
  /** Directory of the configuration file. */
  readonly beside: string;
}

export function pathBase(file: string, cwd: string): PathBase {
  return { cwd, beside: dirname(resolve(cwd, file)) };
}

/**
 * The absolute path that is meant: relative to the working directory, or beside the configuration file if it is only
 * there, or is there and the working directory's may not be looked at. What is nowhere is expected in the working
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

/** `"keys/x" (looked for in /here and /there)` */
export function describePath(path: string, { cwd, beside }: PathBase): string {
  if (isAbsolute(path)) return JSON.stringify(path);
  return `${JSON.stringify(path)} (looked for in ${cwd}${cwd === beside ? "" : ` and ${beside}`})`;
}

/** `undefined` when it may not be looked at. */
async function exists(path: string): Promise<boolean | undefined> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    return error instanceof Deno.errors.PermissionDenied ? undefined : false;
  }
}

/** Why the file system refused, in words. */
export function reason(error: unknown): string {
  if (error instanceof Deno.errors.NotFound) return "does not exist";
  if (error instanceof Deno.errors.PermissionDenied || error instanceof Deno.errors.NotCapable) {
    return "may not be read by this user";
  }
  if (error instanceof Deno.errors.NotADirectory) return "lies under something that is no directory";
  return `cannot be read (${errorMessage(error)})`;
}

export interface FoundFile {
  readonly bytes: Uint8Array;
  /** Others than the owner may read it (POSIX only). */
  readonly readByOthers: boolean;
}

/** Reads a whole file of at most a mebibyte. */
export async function readSmallFile(path: string, base: PathBase): Promise<Parsed<FoundFile>> {
  const shown = () => describePath(path, base);
  try {
    const found = await locate(path, base);
    const { isFile, size, mode } = await Deno.stat(found);
    if (!isFile) return { complaint: `${shown()} is not a file; write the path of a file` };
    if (size > MAX_BYTES) {
      return { complaint: `${shown()} is too large to be what is meant; write another path` };
    }
    const bytes = await Deno.readFile(found);
    return {
      value: { bytes, readByOthers: Deno.build.os !== "windows" && mode !== null && (mode & 0o044) !== 0 },
    };
  } catch (error) {
    return { complaint: `${shown()} ${reason(error)}; write the path of a readable file` };
  }
}

export interface FoundDirectory {
  /** Absolute, as the configuration means it. */
  readonly path: string;
  /** Absolute, without symbolic links: the same for the same directory. */
  readonly realPath: string;
}

/** Finds a directory and looks whether it can be listed. */
export async function findDirectory(path: string, base: PathBase): Promise<Parsed<FoundDirectory>> {
  try {
    const found = await locate(path, base);
    if (!(await Deno.stat(found)).isDirectory) {
      return { complaint: `${describePath(path, base)} is not a directory; write the path of a directory` };
    }
    for await (const _ of Deno.readDir(found)) break;
    return { value: { path: found, realPath: await Deno.realPath(found) } };
  } catch (error) {
    return {
      complaint: `${describePath(path, base)} ${reason(error)}; create the directory or write another path`,
    };
  }
}

/** The absolute path of an SQLite file, which may be created later: its directory has to be there. */
export async function findDatabaseFile(path: string, base: PathBase): Promise<Parsed<string>> {
  const found = await locate(path, base);
  try {
    if ((await Deno.stat(found)).isDirectory) {
      return {
        complaint: `the database ${describePath(path, base)} is a directory; write the path of a file in it`,
      };
    }
  } catch {
    // It is created, or opening it says why not.
  }
  const directory = dirname(found);
  try {
    if ((await Deno.stat(directory)).isDirectory) return { value: found };
    return {
      complaint: `${directory}, where the database should be, is not a directory; write another path`,
    };
  } catch (error) {
    return {
      complaint: `the database's directory ${directory} ${reason(error)}; create it or write another path`,
    };
  }
}
