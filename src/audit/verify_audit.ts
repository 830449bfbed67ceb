/** Verifies the audit log in a directory: finds records that were altered, removed, inserted, repeated or moved. */
import {
  BEGINNING,
  type ChainedRecord,
  parseLine,
  type Position,
  readRecord,
  sha256,
} from "./audit_chain.ts";
import {
  type AuditFile,
  auditFiles,
  byChain,
  isWritten,
  joinLines,
  type Line,
  linesOf,
  textOf,
} from "./audit_files.ts";
import type { FileRemoved, TornBytes } from "./audit_record.ts";

/** One thing that was found. */
export interface Finding {
  /** `problem`: the log is not as it was written. `notice`: what an auditor has to know. */
  readonly severity: "problem" | "notice";
  /** Name of the file; of a chain as a whole, like `chain 1`. */
  readonly place: string;
  /** From 1; absent for the file as a whole. */
  readonly line?: number;
  readonly message: string;
}

export interface VerifiedChain extends Position {
  readonly chain: number;
  /** Number of the first record that is there; 0: none. */
  readonly first: number;
  readonly records: number;
  readonly time: string;
  /** Kind of the last record. */
  readonly kind: string;
  /** Whether a process writes it now. */
  readonly isWritten: boolean;
}

export interface Verification {
  readonly chains: readonly VerifiedChain[];
  readonly findings: readonly Finding[];
  /** Of the heads that were kept elsewhere, those that no record has. */
  readonly unknownHeads: readonly string[];
}

export interface VerifyOptions {
  readonly directory: string;
  /** Hashes, or at least the first 13 digits of them, that were kept elsewhere. */
  readonly heads?: readonly string[];
}

/** @throws Error when the directory or a file cannot be read. */
export async function verifyAudit({ directory, heads = [] }: VerifyOptions): Promise<Verification> {
  const chains: VerifiedChain[] = [];
  const findings: Finding[] = [];
  const missing = new Set(heads.map((head) => head.toLowerCase()));
  for (const [chain, files] of byChain(await auditFiles(directory))) {
    // Asked first: what is written afterwards is not complete.
    const written = await isWritten(directory, chain);
    const verifier = new ChainVerifier(chain, findings, (hash) => {
      for (const head of missing) if (hash.startsWith(head)) missing.delete(head);
    });
    for (const file of files) await verifier.file(file);
    verifier.end(written);
    chains.push({ ...verifier.summary, isWritten: written });
  }
  return { chains, findings, unknownHeads: [...missing] };
}

class ChainVerifier {
  readonly #chain: number;
  readonly #findings: Finding[];
  readonly #onHash: (hash: string) => void;
  #file!: AuditFile;
  #line = 0;
  /** The last record, whether it is in order or not. */
  #last: Position = BEGINNING;
  #lastRecord?: ChainedRecord;
  #highest = 0;
  #first = 0;
  #records = 0;
  /** Before the first file that is there. */
  #cutOff?: { readonly file: AuditFile; readonly before: Position };
  readonly #removed = new Map<number, FileRemoved>();
  /** Lines that are no records, and where they begin. */
  #strange: Line[] = [];
  #strangeSince = 0;
  /** Between a start and its stop. */
  #runs = false;
  /** The last line of a file has no newline. */
  #open = false;

  constructor(chain: number, findings: Finding[], onHash: (hash: string) => void) {
    this.#chain = chain;
    this.#findings = findings;
    this.#onHash = onHash;
  }

