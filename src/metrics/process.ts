/** Figures of the process, under the names that Prometheus' own client libraries use. */
import { monitorEventLoopDelay } from "node:perf_hooks";
import process from "node:process";

export interface ProcessFigures {
  readonly cpuSeconds: number;
  /** Seconds since 1970. */
  readonly startTime: number;
  readonly residentBytes: number;
  readonly heapBytes: number;
  /** Absent where the system does not tell. */
  readonly openFiles?: number;
  readonly maxFiles?: number;
  /** Seconds by which 99 of 100 turns of the event loop are late at most, since it was last asked. */
  readonly eventLoopLag: number;
}

/** Begins to measure the event loop; the result reads all figures. */
export function watchProcess(): () => ProcessFigures {
  const delays = monitorEventLoopDelay({ resolution: 20 });
  delays.enable();
  return () => {
    const { user, system } = process.cpuUsage();
    const { rss, heapUsed } = Deno.memoryUsage();
    const eventLoopLag = delays.percentile(99) / 1e9;
    delays.reset();
    return {
      cpuSeconds: (user + system) / 1e6,
      startTime: performance.timeOrigin / 1000,
      residentBytes: rss,
      heapBytes: heapUsed,
      openFiles: tell(() => [...Deno.readDirSync("/proc/self/fd")].length),
      maxFiles: tell(() => {
        const found = /^Max open files\s+(\d+)/m.exec(Deno.readTextFileSync("/proc/self/limits"));
        return found === null ? undefined : Number(found[1]);
      }),
      eventLoopLag: Number.isFinite(eventLoopLag) ? eventLoopLag : 0,
    };
  };
}

function tell<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined; // not Linux
  }
}
