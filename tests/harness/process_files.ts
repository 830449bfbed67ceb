/** What a process uses, as Linux tells. */

export async function residentBytes(pid: number): Promise<number> {
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)![1]) * 1024;
}

/** Number of its open file descriptors. */
export async function openFiles(pid: number): Promise<number> {
  return (await Array.fromAsync(Deno.readDir(`/proc/${pid}/fd`))).length;
}

/**
 * Leaves a running process so few free descriptors that further ones fail with EMFILE; Linux with `prlimit` of util-linux.
 *
 * @param spare descriptors that it may still open.
 * @returns gives it back its former limit.
 */
export async function leaveFiles(pid: number, spare: number): Promise<() => Promise<void>> {
  const limits = await Deno.readTextFile(`/proc/${pid}/limits`);
  const [, soft] = /^Max open files\s+(\d+)/m.exec(limits)!;
  const open = new Set(
    (await Array.fromAsync(Deno.readDir(`/proc/${pid}/fd`))).map(({ name }) => Number(name)),
  );
  let limit = 0;
  for (let free = 0; free < spare || open.has(limit); limit++) if (!open.has(limit)) free++;
  const set = async (files: number | string) => {
    const { success, stderr } = await new Deno.Command("prlimit", {
      args: [`--pid=${pid}`, `--nofile=${files}:`],
    }).output();
    if (!success) throw new Error(new TextDecoder().decode(stderr));
  };
  await set(limit);
  return () => set(soft!);
}

/** Processor time that it has used, in user and kernel mode, in steps of 10 ms. */
export async function processorMilliseconds(pid: number): Promise<number> {
  const stat = await Deno.readTextFile(`/proc/${pid}/stat`);
  const [user, system] = stat.slice(stat.lastIndexOf(")") + 2).split(" ").slice(11, 13).map(Number);
  return 10 * (user! + system!);
}
