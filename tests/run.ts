/**
 * Runs the suite, or parts of it: `run.ts [PART | FILE]...`. Files run beside each other, as many as `DENO_JOBS` says (by
 * default two for each processor, since tests wait more than they compute), and share one PostgreSQL and one MariaDB
 * server. The last line is `N passed, N failed`.
 */
import { availableParallelism } from "node:os";
import { isAbsolute } from "node:path";
import {
  databaseAvailable,
  type DatabaseKind,
  SHARED_SERVERS,
  startMariadb,
  startPostgres,
  type TestDatabaseServer,
} from "./harness/databases.ts";
import { underWatch } from "./harness/child_process.ts";
import { PROJECT_ROOT } from "./harness/kme_process.ts";
import { ALONE, IN_PARALLEL, LONGEST, PARTS, testFiles } from "./harness/parts.ts";
import { addUp, type Counts, readSummary } from "./harness/summary.ts";

const TESTS = `${PROJECT_ROOT}tests/`;

const DATABASES = {
  // Enough connections for the files that run beside each other.
  postgres: () => startPostgres({ max_connections: 400 }),
  mariadb: () => startMariadb({ "max-connections": 400 }),
};

function chosenFiles(names: readonly string[]): string[] {
  const chosen = names.length === 0 ? Object.keys(PARTS) : names;
  return chosen.flatMap((name) => {
    const paths = PARTS[name] ?? [name.replace(/^(\.\/)?tests\//, "").replace(/\/$/, "")];
    const files = paths.flatMap((path) => testFiles(TESTS, path));
    if (files.length > 0) return files;
    console.error(`No test file and no part of the suite: ${name}. Parts: ${Object.keys(PARTS).join(", ")}`);
    Deno.exit(2);
  });
}

async function startServers(): Promise<TestDatabaseServer[]> {
  const kinds = (Object.keys(DATABASES) as (keyof typeof DATABASES)[])
    .filter((kind) => databaseAvailable(kind).available);
  const started = await Promise.allSettled(kinds.map((kind) => DATABASES[kind]()));
  // A file that needs a server which did not start tries again, and fails with the reason.
  for (const [i, server] of started.entries()) {
    if (server.status === "rejected") console.error(`${kinds[i]}: ${server.reason}`);
  }
  return started.flatMap((server) => server.status === "fulfilled" ? [server.value] : []);
}

let running: Deno.ChildProcess | undefined;

/** Runs test files, copies their output, and reads the summary from it. */
async function runFiles(
  files: readonly string[],
  args: string[],
  env: Record<string, string>,
): Promise<Counts> {
  if (files.length === 0) return { passed: 0, failed: 0 };
  const paths = files.map((file) => isAbsolute(file) ? file : `tests/${file}`);
  const command = underWatch(Deno.execPath(), ["test", "-A", ...args, ...paths]);
  running = new Deno.Command(command.command, {
    args: command.args,
    cwd: PROJECT_ROOT,
    env,
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  let output = "";
  const decoder = new TextDecoder();
  for await (const chunk of running.stdout) {
    Deno.stdout.writeSync(chunk);
    output = (output + decoder.decode(chunk, { stream: true })).slice(-10_000);
  }
  const { success } = await running.status;
  running = undefined;
  return readSummary(output, success);
}

const files = chosenFiles(Deno.args);
const rank = (file: string) => (LONGEST.indexOf(file) + 1) || Infinity;
const beside = files.filter((file) => !ALONE.includes(file)).toSorted((a, b) => rank(a) - rank(b) || 0);
const alone = files.filter((file) => ALONE.includes(file));

let servers: TestDatabaseServer[] = [];
let stopping: Promise<unknown> | undefined;
const stopServers = () => stopping ??= Promise.allSettled(servers.map((server) => server.remove()));
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  if (Deno.build.os === "windows" && signal === "SIGTERM") continue;
  Deno.addSignalListener(signal, async () => {
    running?.kill(signal);
    await stopServers();
    Deno.exit(130);
  });
}

let counts: Counts = { passed: 0, failed: 1 };
try {
  servers = await startServers();
  const ports = Object.fromEntries(servers.map(({ kind, port }): [DatabaseKind, number] => [kind, port]));
  const jobs = Deno.env.get("DENO_JOBS") ?? String(2 * availableParallelism());
  const env = { NO_COLOR: "1", [SHARED_SERVERS]: JSON.stringify(ports), DENO_JOBS: jobs };
  counts = addUp([
    await runFiles(beside, ["--parallel"], { ...env, [IN_PARALLEL]: "true" }),
    await runFiles(alone, [], env),
  ]);
} finally {
  await stopServers();
  console.log(`\n${counts.passed} passed, ${counts.failed} failed`);
}
Deno.exit(counts.failed === 0 ? 0 : 1);
