/** A mixed load on two KMEs for a long time, and checks of what they use and deliver meanwhile. Linux only. */
import { Random } from "../durability/random.ts";
import { databaseAvailable, startPostgres } from "../harness/databases.ts";
import { eventually } from "../harness/eventually.ts";
import type { KmeProcess } from "../harness/kme_process.ts";
import { openFiles, residentBytes } from "../harness/process_files.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { SoakLoad } from "./load.ts";

const MEBIBYTE = 2 ** 20;

/** Most growth of memory, in MiB a minute, over the last two thirds: ten of fifteen minutes. */
const MAX_SLOPE = 1;
const MEASURED_PART = 2 / 3;

/** Descriptors that a KME may have more than before the load, such as connections of the pool of its database. */
const SPARE_FILES = 16;
/** And those of idle connections between the KMEs, of which each end keeps so many for so long. */
const IDLE_CONNECTIONS = 32;
const FILES_A_CONNECTION = 3;
const IDLE_SECONDS = 120;

/** Seconds between two restarts of the database, and for which it is away. */
const RESTART_SECONDS = 120;
const AWAY_SECONDS = 4;

export interface SoakOptions {
  readonly seconds: number;
  readonly database: "postgres" | "sqlite";
  /** Checks too what needs minutes: memory, and that idle connections between the KMEs are closed. */
  readonly isLong: boolean;
  /** Told about once a minute. */
  readonly onProgress?: (line: string) => void;
}

export interface SoakCheck {
  readonly what: string;
  readonly found: string;
  readonly limit: string;
  readonly ok: boolean;
}

interface Sample {
  readonly minutes: number;
  readonly mebibytes: number;
}

/** `postgres` where it is installed. */
export function soakDatabase(): SoakOptions["database"] {
  return databaseAvailable("postgres").available ? "postgres" : "sqlite";
}

export async function soak(options: SoakOptions): Promise<SoakCheck[]> {
  const { seconds, onProgress = () => {} } = options;
  await using server = options.database === "postgres" ? await ownServer() : undefined;
  await using network = await makeTestNetwork({
    kmes: [
      { id: 1, saes: [11, 12], database: await server?.postgres.createDatabase() ?? "sqlite", console: true },
      { id: 2, saes: [21, 22], database: "sqlite", console: true },
    ],
    edit: ({ this_kme }) => Object.assign(this_kme, { key_lifetime_seconds: 60, neighbour_probe_seconds: 5 }),
  });
  const kmes = await network.startAll({ env: { LOG_LEVEL: "info,event=warning" } });
  let ended: string | undefined;
  kmes.forEach((kme, i) =>
    kme.exited.then(() => ended ??= `KME ${i + 1} has ended:\n${kme.lines.join("\n")}`)
  );

  const load = new SoakLoad(network, new Random());
  await load.stockUp();
  // Loads the program's code and opens its lasting connections.
  load.start(4);
  await pause(Math.min(10, seconds / 4));
  await load.stop();
  await pause(Math.min(5, seconds / 10));
  const before = await Promise.all(kmes.map(({ pid }) => openFiles(pid)));

  const begun = performance.now();
  const samples = kmes.map((): Sample[] => []);
  let restarts = 0;
  let told = 0;
  let restartAt = Math.min(RESTART_SECONDS, seconds / 3);
  load.start(8);
  for (let now = 0; now < seconds && ended === undefined; now = (performance.now() - begun) / 1000) {
    for (const [i, { pid }] of kmes.entries()) {
      samples[i]!.push({ minutes: now / 60, mebibytes: await residentBytes(pid) / MEBIBYTE });
    }
    if (now >= told) {
      told += 60;
      onProgress(await progress(now, kmes, load));
    }
    if (server !== undefined && now >= restartAt) {
      restartAt += RESTART_SECONDS;
      await server.postgres.stop();
      await pause(Math.min(AWAY_SECONDS, seconds / 10));
      await server.postgres.start();
      restarts++;
    }
    await pause(1);
  }
  await load.stop();
  if (ended !== undefined) throw new Error(ended);
  onProgress(await progress(seconds, kmes, load));

  const spare = SPARE_FILES + (options.isLong ? 0 : FILES_A_CONNECTION * IDLE_CONNECTIONS);
  const limits = before.map((files) => files + spare);
  const after = await filesAfterwards(kmes, limits);
  const { found } = load;
  const none = (what: string, count: number): SoakCheck => ({
    what,
    found: String(count),
    limit: "0",
    ok: count === 0,
  });
  return [
    ...options.isLong ? samples.map((each, i) => memoryCheck(i + 1, each)) : [],
    ...after.map((files, i): SoakCheck => ({
      what: `descriptors of KME ${i + 1} after the load, ${before[i]} before`,
      found: String(files),
      limit: `${limits[i]}`,
      ok: files <= limits[i]!,
    })),
    none("keys or key_IDs delivered twice", found.twice),
    none("keys with other bits at the slave", found.different),
    none("keys that the slave could not read", found.lost),
    none(
      `unexpected answers${found.wrong.length > 0 ? `, such as ${found.wrong[0]}` : ""}`,
      found.wrong.length,
    ),
    atLeastOne("keys delivered", found.delivered),
    atLeastOne("clients that hung up", found.hungUp),
    atLeastOne("large bodies refused", found.refusedBodies),
    atLeastOne("key files", found.files),
    ...server === undefined ? [] : [atLeastOne("restarts of the database", restarts)],
  ];
}

