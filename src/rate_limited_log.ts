/** Warnings that a client can cause at any rate: a few lines of each kind a minute, then a count of those left out. */
import { log } from "./log.ts";
import type { Room } from "./log/log_settings.ts";

export interface RateLimit {
  /** Lines of one kind in a period; 5 by default. */
  readonly lines?: number;
  /** Milliseconds; 60,000 by default. */
  readonly periodMs?: number;
}

interface Period {
  lines: number;
  leftOut: number;
}

/** Kinds that are counted apart; more share one count. */
const MAX_KINDS = 100;

export class RateLimitedLog {
  readonly #log: ReturnType<typeof log>;
  readonly #lines: number;
  readonly #periodMs: number;
  readonly #periods = new Map<string, Period>();

  /** @param room of the log lines, like `http`. */
  constructor(room: Room, { lines = 5, periodMs = 60_000 }: RateLimit = {}) {
    this.#log = log(room);
    this.#lines = lines;
    this.#periodMs = periodMs;
  }

  /**
   * Logs at warning, or counts the line as left out. At the end of a period with lines left out, one line says how many.
   *
   * @param kind lines of one kind share a limit: a reason, not what a client can choose.
   */
  warn(kind: string, message: string, properties: Record<string, unknown> = {}): void {
    const name = this.#periods.has(kind) || this.#periods.size < MAX_KINDS ? kind : "other";
    let period = this.#periods.get(name);
    if (period === undefined) {
      period = { lines: 0, leftOut: 0 };
      this.#periods.set(name, period);
      Deno.unrefTimer(setTimeout(() => this.#end(name), this.#periodMs));
    }
    if (period.lines < this.#lines) {
      period.lines++;
      this.#log.warn(message, properties);
    } else period.leftOut++;
  }

  #end(kind: string): void {
    const leftOut = this.#periods.get(kind)?.leftOut ?? 0;
    this.#periods.delete(kind);
    if (leftOut === 0) return;
    this.#log.warn("{leftOut} more lines of the kind {kind} were left out within {seconds} s", {
      leftOut,
      kind,
      seconds: this.#periodMs / 1000,
    });
  }
}
