/** Records what happens, each record durable before the answer that it is about. */
import { statfs } from "node:fs/promises";
import { setImmediate } from "node:timers";
import { NotRecorded } from "../domain/refusals.ts";
import { errorMessage } from "../domain/text.ts";
import { within } from "../domain/within.ts";
import { log } from "../log.ts";
import { formatRecord, type Position } from "./audit_chain.ts";
import type { AuditRecord } from "./audit_record.ts";
import { type ChainOptions, ChainWriter } from "./chain_writer.ts";

/** What the operator is shown. */
export interface AuditState extends Position {
  readonly chain: number;
  /** Why nothing can be recorded now. */
  readonly failure?: string;
  /** Records that were dropped, since the start. */
  readonly dropped: number;
}

export interface AuditTrailOptions extends ChainOptions {
  /** Called when the log cannot be written any more, and, without a reason, when it can again. */
  readonly onFailure?: (failure: string | undefined) => void;
  /** Milliseconds between two looks at the file and the disk, and before another attempt; 1000. */
  readonly periodMs?: number;
}

interface Pending {
  readonly text: string;
  /** Whether a caller waits. */
  readonly isAwaited: boolean;
}

/** Records for one write. Their callers wait for the same promise: one for each would take longer than its record. */
interface Batch {
  readonly records: Pending[];
  /** Characters. */
  size: number;
  readonly done: PromiseWithResolvers<void>;
}

/** Characters of the records in one write, but for the last one. */
const MAX_BATCH = 1 << 20;

/** Records without a waiting caller that are kept while the log cannot be written; further ones are dropped. */
const MAX_KEPT = 10_000;

/** Milliseconds for one write; waiting callers are refused after that. */
const TIME_LIMIT_MS = 5000;

/** Milliseconds between two looks for old files. */
const OLD_FILES_MS = 3600_000;

/** A disk with less free space counts as full, so that it is noticed before the record of a key cannot be written. */
const FULL_BYTES = 1024 * 1024;

export class AuditTrail implements AsyncDisposable {
  readonly #writer: ChainWriter;
  readonly #options: AuditTrailOptions;
  readonly #timer: ReturnType<typeof setInterval>;
  #pending: Batch[] = [];
  /** Records in them. */
  #waiting = 0;
  /** Being written. */
  #batch?: Batch;
  #writing?: Promise<void>;
  /** Resolves when all operations on the file have ended. */
  #turn: Promise<unknown> = Promise.resolve();
  /** When the write under way began, milliseconds of a monotonic clock. */
  #began?: number;
  #failure?: { readonly reason: string; readonly since: Date };
  #dropped = 0;
  #droppedBefore = 0;
  /** Since when records have been dropped while the log was written. */
  #droppingSince?: Date;
  #looking = false;
  #lookedForOld = performance.now();
  #closed = false;

  private constructor(writer: ChainWriter, options: AuditTrailOptions) {
    this.#writer = writer;
    this.#options = options;
    this.#timer = setInterval(() => this.#look(), options.periodMs ?? 1000);
  }

  /** @throws Error with one line when the log cannot be written. */
  static async open(options: AuditTrailOptions): Promise<AuditTrail> {
    const writer = await ChainWriter.open(options);
    try {
      await writer.removeOld();
    } catch (error) {
      writer.close();
      throw new Error(`the audit log in ${options.directory} cannot be written: ${errorMessage(error)}`, {
        cause: error,
      });
    }
    return new AuditTrail(writer, options);
  }

  get state(): AuditState {
    const { chain, position } = this.#writer;
    return { chain, ...position, failure: this.failure, dropped: this.#dropped };
  }

  /** Why nothing can be recorded now. */
  get failure(): string | undefined {
    return this.#failure?.reason;
  }

  /** @throws NotRecorded when nothing can be recorded now. */
  require(): void {
    const refusal = this.#refusal();
    if (refusal !== undefined) throw refusal;
  }

  /**
   * Records what must not happen without a record; durable when it resolves.
   *
   * @throws NotRecorded
   */
  write(record: AuditRecord): Promise<void> {
    const refusal = this.#refusal();
    return refusal === undefined ? this.#add(record, true).done.promise : Promise.reject(refusal);
  }

  /** Records something that cannot be undone or refused any more, as soon as the log can be written. */
  note(record: AuditRecord): void {
    if (this.#closed) return;
    if (this.#waiting >= MAX_KEPT) {
      this.#dropped++;
      this.#droppingSince ??= new Date();
    } else this.#add(record, false);
  }

  /** Why nothing can be recorded now. */
  #refusal(): NotRecorded | undefined {
    if (this.#failure !== undefined) return new NotRecorded(this.#failure.reason);
    return this.#closed ? new NotRecorded("it is closed") : undefined;
  }

  #add(record: AuditRecord, isAwaited: boolean): Batch {
    const batch = this.#push({ text: formatRecord(record), isAwaited });
    this.#start();
    return batch;
  }

  /** @returns the batch in which it will be written. */
  #push(record: Pending): Batch {
    let batch = this.#pending.at(-1);
    if (batch === undefined || batch.size > MAX_BATCH) this.#pending.push(batch = newBatch());
    batch.records.push(record);
    batch.size += record.text.length;
    this.#waiting++;
    return batch;
  }

