/** Key files: raw 32-byte blocks from offset 0, whole blocks only. */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { type Block, BLOCK_BYTES, blockKeyId, blocksOf, type KeyIdBytes } from "../domain/block.ts";
import { openRegularFile } from "../platform.ts";
import { KeyHealth } from "./key_health.ts";

const SUFFIX = ".cor";

/** Bytes read at a time while a file is checked. */
const CHECK_BYTES = 262_144;

/** Files of at most so many blocks are recognized by each of them, others by one block of so many. */
const MARKED_BLOCKS = 64;

/** Whether a directory entry's name is that of a key file; the extension is exact. */
export function isKeyFileName(name: string): boolean {
  return name.length > SUFFIX.length && name.endsWith(SUFFIX);
}

/** Order in which files are ingested: by the bytes of their names, so that both ends of a link agree. */
export function compareNames(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** What tells that a file is still the same and unchanged. */
export interface FileState {
  /** Bytes. */
  readonly size: number;
  /** Milliseconds since 1970: of the contents, and of anything about the file, which no user can set back. */
  readonly mtime: number;
  readonly ctime: number;
  /** Device and inode; 0 where the platform has none. */
  readonly dev: number;
  readonly ino: number;
}

/** The state of the file at a path, a symbolic link not followed; `undefined` when there is none. */
export async function stateAt(path: string): Promise<FileState | undefined> {
  try {
    return fileState(await Deno.lstat(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** The part of an `lstat` that ingestion compares. */
export function fileState(info: Deno.FileInfo): FileState {
  return {
    size: info.size,
    mtime: info.mtime?.getTime() ?? 0,
    ctime: info.ctime?.getTime() ?? 0,
    dev: info.dev,
    ino: info.ino ?? 0,
  };
}

/** Whether nothing tells the two apart. */
export function sameState(a: FileState | undefined, b: FileState | undefined): boolean {
  return a !== undefined && b !== undefined && a.size === b.size && a.mtime === b.mtime &&
    a.ctime === b.ctime &&
    a.dev === b.dev && a.ino === b.ino;
}

/** Bytes of a file of `size` bytes that belong to whole blocks. */
export function wholeBytes(size: number): number {
  return size - size % BLOCK_BYTES;
}

/** What a look through a whole file finds. */
export interface FileCheck {
  /** SHA-256 of the whole blocks: tells the file from every other one, whatever its name and times. */
  readonly digest: Uint8Array;
  /** key_IDs of some blocks, by which the file is recognized when it is split or joined: always the same for the same block. */
  readonly marks: readonly KeyIdBytes[];
  /** Why the bytes do not look random. */
  readonly healthProblem?: string;
  /** The whole blocks themselves, if they are to be kept, so that a small file is not read twice. */
  readonly bytes?: Uint8Array;
}

/** An open key file. */
export class KeyFile implements AsyncDisposable {
  /** Bytes. */
  readonly size: number;
  readonly #handle: FileHandle;

  private constructor(handle: FileHandle, size: number) {
    this.#handle = handle;
    this.size = size;
  }

  /**
   * Opens the regular file at a path whose state was `expected`.
   *
   * @returns `undefined` when it is another file by now, not a regular one, or changed.
   * @throws what opening throws.
   */
  static async open(path: string, expected: FileState): Promise<KeyFile | undefined> {
    const handle = await open(path, openRegularFile(constants));
    try {
      const info = await handle.stat();
      // The open file is judged, not what its name leads to later.
      const same = info.isFile() && info.size === expected.size && sameState(expected, await stateAt(path)) &&
        (expected.ino === 0 || info.ino === expected.ino);
      if (same) return new KeyFile(handle, info.size);
    } catch (error) {
      await handle.close();
      throw error;
    }
    await handle.close();
    return undefined;
  }

  /**
   * Reads the whole blocks once, before any of them is stored.
   *
   * @param pause lets the rest of the program have a turn.
   * @param keeps whether the bytes of a file that is read at once are returned.
   * @returns `undefined` when the file is shorter than it was.
   */
  async check(
    testHealth: boolean,
    pause: () => Promise<void>,
    keeps = false,
  ): Promise<FileCheck | undefined> {
    const whole = wholeBytes(this.size);
    const hash = createHash("sha256");
    const health = testHealth ? new KeyHealth(whole) : undefined;
    const marks: KeyIdBytes[] = [];
    let all: Uint8Array | undefined;
    for (let offset = 0; offset < whole;) {
      const bytes = await this.#read(offset, Math.min(CHECK_BYTES, whole - offset));
      if (bytes === undefined) return undefined;
      for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
        const id = blockKeyId(bytes.subarray(at, at + BLOCK_BYTES));
        if (marks.length === 0 || whole <= MARKED_BLOCKS * BLOCK_BYTES || id[0]! % MARKED_BLOCKS === 0) {
          marks.push(id);
        }
      }
      hash.update(bytes);
      health?.update(bytes);
      if (keeps && bytes.length === whole) all = bytes;
      else bytes.fill(0);
      offset += bytes.length;
      if (offset < whole) await pause();
    }
    return { digest: Uint8Array.from(hash.digest()), marks, healthProblem: health?.problem, bytes: all };
  }

  /**
   * Reads consecutive blocks.
   *
   * @param offset bytes from the start, a multiple of 32.
   * @returns the blocks, or `undefined` when the file has fewer than `count` there.
   */
  async blocks(offset: number, count: number): Promise<Block[] | undefined> {
    const bytes = await this.#read(offset, count * BLOCK_BYTES);
    return bytes && blocksOf(bytes);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }

  /** Into a buffer of its own: the blocks are views of it, and the store may keep them for a while. */
  async #read(offset: number, length: number): Promise<Uint8Array | undefined> {
    const bytes = new Uint8Array(length);
    for (let filled = 0; filled < length;) {
      const { bytesRead } = await this.#handle.read(bytes, filled, length - filled, offset + filled);
      if (bytesRead === 0) return undefined;
      filled += bytesRead;
    }
    return bytes;
  }
}
