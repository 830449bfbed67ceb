/** Appends records to a chain of its own, file after file. */
import { log } from "../log.ts";
import {
  BEGINNING,
  type ChainedRecord,
  chainRecord,
  formatRecord,
  type Position,
  readRecord,
} from "./audit_chain.ts";
import { type AuditFile, auditFile, auditFiles, byChain, lockPath, syncDirectory } from "./audit_files.ts";
import type { AuditRecord, ChainRecord } from "./audit_record.ts";
import { readFirst, readTail } from "./chain_tail.ts";
import { errorMessage } from "../domain/text.ts";
import { platform } from "../platform.ts";
import { VERSION } from "../version.ts";

export interface ChainOptions {
  readonly directory: string;
  /** Id of the KME. */
  readonly kme: string;
  /** A file that has this many bytes is followed by another one. */
  readonly rotateBytes: number;
  /** Milliseconds after which a file that is not written any more is removed; absent: never. */
  readonly keepMs?: number;
  /** Whether records outlive a crash of the host, and not only of the process. */
  readonly durable: boolean;
}

/** Milliseconds after which a file is followed by another one where old files are removed. */
const MAX_AGE_MS = 24 * 3600 * 1000;

/** Milliseconds for which a lock is waited for, in steps: `kme audit verify` holds it for a moment. */
const LOCK_WAITS_MS = [20, 80, 200];

/** Bytes of the longest first record of a file. */
const MAX_FIRST = 4096;

/** Chains in one directory. */
const MAX_CHAINS = 1000;

export class ChainWriter {
  readonly chain: number;
  readonly #options: ChainOptions;
  readonly #lock: Deno.FsFile;
  #file: AuditFile;
  #handle: Deno.FsFile;
  /** Bytes of the file that are durable. */
  #size: number;
  #begun: number;
  #position: Position;
  /** More may be in the file than is durable. */
  #isDirty = false;
  /** The file has its last record. */
  #isEnded = false;

  private constructor(options: ChainOptions, lock: Deno.FsFile, chain: number, opened: Opened) {
    this.#options = options;
    this.#lock = lock;
    this.chain = chain;
    this.#file = opened.file;
    this.#handle = opened.handle;
    this.#size = opened.size;
    this.#begun = opened.begun;
    this.#position = opened.position;
  }

  /**
   * Goes on behind the last record of the first chain that no other process writes; begins a new chain where there is none.
   *
   * @throws Error with one line.
   */
  static async open(options: ChainOptions): Promise<ChainWriter> {
    const { directory } = options;
    try {
      const { chain, lock } = await lockChain(directory);
      try {
        const files = byChain(await auditFiles(directory)).get(chain) ?? [];
        const file = files.at(-1);
        const opened = file === undefined
          ? await create(options, auditFile(directory, chain, 1), BEGINNING)
          : await reopen(options, file);
        return new ChainWriter(options, lock, chain, opened);
      } catch (error) {
        lock.close();
        throw error;
      }
    } catch (error) {
      throw new Error(`the audit log in ${directory} cannot be written: ${errorMessage(error)}`, {
        cause: error,
      });
    }
  }

  /** The last durable record. */
  get position(): Position {
    return this.#position;
  }

