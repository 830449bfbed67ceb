/** Loopback ports on which nothing listens. */
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Ports in one range. */
const RANGE_SIZE = 64;

/** Ports of the claimed ranges that have not been given out. */
const unused: number[] = [];

/** Ranges claimed by this test file. The open files hold the claims: they end with the file, even if it crashes. */
const claims: Deno.FsFile[] = [];

/**
 * Gives out ports that no other test has: a test file claims ranges of ports by locking a file for each. They are below
 * the range from which the system takes ports for outgoing connections, so that none of those takes one between the
 * choice and the listen. A port is given out once.
 *
 * @param count how many distinct ports.
 * @throws Error when no free port is found.
 */
export function freePorts(count: number): number[] {
  const ports: number[] = [];
  while (ports.length < count) {
    if (unused.length === 0) unused.push(...claimRange());
    const port = unused.pop()!;
    if (isFree(port)) ports.push(port);
  }
  return ports;
}

/** One port of {@linkcode freePorts}. */
export function freePort(): number {
  return freePorts(1)[0]!;
}

function claimRange(): number[] {
  const end = Math.min(ephemeralRangeStart(), 65536);
  const start = Math.max(1024, Math.min(10000, end - 10000));
  const ranges = Math.floor((end - start) / RANGE_SIZE);
  const directory = join(tmpdir(), `kme-test-ports-${Deno.uid() ?? 0}`);
  Deno.mkdirSync(directory, { recursive: true });
  const first = Math.floor(Math.random() * ranges);
  for (let i = 0; i < ranges; i++) {
    const range = (first + i) % ranges;
    const file = Deno.openSync(join(directory, String(range)), { write: true, create: true });
    if (file.tryLockSync(true)) {
      claims.push(file);
      return Array.from({ length: RANGE_SIZE }, (_, offset) => start + range * RANGE_SIZE + offset);
    }
    file.close();
  }
  throw new Error(`other tests hold all ports from ${start} to ${end - 1}`);
}

function isFree(port: number): boolean {
  try {
    Deno.listen({ hostname: "127.0.0.1", port }).close();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse || error instanceof Deno.errors.PermissionDenied) return false;
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
