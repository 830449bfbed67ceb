/** Key files: raw 32-byte blocks from offset 0, whole blocks only. */
import { Buffer } from "node:buffer";
import { type Block, BLOCK_BYTES, blockKeyId } from "../domain/block.ts";

const SUFFIX = ".cor";

/** Whether a directory entry's name is that of a key file; the extension is exact. */
export function isKeyFileName(name: string): boolean {
  return name.length > SUFFIX.length && name.endsWith(SUFFIX);
}

/** Order in which files are taken up: by the bytes of their names, so that both ends of a link agree. */
export function compareNames(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** What tells that a file is still the same and unchanged. */
export interface FileState {
  /** Bytes. */
  readonly size: number;
  /** Milliseconds since 1970. */
  readonly mtime: number;
  /** 0 where the platform has none. */
  readonly ino: number;
}

/** The part of a `stat` that ingestion compares. */
export function fileState(info: Deno.FileInfo): FileState {
  return { size: info.size, mtime: info.mtime?.getTime() ?? 0, ino: info.ino ?? 0 };
}

/** Whether nothing tells the two apart. */
export function sameState(a: FileState | undefined, b: FileState | undefined): boolean {
  return a !== undefined && b !== undefined && a.size === b.size && a.mtime === b.mtime && a.ino === b.ino;
}

/** Bytes of a file of `size` bytes that belong to whole blocks. */
export function wholeBytes(size: number): number {
  return size - size % BLOCK_BYTES;
}

/**
 * Reads consecutive blocks.
 *
 * @param offset bytes from the start, a multiple of 32.
 * @returns the blocks, or `undefined` when the file has fewer than `count` there.
 * @throws what reading throws.
 */
export async function readBlocks(
  file: Deno.FsFile,
  offset: number,
  count: number,
): Promise<Block[] | undefined> {
  // A buffer of its own for each call: the blocks are views of it, and the store may keep them for a while.
  const bytes = new Uint8Array(count * BLOCK_BYTES);
  await file.seek(offset, Deno.SeekMode.Start);
  for (let filled = 0; filled < bytes.length;) {
    const read = await file.read(bytes.subarray(filled));
    if (read === null) return undefined;
    filled += read;
  }
  const blocks: Block[] = [];
  for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
    const bits = bytes.subarray(at, at + BLOCK_BYTES);
    blocks.push({ id: blockKeyId(bits), bits });
  }
  return blocks;
}
