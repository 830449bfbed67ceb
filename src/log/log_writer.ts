/**
 * Writes log lines without ever blocking the program: a bounded buffer and one asynchronous write at a time. When the
 * stream is not read, the buffer fills up, and further records are dropped and counted.
 */
import { within } from "../domain/within.ts";

/** Where lines go; `Deno.stderr` is one. */
export interface LogStream {
  write(bytes: Uint8Array): Promise<number>;
  writeSync(bytes: Uint8Array): number;
}

/** Records that wait to be written. */
const MAX_WAITING = 10_000;

/** Records in one write. */
const MAX_BATCH = 500;

/** Milliseconds between the starts of two writes, unless a full batch waits: a write takes as long as many lines. */
const PAUSE_MS = 20;

export class LogWriter<Item> {
  readonly #stream: LogStream;
  readonly #format: (item: Item) => string;
  readonly #onRecovered: (dropped: number) => void;
  readonly #maxWaiting: number;
  readonly #encoder = new TextEncoder();
  #waiting: Item[] = [];
  #dropped = 0;
  #droppedUntold = 0;
  #writing: Promise<void> | undefined;
  /** When the last write began, milliseconds of a monotonic clock. */
  #lastWrite = -Infinity;
  /** Whether a write has begun and not ended. */
  #inFlight = false;

  /** @param onRecovered called when records were dropped and the stream is read again. */
  constructor(
    stream: LogStream,
    format: (item: Item) => string,
    onRecovered: (dropped: number) => void = () => {},
    maxWaiting = MAX_WAITING,
  ) {
    this.#stream = stream;
    this.#format = format;
    this.#onRecovered = onRecovered;
    this.#maxWaiting = maxWaiting;
  }

  /** Records dropped since the start. */
  get dropped(): number {
    return this.#dropped;
  }

  add(item: Item): void {
    if (this.#waiting.length >= this.#maxWaiting) {
      this.#dropped++;
      this.#droppedUntold++;
      return;
    }
    this.#waiting.push(item);
    this.#writing ??= this.#writeAll().finally(() => this.#writing = undefined);
  }

  /** Resolves when everything was written, or after `limitMs`. */
  async flush(limitMs: number): Promise<void> {
    if (this.#writing !== undefined) await within(this.#writing, limitMs, () => {});
  }

  /** Writes what waits at once, for a program that is about to end; not behind a write that may never end. */
  flushSync(): void {
    if (this.#inFlight) return;
    try {
      while (this.#waiting.length > 0) {
        const bytes = this.#nextBytes();
        for (let at = 0; at < bytes.length;) at += this.#stream.writeSync(bytes.subarray(at));
      }
    } catch {
      // A closed stream: there is no other place for the lines.
    }
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      // The records of one turn go together, and under load those of several.
      if (this.#waiting.length < MAX_BATCH) await pause(this.#lastWrite + PAUSE_MS - performance.now());
      this.#lastWrite = performance.now();
      const bytes = this.#nextBytes();
      this.#inFlight = true;
      try {
        for (let at = 0; at < bytes.length;) at += await this.#stream.write(bytes.subarray(at));
      } catch {
        // A closed stream must not stop the program.
      }
      this.#inFlight = false;
      // Only when there is room: the line about it must not be dropped as well.
      const dropped = this.#droppedUntold;
      if (dropped > 0 && this.#waiting.length <= this.#maxWaiting / 2) {
        this.#droppedUntold = 0;
        this.#onRecovered(dropped);
      }
    }
  }

  #nextBytes(): Uint8Array {
    const items = this.#waiting.splice(0, MAX_BATCH);
    return this.#encoder.encode(items.map(this.#format).join(""));
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));
}
