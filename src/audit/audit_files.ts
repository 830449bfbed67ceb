/** The files of an audit log: `audit-CHAIN-NUMBER.jsonl`. Each process that writes has a chain of its own. */
import { Buffer } from "node:buffer";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { platform } from "../platform.ts";

export interface AuditFile {
  /** From 1. */
  readonly chain: number;
  /** From 1. */
  readonly number: number;
  readonly name: string;
  readonly path: string;
}

export function auditFile(directory: string, chain: number, number: number): AuditFile {
  const name = `audit-${chain}-${String(number).padStart(6, "0")}.jsonl`;
  return { chain, number, name, path: join(directory, name) };
}

/** Locked by the process that writes the chain. */
export function lockPath(directory: string, chain: number): string {
  return join(directory, `audit-${chain}.lock`);
}

/** The files in a directory, by chain, then by number. */
export async function auditFiles(directory: string): Promise<AuditFile[]> {
  const files: AuditFile[] = [];
  for await (const { name } of Deno.readDir(directory)) {
    const found = /^audit-([1-9]\d{0,5})-(\d{6,9})\.jsonl$/.exec(name);
    if (found === null) continue;
    const file = auditFile(directory, Number(found[1]), Number(found[2]));
    if (file.name === name && file.number > 0) files.push(file);
  }
  return files.sort((a, b) => a.chain - b.chain || a.number - b.number);
}

/** By chain. */
export function byChain(files: readonly AuditFile[]): Map<number, AuditFile[]> {
  return Map.groupBy(files, ({ chain }) => chain);
}

/** Whether a process writes this chain now; false where that cannot be known. */
export async function isWritten(directory: string, chain: number): Promise<boolean> {
  try {
    using lock = await Deno.open(lockPath(directory, chain));
    return !await lock.tryLock(false);
  } catch {
    return false;
  }
}

/** Makes the names of new and removed files durable. Windows has no such call for a directory. */
export async function syncDirectory(directory: string): Promise<void> {
  if (!platform.hasFileModes) return;
  const handle = await open(directory, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

const NEWLINE = 10;

/** A line of a file, or what is behind the last newline. */
export interface Line {
  readonly bytes: Uint8Array;
  /** Ends with a newline, which is not among the bytes. */
  readonly whole: boolean;
}

/** The lines of a file. */
export async function* linesOf(path: string): AsyncGenerator<Line> {
  const file = await Deno.open(path);
  let rest: Uint8Array[] = [];
  for await (const chunk of file.readable) {
    let begin = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, begin)) {
      yield { bytes: joined([...rest, chunk.subarray(begin, end)]), whole: true };
      rest = [];
      begin = end + 1;
    }
    if (begin < chunk.length) rest.push(chunk.slice(begin));
  }
  if (rest.length > 0) yield { bytes: joined(rest), whole: false };
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
}

/** Lines as they are in the file, each with a newline. */
export function joinLines(lines: readonly Line[]): Uint8Array {
  return joined(lines.flatMap(({ bytes }) => [bytes, Uint8Array.of(NEWLINE)]));
}

const decoder = new TextDecoder("utf-8", { fatal: true });

/** `undefined` for bytes that are not UTF-8. */
export function textOf({ bytes }: Pick<Line, "bytes">): string | undefined {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}