/** The table of a run. */
export function formatChecks(checks: readonly SoakCheck[]): string {
  const rows = [
    ["check", "found", "limit", ""],
    ...checks.map(({ what, found, limit, ok }) => [
      what,
      found,
      limit,
      ok ? "pass" : "FAIL",
    ]),
  ];
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column]!)).join("  ").trimEnd()).join(
    "\n",
  );
}

async function ownServer() {
  const postgres = await startPostgres();
  return { postgres, [Symbol.asyncDispose]: () => postgres.remove() };
}

function atLeastOne(what: string, count: number): SoakCheck {
  return { what, found: String(count), limit: "> 0", ok: count > 0 };
}

function memoryCheck(kme: number, samples: readonly Sample[]): SoakCheck {
  const from = samples.at(-1)!.minutes * (1 - MEASURED_PART);
  const measured = leastOfEachMinute(samples.filter(({ minutes }) => minutes >= from));
  const sizes = measured.map(({ mebibytes }) => mebibytes);
  const slope = slopeOf(measured);
  const minutes = measured.at(-1)!.minutes - measured[0]!.minutes;
  return {
    what: `memory of KME ${kme} over ${minutes.toFixed(1)} minutes, least of each ` +
      `${Math.min(...sizes).toFixed(0)} to ${Math.max(...sizes).toFixed(0)} MiB`,
    found: `${slope.toFixed(2)} MiB/min`,
    limit: `< ${MAX_SLOPE}`,
    ok: slope < MAX_SLOPE,
  };
}

/** What is left after garbage was collected. */
function leastOfEachMinute(samples: readonly Sample[]): Sample[] {
  const least = new Map<number, Sample>();
  for (const sample of samples) {
    const minute = Math.floor(sample.minutes);
    if (sample.mebibytes < (least.get(minute)?.mebibytes ?? Infinity)) least.set(minute, sample);
  }
  return [...least.values()];
}

/** By the method of least squares. */
function slopeOf(samples: readonly Sample[]): number {
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const x = mean(samples.map(({ minutes }) => minutes));
  const y = mean(samples.map(({ mebibytes }) => mebibytes));
  let [products, squares] = [0, 0];
  for (const { minutes, mebibytes } of samples) {
    products += (minutes - x) * (mebibytes - y);
    squares += (minutes - x) ** 2;
  }
  return squares === 0 ? 0 : products / squares;
}

/** Once connections that were cut off, or are idle, are closed. */
async function filesAfterwards(kmes: readonly KmeProcess[], limits: readonly number[]): Promise<number[]> {
  const count = () => Promise.all(kmes.map(({ pid }) => openFiles(pid)));
  await eventually(async () => (await count()).every((files, i) => files <= limits[i]!), {
    timeout: 1.5 * 1000 * IDLE_SECONDS,
    interval: 250,
  }).catch(() => {});
  return await count();
}

async function progress(now: number, kmes: readonly KmeProcess[], { found }: SoakLoad): Promise<string> {
  const used = await Promise.all(
    kmes.map(async ({ pid }, i) =>
      `KME ${i + 1}: ${(await residentBytes(pid) / MEBIBYTE).toFixed(0)} MiB, ${await openFiles(pid)} files`
    ),
  );
  const statuses = [...found.statuses].toSorted().map(([status, count]) => `${count} x ${status}`).join(", ");
  return `${(now / 60).toFixed(1)} min; ${used.join("; ")}; ${found.delivered} keys; ${statuses}`;
}

function pause(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
