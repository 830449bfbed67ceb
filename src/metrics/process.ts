/** Values of the process, under the names that the Prometheus client libraries use. */
import { monitorEventLoopDelay } from "node:perf_hooks";
import process from "node:process";

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

/** Starts to measure the event loop; the returned function reads all values. */
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
