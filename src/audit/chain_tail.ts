/** Finds the end of a chain, to go on behind it. */
import { parseLine, readRecord, sha256 } from "./audit_chain.ts";
import type { ChainedRecord } from "./audit_chain.ts";
import { type AuditFile, linesOf, textOf } from "./audit_files.ts";
import type { TornBytes } from "./audit_record.ts";

/** The end of a file. */
export interface Tail {
  readonly last: ChainedRecord;
  /** What is behind the last record: the process or its host ended while it was written. */
  readonly torn?: TornBytes;
  /** Whether the torn bytes end with a newline. */
  readonly endsLine: boolean;
}

const NEWLINE = 10;

/** Bytes of the end of a file that are read first; four times as many each further time. */
const FIRST_BYTES = 1 << 20;

/** @returns `undefined` when no record is in the file. */
export async function readTail({ path }: AuditFile): Promise<Tail | undefined> {
  using file = await Deno.open(path);
  const { size } = await file.stat();
  for (let length = FIRST_BYTES;; length *= 4) {
    const begin = Math.max(0, size - length);
    const tail = findTail(await readFrom(file, begin, size), begin === 0);
    if (tail !== undefined || begin === 0) return tail;
  }
}

function findTail(bytes: Uint8Array, isWhole: boolean): Tail | undefined {
  for (let end = bytes.lastIndexOf(NEWLINE); end >= 0;) {
    const before = end === 0 ? -1 : bytes.lastIndexOf(NEWLINE, end - 1);
    if (before < 0 && !isWhole) return undefined;
    const text = textOf({ bytes: bytes.subarray(before + 1, end) });
    const last = text === undefined ? undefined : readRecord(text);
    if (last !== undefined) {
      const rest = bytes.subarray(end + 1);
      if (rest.length === 0) return { last, endsLine: true };
      const torn = { kind: "torn", bytes: rest.length, sha256: sha256(rest) } as const;
      return { last, torn, endsLine: rest.at(-1) === NEWLINE };
    }
    end = before;
  }
  return undefined;
}

async function readFrom(file: Deno.FsFile, begin: number, end: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(end - begin);
  await file.seek(begin, Deno.SeekMode.Start);
  for (let at = 0; at < bytes.length;) {
    const read = await file.read(bytes.subarray(at));
    if (read === null) return bytes.subarray(0, at);
    at += read;
  }
  return bytes;
}

/** The first record of a file, whatever its hash is; `undefined` when the first line is none. */
export async function readFirst({ path }: AuditFile): Promise<ChainedRecord | undefined> {
  for await (const line of linesOf(path)) {
    const text = textOf(line);
    return text === undefined ? undefined : parseLine(text);
  }
  return undefined;
}
