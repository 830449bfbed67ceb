/** The bench's load on any other server of ETSI GS QKD 014. */
import type { AgainstCommand } from "./command_line.ts";
import type { LoadEndpoint, LoadKind, LoadResult } from "./load_job.ts";
import { load } from "./load_process.ts";
import { round } from "./stats.ts";

/** Of the time of a measurement. */
const WARMUP_PART = 0.2;

/**
 * Measures one way of requests after the other, and prints a table.
 *
 * @returns the exit code: 1 when not every request was answered with what it asked for, 2 when a file cannot be read.
 */
export async function measureServer(command: AgainstCommand): Promise<number> {
  let endpoint, ways;
  try {
    endpoint = await endpointOf(command.url, command);
    ways = await waysOf(command);
  } catch (error) {
    console.error((error as Error).message);
    return 2;
  }
  const { url, connections, seconds, requests } = command;
  console.log(
    `${url}: ${connections} connections, at most ${seconds} s and ${requests} requests for each row.\n`,
  );
  console.log("| what | rate | p50 ms | p99 ms | counted | failed |\n|---|---|---|---|---|---|");
  const problems: string[] = [];
  const times = { warmup: seconds * WARMUP_PART, seconds: seconds * (1 - WARMUP_PART) };
  for (const { name, unit, kind } of ways) {
    const result = await load({ ...endpoint, ...times, connections, requests, kinds: [kind] });
    console.log(`| ${[name, ...cellsOf(result, unit)].join(" | ")} |`);
    if (result.failed > 0) {
      problems.push(`${name}: ${result.failed} failed, the first: ${result.firstFailure}`);
    } else if (result.ok === 0) problems.push(`${name}: no answer came in the time that counts`);
  }
  for (const problem of problems) console.log(`\n${problem}`);
  return problems.length === 0 ? 0 : 1;
}

function cellsOf({ ok, failed, seconds, p50, p99 }: LoadResult, unit: string): string[] {
  const values = ok === 0
    ? ["-", "-", "-"]
    : [`${round(ok / seconds)} ${unit}`, `${round(p50)}`, `${round(p99)}`];
  return [...values, String(ok), String(failed)];
}

async function waysOf(
  { url, slaveId, slave }: AgainstCommand,
): Promise<{ name: string; unit: string; kind: LoadKind }[]> {
  const root = `${pathOf(url)}/api/v1/keys/${encodeURIComponent(slaveId)}`;
  const enc: LoadKind = { path: `${root}/enc_keys`, keys: 1 };
  const ways = [
    { name: "status", unit: "requests/s", kind: { path: `${root}/status` } },
    { name: "enc_keys", unit: "requests/s", kind: enc },
  ];
  if (slave === undefined) return ways;
  const then = {
    ...await endpointOf(slave.url, slave),
    path: `${pathOf(slave.url)}/api/v1/keys/${encodeURIComponent(slave.masterId)}/dec_keys`,
  };
  return [...ways, { name: "enc_keys then dec_keys", unit: "pairs/s", kind: { ...enc, then } }];
}

/**
 * @param files paths of PEM files.
 * @throws Error with one line when a file cannot be read.
 */
async function endpointOf(
  url: string,
  files: Readonly<Record<"ca" | "cert" | "key", string>>,
): Promise<LoadEndpoint> {
  const { hostname, port } = new URL(url);
  const [ca, cert, key] = await Promise.all([files.ca, files.cert, files.key].map(read));
  // An IPv6 address stands in brackets.
  return {
    host: hostname.replace(/^\[|\]$/g, ""),
    port: Number(port || 443),
    ca: ca!,
    cert: cert!,
    key: key!,
  };
}

function pathOf(url: string): string {
  return new URL(url).pathname.replace(/\/$/, "");
}

async function read(path: string): Promise<string> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    throw new Error(`${path} cannot be read: ${(error as Error).message}`);
  }
}
