/** Loopback ports that no one listens on. */

const used = new Set<number>();

/**
 * Chooses ports at random below the range from which the system takes ports for outgoing connections, so that
 * none of those can take one between the choice and the listen. A port is given out once in a test process.
 *
 * @param count how many distinct ports.
 * @throws Error when no free port is found.
 */
export function freePorts(count: number): number[] {
  const end = Math.min(ephemeralRangeStart(), 65536);
  const start = Math.max(1024, Math.min(10000, end - 10000));
  const held: Deno.Listener[] = [];
  const ports: number[] = [];
  try {
    // Held until all are chosen: none is chosen twice, not even by a test process that runs beside this one.
    for (let attempt = 0; ports.length < count; attempt++) {
      if (attempt > 1000 + 10 * count) throw new Error(`no ${count} free ports in ${start}..${end - 1}`);
      const port = start + Math.floor(Math.random() * (end - start));
      if (used.has(port)) continue;
      const listener = tryListen(port);
      if (listener === undefined) continue;
      held.push(listener);
      ports.push(port);
      used.add(port);
    }
  } finally {
    for (const listener of held) listener.close();
  }
  return ports;
}

/** One port of {@linkcode freePorts}. */
export function freePort(): number {
  return freePorts(1)[0]!;
}

function tryListen(port: number): Deno.Listener | undefined {
  try {
    return Deno.listen({ hostname: "127.0.0.1", port });
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse || error instanceof Deno.errors.PermissionDenied) {
      return undefined;
    }
    throw error;
  }
}

function ephemeralRangeStart(): number {
  try {
    const range = Deno.readTextFileSync("/proc/sys/net/ipv4/ip_local_port_range");
    const start = Number.parseInt(range);
    if (start > 12000) return start;
  } catch {
    // Not Linux.
  }
  return Deno.build.os === "linux" ? 32768 : 49152;
}
