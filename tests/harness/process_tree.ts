/** Signals to a process and everything that it has started (Linux). */

export const hasProcessTree = Deno.build.os === "linux";

/** Sends a signal to a process and its descendants. */
export function signalTree(pid: number, signal: Deno.Signal): void {
  const children = new Map<number, number[]>();
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      // The name in parentheses may hold anything; state and parent come after it.
      const stat = Deno.readTextFileSync(`/proc/${name}/stat`);
      const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
      children.set(parent, [...children.get(parent) ?? [], Number(name)]);
    } catch {
      // Ended meanwhile.
    }
  }
  const send = (target: number) => {
    try {
      Deno.kill(target, signal);
    } catch {
      // Ended meanwhile.
    }
    for (const child of children.get(target) ?? []) send(child);
  };
  send(pid);
}
