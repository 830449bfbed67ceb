/**
 * Sample key files: random blocks from this computer's generator, for trying out a network without quantum
 * hardware. They are written as a quantum key distribution device would: the same file on both ends of a link.
 */
import { join, resolve } from "node:path";
import { BLOCK_BYTES } from "../domain/block.ts";

/** Blocks that are generated and written at a time. */
const CHUNK_BLOCKS = 2048;

export interface SampleKeyOptions {
  /** Blocks of 32 bytes to write in all; may be infinite when there is a rate. */
  readonly blocks: number;
  /** Blocks a second; absent: at once. */
  readonly rate?: number;
  /** Blocks a file; default: all in one file, or those of a second when there is a rate (one at least). */
  readonly fileBlocks?: number;
  /** Ends the writing, after the file that is being written. */
  readonly signal?: AbortSignal;
  /** Called after each file with the blocks written so far. */
  readonly onProgress?: (blocks: number) => void;
}

export interface SampleKeys {
  readonly blocks: number;
  /** Names of the files, the same in every directory. */
  readonly files: readonly string[];
}

/**
 * Writes files `not-quantum-<time>-<n>.cor` with the same contents into each directory; directories are created.
 * Until a file is complete it has a name that no KME reads.
 */
export async function writeSampleKeys(
  directories: readonly string[],
  options: SampleKeyOptions,
): Promise<SampleKeys> {
  directories = [...new Set(directories.map((directory) => resolve(directory)))];
  for (const directory of directories) await Deno.mkdir(directory, { recursive: true });
  const { blocks, rate, signal } = options;
  const fileBlocks = options.fileBlocks ?? (rate === undefined ? blocks : Math.max(1, Math.round(rate)));
  const started = performance.now();
  const time = new Date().toISOString().replaceAll(/[:.]/g, "-");
  const files: string[] = [];
  let written = 0;
  while (written < blocks) {
    const next = Math.min(fileBlocks, blocks - written);
    // Not earlier than a device with this rate would have the blocks.
    if (rate !== undefined) await wait(started + (written + next) / rate * 1000 - performance.now(), signal);
    if (signal?.aborted) break;
    const name = `not-quantum-${time}-${files.length + 1}.cor`;
    await writeEverywhere(directories, name, next);
    files.push(name);
    written += next;
    options.onProgress?.(written);
  }
  return { blocks: written, files };
}

/** Writes a file into all directories under another name, then renames all. */
async function writeEverywhere(directories: readonly string[], name: string, blocks: number): Promise<void> {
  const paths = directories.map((directory) => join(directory, name));
  const temporaries = paths.map((path) => `${path}.part`);
  const opened: Deno.FsFile[] = [];
  try {
    try {
      for (const temporary of temporaries) {
        opened.push(await Deno.open(temporary, { write: true, createNew: true, mode: 0o600 }));
      }
      for (let left = blocks; left > 0; left -= CHUNK_BLOCKS) {
        const chunk = crypto.getRandomValues(new Uint8Array(Math.min(left, CHUNK_BLOCKS) * BLOCK_BYTES));
        for (const file of opened) await writeAll(file, chunk);
        chunk.fill(0);
      }
      for (const file of opened) await file.sync();
    } finally {
      for (const file of opened) file.close();
    }
    for (const [i, temporary] of temporaries.entries()) await Deno.rename(temporary, paths[i]!);
  } catch (error) {
    for (const temporary of temporaries.slice(0, opened.length)) await Deno.remove(temporary).catch(() => {});
    throw error;
  }
}

async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) done += await file.write(bytes.subarray(done));
}

/** Resolves after the time or when the signal aborts. */
function wait(milliseconds: number, signal?: AbortSignal): Promise<void> {
  if (milliseconds <= 0 || signal?.aborted) return Promise.resolve();
  return new Promise((waited) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      waited();
    };
    const timer = setTimeout(done, milliseconds);
    signal?.addEventListener("abort", done);
  });
}
