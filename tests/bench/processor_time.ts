/** Processor time of other processes. */

/** Ticks in a second, the same on every Linux (`getconf CLK_TCK`). */
const TICKS = 100;

/** Microseconds that the processes have used so far, their threads included; `undefined` without /proc. */
export function processorTime(pids: readonly number[]): number | undefined {
  if (Deno.build.os !== "linux" || pids.length === 0) return undefined;
  let ticks = 0;
  for (const pid of pids) {
    const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
    // The name in parentheses may hold anything; field 3 comes after it.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks * 1e6 / TICKS;
}
