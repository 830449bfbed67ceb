/** The measured time: from the end of the warm-up to the end of the run. */
import process from "node:process";
import type { Latencies, LoadJob, LoadResult } from "./load_job.ts";
import { processorTime } from "./processor_time.ts";

interface Moment {
  /** Milliseconds. */
  readonly at: number;
  /** Microseconds of processor time so far. */
  readonly generator: number;
  readonly servers?: number;
}

export class LoadWindow {
  readonly #job: LoadJob;
  readonly #start = performance.now();
  readonly #warmRequests: number;
  /** By kind of request, in milliseconds. */
  readonly #latencies: number[][];
  #asked = 0;
  #answered = 0;
  #begin?: Moment;
  #end?: Moment;

  constructor(job: LoadJob) {
    this.#job = job;
    this.#warmRequests = job.requests === undefined ? Infinity : Math.floor(job.requests / 5);
    this.#latencies = job.kinds.map(() => []);
  }

  /** The number of the next request; `undefined` when there is no time, or no request, left. */
  next(): number | undefined {
    const { seconds, requests = Infinity } = this.#job;
    const isOver = this.#begin !== undefined && performance.now() >= this.#begin.at + seconds * 1000;
    if (isOver || this.#asked >= requests) this.stop();
    return this.#end === undefined ? this.#asked++ : undefined;
  }

  stop(): void {
    this.#end ??= this.#now();
  }

  /**
   * Resolves when a request is to be begun, with the time from which its latency counts: with a pace, that at which it should
   * have begun if no connection was free then.
   */
  async begin(request: number): Promise<number> {
    const { pace } = this.#job;
    if (pace === undefined) return performance.now();
    const due = this.#start + request * 1000 / pace;
    const wait = due - performance.now();
    if (wait <= 0) return due;
    await new Promise((resolve) => setTimeout(resolve, wait));
    return performance.now();
  }

  /** Counts an answer that came within the window, whenever it was asked for. */
  answered(kind: number, latency: number): void {
    this.#answered++;
    if (this.#end !== undefined) return;
    if (this.#begin !== undefined) this.#latencies[kind]!.push(latency);
    else if (
      this.#answered >= this.#warmRequests || performance.now() >= this.#start + this.#job.warmup * 1000
    ) {
      this.#begin = this.#now();
    }
  }

  close(): Pick<LoadResult, "ok" | "seconds" | "p50" | "p99" | "max" | "kinds" | "cpu"> {
    const end = this.#end ?? this.#now();
    const begin = this.#begin ?? end;
    const { count, p50, p99, max } = latenciesOf(this.#latencies.flat());
    return {
      ok: count,
      seconds: (end.at - begin.at) / 1000,
      p50,
      p99,
      max,
      kinds: this.#latencies.map(latenciesOf),
      cpu: {
        generator: (end.generator - begin.generator) / count,
        servers: end.servers === undefined ? undefined : (end.servers - begin.servers!) / count,
      },
    };
  }

  #now(): Moment {
    const { user, system } = process.cpuUsage();
    return { at: performance.now(), generator: user + system, servers: processorTime(this.#job.pids ?? []) };
  }
}

function latenciesOf(values: readonly number[]): Latencies {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? NaN;
  return { count: sorted.length, p50: at(0.5), p99: at(0.99), max: at(1) };
}
