/** Writes files atomically, private ones with their mode from the start. */
import { open } from "node:fs/promises";
import { dirname } from "node:path";

const PRIVATE_MODE = 0o600;
const PUBLIC_MODE = 0o644;

/** A file to be written. */
export interface NewFile {
  readonly path: string;
  readonly content: string | Uint8Array;
  /** Only its owner may read it (not on systems without file modes). */
  readonly private: boolean;
}

/** Text of a file, undefined when there is none. */
export async function readTextIfThere(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

export async function isThere(path: string): Promise<boolean> {
  try {
    await Deno.lstat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Writes all files under temporary names, then renames them, so that files that belong together change together. */
export async function writeFiles(files: readonly NewFile[]): Promise<void> {
  const written: { temporary: string; path: string }[] = [];
  try {
    for (const file of files) {
      await Deno.mkdir(dirname(file.path), { recursive: true });
      const temporary = `${file.path}.${crypto.randomUUID()}.tmp`;
      written.push({ temporary, path: file.path });
      await writeNew(temporary, file);
    }
    for (const { temporary, path } of written) await Deno.rename(temporary, path);
  } catch (error) {
    for (const { temporary } of written) await Deno.remove(temporary).catch(() => {});
    throw error;
  }
}

async function writeNew(path: string, file: NewFile): Promise<void> {
  const handle = await open(path, "wx", file.private ? PRIVATE_MODE : PUBLIC_MODE);
  try {
    await handle.writeFile(file.content);
    await handle.sync();
  } finally {
    await handle.close();
  }
}
