/** Values of the process, under the names that the Prometheus client libraries use. */
import process from "node:process";
import { DURATION_BOUNDS, Histogram } from "./histogram.ts";

export interface ProcessFigures {
  readonly cpuSeconds: number;
  /** Seconds since 1970. */
  readonly startTime: number;
  readonly residentBytes: number;
  readonly heapBytes: number;
  /** Absent on systems other than Linux. */
  readonly openFiles?: number;
  readonly maxFiles?: number;
  /** 99th percentile of the delay of the event loop in seconds, since the last reading. */
  readonly eventLoopLag: number;
}

export interface ProcessWatch {
  /** Reads all values. */
  read(): ProcessFigures;
  /** Stops to measure. */
  close(): void;
}

/** Milliseconds between two measurements of the event loop. */
const TICK_MS = 20;

/** Starts to measure the event loop. The runtime's `monitorEventLoopDelay` (2.9.6) does not see that the loop is blocked. */
export function watchProcess(): ProcessWatch {
  let delays = new Histogram();
  let timer: ReturnType<typeof setTimeout>;
  const tick = () => {
    const due = performance.now() + TICK_MS;
    timer = setTimeout(() => {
      delays.record(Math.max(0, performance.now() - due) / 1000);
      tick();
    }, TICK_MS);
    Deno.unrefTimer(timer);
  };
  tick();
  return {
    read() {
      const { user, system } = process.cpuUsage();
      const { rss, heapUsed } = Deno.memoryUsage();
      const eventLoopLag = Math.min(delays.quantile(0.99), DURATION_BOUNDS.at(-1)!);
      delays = new Histogram();
      return {
        cpuSeconds: (user + system) / 1e6,
        startTime: performance.timeOrigin / 1000,
        residentBytes: rss,
        heapBytes: heapUsed,
        openFiles: tell(() => [...Deno.readDirSync("/proc/self/fd")].length),
        maxFiles: maxOpenFiles(),
        eventLoopLag,
      };
    },
    close: () => clearTimeout(timer),
  };
}

/** Files that this process may have open at once; `undefined` on systems other than Linux and without a limit. */
export function maxOpenFiles(): number | undefined {
  return tell(() => {
    const found = /^Max open files\s+(\d+)/m.exec(Deno.readTextFileSync("/proc/self/limits"));
    return found === null ? undefined : Number(found[1]);
  });
}

function tell<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined; // not Linux
  }
}