  /** Records the last one and lets another process write the chain; waits a few seconds at most. */
  async close(last?: AuditRecord): Promise<void> {
    if (this.#closed) return;
    if (last !== undefined) this.#add(last, false);
    this.#closed = true;
    clearInterval(this.#timer);
    await within(this.#idle(), TIME_LIMIT_MS, () => {});
    this.#refuseWaiting("it is closed");
    this.#writer.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #idle(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing;
    await this.#turn;
  }

  #start(): void {
    if (this.#failure === undefined) this.#writing ??= this.#writeAll();
  }

  async #writeAll(): Promise<void> {
    while (this.#pending.length > 0 && this.#failure === undefined) {
      // After the I/O of this turn, so that what was delivered together is recorded in one write.
      await new Promise((resolve) => setImmediate(resolve));
      await this.#exclusively(() => this.#writeBatch());
    }
    this.#writing = undefined;
  }

  /** One after the other. */
  #exclusively(action: () => Promise<void>): Promise<void> {
    const run = this.#turn.then(action);
    this.#turn = run.catch(() => {});
    return run;
  }

  async #writeBatch(): Promise<void> {
    const batch = this.#batch = this.#pending.shift();
    if (batch === undefined) return;
    this.#waiting -= batch.records.length;
    this.#began = performance.now();
    const records = batch.records.map(({ text }) => text);
    try {
      if (this.#droppingSince === undefined) await this.#writer.append(records);
      else await this.#appendWithGap("more records came than could be written", this.#droppingSince, records);
      batch.done.resolve();
    } catch (error) {
      this.#pending.unshift(batch);
      this.#fail(errorMessage(error));
    } finally {
      this.#batch = undefined;
      this.#began = undefined;
    }
  }

  /** Waiting callers are refused. What has happened anyway is kept, up to a limit. */
  #fail(reason: string): void {
    if (this.#failure === undefined) {
      this.#failure = { reason, since: new Date() };
      log("audit").error("the audit log cannot be written, so no key is given out: {reason}", { reason });
      this.#options.onFailure?.(reason);
    }
    this.#refuseWaiting(reason);
  }

  #refuseWaiting(reason: string): void {
    const refusal = new NotRecorded(reason);
    this.#batch?.done.reject(refusal);
    for (const { done } of this.#pending) done.reject(refusal);
    const kept = this.#pending.flatMap(({ records }) => records.filter(({ isAwaited }) => !isAwaited));
    this.#dropped += kept.splice(MAX_KEPT).length;
    this.#pending = [];
    this.#waiting = 0;
    for (const record of kept) this.#push(record);
  }

  /** Notices what no failed write tells. */
  #look(): void {
    if (this.#began !== undefined && performance.now() - this.#began > TIME_LIMIT_MS) {
      this.#fail(`nothing could be written for ${TIME_LIMIT_MS / 1000} s`);
    }
    if (this.#looking) return;
    this.#looking = true;
    this.#check().catch((error) => this.#fail(errorMessage(error))).finally(() => this.#looking = false);
  }

  async #check(): Promise<void> {
    const { bavail, bsize } = await statfs(this.#options.directory);
    if (bavail * bsize < FULL_BYTES) return this.#fail("the disk of the audit log is full");
    await this.#exclusively(async () => {
      if (this.#closed) return;
      const lost = await this.#writer.whyLost();
      if (lost !== undefined) await this.#leaveLostFile(lost);
      if (this.#failure !== undefined) await this.#retry(this.#failure);
      if (performance.now() - this.#lookedForOld < OLD_FILES_MS) return;
      this.#lookedForOld = performance.now();
      await this.#writer.removeOld();
    });
  }

  async #leaveLostFile(reason: string): Promise<void> {
    log("audit").error("{reason}; the audit log goes on in a new file", { reason });
    await this.#writer.leaveLostFile();
    await this.#appendWithGap(reason, new Date());
  }

  async #retry({ reason, since }: { reason: string; since: Date }): Promise<void> {
    await this.#writer.repair();
    await this.#appendWithGap(reason, since);
    this.#failure = undefined;
    log("audit").info("the audit log can be written again");
    this.#options.onFailure?.(undefined);
    if (this.#pending.length > 0) this.#start();
  }

  /** Records what was dropped until now, and then others. */
  async #appendWithGap(reason: string, since: Date, records: readonly string[] = []): Promise<void> {
    const now = this.#dropped;
    const dropped = now - this.#droppedBefore;
    const gap = formatRecord({ kind: "gap", since: since.toISOString(), reason, dropped });
    await this.#writer.append([gap, ...records]);
    this.#droppedBefore = now;
    if (this.#dropped === now) this.#droppingSince = undefined;
  }
}

function newBatch(): Batch {
  const done = Promise.withResolvers<void>();
  // Nobody waits where no record is awaited.
  done.promise.catch(() => {});
  return { records: [], size: 0, done };
}