  /**
   * Appends records; they are durable when it resolves.
   *
   * @param records from `formatRecord`.
   * @throws Error; then none of them is in the chain, and {@linkcode repair} has to be called before the next ones.
   */
  async append(records: readonly string[]): Promise<void> {
    if (this.#isDirty) throw new Error("the log was not repaired");
    if (this.#isEnded || this.#isFull()) await this.#rotate();
    let position = this.#position;
    let lines = "";
    for (const record of records) {
      const chained = chainRecord(record, position);
      position = chained;
      lines += chained.line;
    }
    this.#isDirty = true;
    this.#size += await this.#write(lines);
    this.#position = { sequence: position.sequence, hash: position.hash };
    this.#isDirty = false;
  }

  /** Removes what a failed {@linkcode append} may have left. */
  async repair(): Promise<void> {
    if (!this.#isDirty) return;
    await this.#handle.truncate(this.#size);
    await this.#handle.sync();
    this.#isDirty = false;
  }

  /** Why the file is not the one in the directory any more; the next records then go into a new file. */
  async whyLost(): Promise<string | undefined> {
    const [there, open] = await Promise.all([
      Deno.stat(this.#file.path).catch(() => undefined),
      this.#handle.stat(),
    ]);
    if (there === undefined) return `${this.#file.path} was removed`;
    if (there.ino !== open.ino || there.dev !== open.dev) return `${this.#file.path} was replaced`;
    return there.size < this.#size ? `${this.#file.path} was cut` : undefined;
  }

  /** Begins a new file, without an end in the one that is lost. */
  async leaveLostFile(): Promise<void> {
    await this.#begin(this.#file.number + 1);
  }

  /**
   * Removes files older than `keep_days`, after recording each removal. A file that cannot be removed stays, with a warning.
   *
   * @throws Error when the record cannot be written.
   */
  async removeOld(): Promise<void> {
    // Looked for each time: the record may have begun a new file, which removes old ones too.
    for (let old = await this.#oldest(); old !== undefined; old = await this.#oldest()) {
      const { file, next } = old;
      await this.append([
        formatRecord({
          kind: "removed",
          file: file.number,
          last_sequence: next.sequence - 1,
          last_hash: next.before,
        }),
      ]);
      try {
        await Deno.remove(file.path);
      } catch (error) {
        return warnOfOld(error);
      }
    }
  }

  /** The oldest file if its time is over, with the first record of the one that follows it. */
  async #oldest(): Promise<{ file: AuditFile; next: ChainedRecord } | undefined> {
    const { directory, keepMs } = this.#options;
    if (keepMs === undefined) return undefined;
    try {
      const [file, follower] = byChain(await auditFiles(directory)).get(this.chain) ?? [];
      if (file === undefined || follower === undefined) return undefined;
      // A file ends when the next one begins.
      const next = await readFirst(follower);
      if (next === undefined || !(Date.parse(next.time) < Date.now() - keepMs)) return undefined;
      return { file, next };
    } catch (error) {
      warnOfOld(error);
      return undefined;
    }
  }

  close(): void {
    this.#handle.close();
    this.#lock.close();
  }

  #isFull(): boolean {
    const { rotateBytes, keepMs } = this.#options;
    return this.#size >= rotateBytes || keepMs !== undefined && Date.now() - this.#begun > MAX_AGE_MS;
  }

  async #rotate(): Promise<void> {
    const number = this.#file.number + 1;
    // If the next file could not be made before, this one has its last record already.
    if (!this.#isEnded) {
      const end = chainRecord(formatRecord({ kind: "next", file: number }), this.#position);
      this.#isDirty = true;
      this.#size += await this.#write(end.line);
      this.#position = { sequence: end.sequence, hash: end.hash };
      this.#isDirty = false;
      this.#isEnded = true;
    }
    await this.#begin(number);
    await this.removeOld();
  }

  async #begin(number: number): Promise<void> {
    const { directory } = this.#options;
    const opened = await create(this.#options, auditFile(directory, this.chain, number), this.#position);
    this.#handle.close();
    this.#file = opened.file;
    this.#handle = opened.handle;
    this.#size = opened.size;
    this.#begun = opened.begun;
    this.#position = opened.position;
    this.#isDirty = false;
    this.#isEnded = false;
  }

  async #write(text: string): Promise<number> {
    return await write(this.#handle, text, this.#options.durable);
  }
}

function warnOfOld(error: unknown): void {
  log("audit").warn("old files of the audit log cannot be removed: {reason}", {
    reason: errorMessage(error),
  });
}

interface Opened {
  readonly file: AuditFile;
  readonly handle: Deno.FsFile;
  readonly size: number;
  /** Milliseconds since 1970. */
  readonly begun: number;
  readonly position: Position;
}

async function lockChain(directory: string): Promise<{ chain: number; lock: Deno.FsFile }> {
  for (let chain = 1; chain <= MAX_CHAINS; chain++) {
    const path = lockPath(directory, chain);
    const lock = await Deno.open(path, { read: true, write: true, create: true, mode: 0o600 });
    await giveAway(path, directory);
    for (const wait of LOCK_WAITS_MS) {
      if (await lock.tryLock(true)) return { chain, lock };
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
    lock.close();
  }
  throw new Error(`${MAX_CHAINS} other processes write it`);
}

/** A new file, which comes into the directory with its first record. */
async function create(options: ChainOptions, file: AuditFile, before: Position): Promise<Opened> {
  const { directory, kme } = options;
  const begun = await reopenBegun(options, file, before);
  if (begun !== undefined) return begun;
  const first = chainRecord(
    formatRecord({ kind: "file", kme, file: file.number, version: VERSION }),
    before,
  );
  const temporary = `${file.path}.new`;
  await Deno.remove(temporary).catch(() => {});
  const handle = await Deno.open(temporary, { append: true, createNew: true, mode: 0o600 });
  try {
    await giveAway(temporary, directory);
    const size = await write(handle, first.line, options.durable);
    await Deno.rename(temporary, file.path);
    await syncDirectory(directory);
    return { file, handle, size, begun: Date.now(), position: first };
  } catch (error) {
    handle.close();
    await Deno.remove(temporary).catch(() => {});
    throw error;
  }
}

/**
 * The file if it is there already with its first record only, as an attempt leaves it that failed after the file had got its name.
 *
 * @throws Error when it is there with anything else.
 */
async function reopenBegun(
  { directory, kme }: ChainOptions,
  file: AuditFile,
  before: Position,
): Promise<Opened | undefined> {
  const there = await Deno.lstat(file.path).catch(() => undefined);
  if (there === undefined) return undefined;
  const { isFile, size } = there;
  const text = isFile && size < MAX_FIRST ? await Deno.readTextFile(file.path) : "";
  const first = text.endsWith("\n") ? readRecord(text.slice(0, -1)) : undefined;
  if (
    first === undefined || first.kind !== "file" || first.content.kme !== kme ||
    first.content.file !== file.number || first.sequence !== before.sequence + 1 ||
    first.before !== before.hash
  ) {
    throw new Error(`${file.path} is there already`);
  }
  const handle = await Deno.open(file.path, { read: true, append: true });
  try {
    await syncDirectory(directory);
    const { sequence, hash } = first;
    return { file, handle, size, begun: Date.parse(first.time), position: { sequence, hash } };
  } catch (error) {
    handle.close();
    throw error;
  }
}

async function reopen(options: ChainOptions, file: AuditFile): Promise<Opened> {
  const tail = await readTail(file);
  if (tail === undefined) {
    throw new Error(`${file.name} has no record; keep it elsewhere, and start again`);
  }
  const begun = Date.parse((await readFirst(file))?.time ?? "") || Date.now();
  const handle = await Deno.open(file.path, { read: true, append: true });
  try {
    let position: Position = tail.last;
    let lines = "";
    const add = (record: AuditRecord | ChainRecord) => {
      const chained = chainRecord(formatRecord(record), position);
      position = chained;
      lines += chained.line;
    };
    if (tail.torn !== undefined) {
      if (!tail.endsLine) lines += "\n";
      add(tail.torn);
    }
    if (lines !== "") await write(handle, lines, options.durable);
    const { size } = await handle.stat();
    // The process ended when it was about to begin the next file.
    if (tail.last.kind === "next") {
      const next = await create(options, auditFile(options.directory, file.chain, file.number + 1), position);
      handle.close();
      return next;
    }
    return { file, handle, size, begun, position };
  } catch (error) {
    handle.close();
    throw error;
  }
}

async function write(handle: Deno.FsFile, text: string, durable: boolean): Promise<number> {
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length;) at += await handle.write(bytes.subarray(at));
  if (durable) await handle.syncData();
  return bytes.length;
}

/** To the owner of the directory: a command that root runs must not keep the KME's own user from the file. */
async function giveAway(path: string, directory: string): Promise<void> {
  if (!platform.isRoot) return;
  const { uid, gid } = await Deno.stat(directory);
  if (uid !== null && gid !== null) await Deno.chown(path, uid, gid);
}