  async file(file: AuditFile): Promise<void> {
    const before = this.#file as AuditFile | undefined;
    this.#judgeStrange();
    this.#file = file;
    this.#line = 0;
    if (before !== undefined && file.number !== before.number + 1) {
      this.#problem(`${between(before.number, file.number)} missing`, { isOfChain: true });
    }
    for await (const line of linesOf(file.path)) {
      this.#line++;
      this.#read(line);
    }
    if (this.#line === 0) this.#problem("the file is empty", { isOfFile: true });
  }

  end(isWritten: boolean): void {
    // A process that writes may be in the middle of a line.
    if (isWritten && this.#open && this.#strange.length === 1) this.#strange = [];
    this.#judgeStrange();
    this.#judgeBeginning();
    if (isWritten || this.#lastRecord === undefined) return;
    const { kind, content } = this.#lastRecord;
    if (kind === "next") this.#problem(`file ${content.file} is missing`, { isOfChain: true });
    else if (kind !== "stop" && kind !== "command") {
      this.#notice(
        "the log does not end with a stop: the KME was killed, the log was copied while it ran, or the end was cut off",
      );
    }
  }

  get summary(): Omit<VerifiedChain, "isWritten"> {
    const { time = "", kind = "" } = this.#lastRecord ?? {};
    return {
      chain: this.#chain,
      first: this.#first,
      records: this.#records,
      ...this.#last,
      time,
      kind,
    };
  }

  #read(line: Line): void {
    this.#open = !line.whole;
    const text = line.whole ? textOf(line) : undefined;
    const record = text === undefined ? undefined : readRecord(text);
    if (record === undefined) {
      if (this.#strange.length === 0) this.#strangeSince = this.#line;
      this.#strange.push(line);
      return;
    }
    if (this.#strange.length > 0 && this.#isMarkedTorn(record)) {
      this.#notice(
        `${record.content.bytes} bytes from line ${this.#strangeSince} on are not a record: the KME or its host ended while it ` +
          "was written, and the next start has marked it",
      );
      this.#strange = [];
    }
    this.#judgeStrange();
    this.#place(record);
  }

  /** Whether the lines before are what the record says that was left by a crash. */
  #isMarkedTorn(record: ChainedRecord): boolean {
    if (record.kind !== "torn" || record.before !== this.#last.hash) return false;
    const { bytes, sha256: digest } = record.content as unknown as TornBytes;
    const found = joinLines(this.#strange);
    // The start has ended the last line if the crash had not.
    if (found.length !== bytes && found.length !== bytes + 1) return false;
    return sha256(found.subarray(0, bytes)) === digest;
  }

  /** Lines that are no records, and that nothing explains. */
  #judgeStrange(): void {
    const lines = this.#strange;
    this.#strange = [];
    for (const [i, line] of lines.entries()) {
      const at = { line: this.#strangeSince + i };
      if (!line.whole) {
        this.#problem("the file ends within a record: its end was cut off, or the KME was killed", at);
        continue;
      }
      const text = textOf(line);
      const record = text === undefined ? undefined : parseLine(text);
      if (record === undefined) {
        this.#problem("not a record: it was altered or inserted", at);
        continue;
      }
      this.#problem(`record ${record.sequence} was altered`, at);
      this.#advance(record);
    }
  }

  /** Compares a record with the one before. */
  #place(record: ChainedRecord): void {
    const { sequence, before } = record;
    this.#onHash(record.hash);
    if (this.#lastRecord === undefined && this.#highest === 0) this.#begin(record);
    else if (sequence === this.#last.sequence + 1) {
      if (before !== this.#last.hash) {
        this.#problem(
          `record ${sequence} does not follow record ${this.#last.sequence} before it: that one was altered or replaced, or this one was`,
        );
      }
    } else if (sequence <= this.#highest) {
      this.#problem(
        `record ${sequence} is repeated, or in the wrong place: the one before is ${this.#last.sequence}`,
      );
    } else this.#problem(`${records(this.#last.sequence + 1, sequence - 1)} missing before this line`);
    this.#checkFile(record);
    this.#checkStart(record);
    this.#advance(record);
  }

  #checkStart({ kind, sequence }: ChainedRecord): void {
    if (kind === "start" && this.#runs) {
      this.#notice(
        `record ${sequence} is a start without a stop before it: the KME was killed, or the end of the log was cut off before that start`,
      );
    }
    if (kind === "start" || kind === "stop") this.#runs = kind === "start";
  }

  #begin(record: ChainedRecord): void {
    this.#first = record.sequence;
    if (record.sequence === 1 && record.before === BEGINNING.hash && this.#file.number === 1) return;
    this.#cutOff = {
      file: this.#file,
      before: { sequence: record.sequence - 1, hash: record.before },
    };
  }

  #checkFile({ kind, content }: ChainedRecord): void {
    const isFirst = this.#line === 1;
    if (isFirst && (kind !== "file" || content.file !== this.#file.number)) {
      this.#problem(`the file does not begin with the record of file ${this.#file.number}`);
    } else if (!isFirst && kind === "file") {
      this.#problem("the record of another file");
    }
    if (this.#lastRecord?.kind === "next" && kind !== "file" && kind !== "torn") {
      this.#problem("a record behind the last one of the file");
    }
    if (kind === "removed") {
      const removed = content as unknown as FileRemoved;
      this.#removed.set(removed.file, removed);
    }
  }

  #advance(record: ChainedRecord): void {
    this.#records++;
    this.#highest = Math.max(this.#highest, record.sequence);
    this.#last = { sequence: record.sequence, hash: record.hash };
    this.#lastRecord = record;
  }

  /** The oldest files may have been removed after `keep_days`; a record then says so. */
  #judgeBeginning(): void {
    if (this.#cutOff === undefined) return;
    const { file, before } = this.#cutOff;
    const removed = this.#removed.get(file.number - 1);
    if (removed?.last_sequence === before.sequence && removed.last_hash === before.hash) {
      this.#notice(
        `the first ${before.sequence} records were removed as older than keep_days, which is recorded`,
      );
      return;
    }
    this.#problem(
      `the chain begins with record ${
        before.sequence + 1
      } in ${file.name}: the records before it are missing, and no record says ` +
        "that they were removed",
      { isOfChain: true },
    );
  }

  #problem(message: string, at: { line?: number; isOfChain?: boolean; isOfFile?: boolean } = {}): void {
    const place = at.isOfChain ? `chain ${this.#chain}` : this.#file.name;
    const line = at.isOfChain || at.isOfFile ? undefined : at.line ?? this.#line;
    this.#findings.push({ severity: "problem", place, line, message });
  }

  #notice(message: string): void {
    this.#findings.push({ severity: "notice", place: `chain ${this.#chain}`, message });
  }
}

function records(from: number, to: number): string {
  return from === to ? `record ${from} is` : `records ${from} to ${to} are`;
}

function between(before: number, after: number): string {
  return before + 2 === after ? `file ${before + 1} is` : `files ${before + 1} to ${after - 1} are`;
}
