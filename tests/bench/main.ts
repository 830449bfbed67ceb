/**
 * `deno task bench [-- --quick] [-- --only WORD] [-- --json FILE]`: measures the program as its users meet it, processes
 * over mTLS, always as ratios within one run. docs/performance.md says how to read it.
 */
import { parseArgs } from "node:util";
import { freePorts } from "../harness/free_port.ts";
import { databaseAvailable, startMariadb, startPostgres } from "../harness/databases.ts";
import { startKme } from "../harness/kme_process.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import type { LoadResult } from "./load.ts";
import { load, print, serve } from "./load_process.ts";
import { ENV, type Request, Site, type Times } from "./site.ts";
import { ratios, round, type Spread, spread } from "./stats.ts";

interface Row {
  readonly what: string;
  /** What is measured, and of what it is a ratio. */
  readonly unit: string;
  readonly value: Spread;
  readonly baseline: Spread;
  readonly ratio: Spread;
  readonly goal?: string;
  readonly p99?: Spread;
  readonly failed: number;
}

/** One thing that is measured by load, again and again. */
interface Target {
  readonly name: string;
  run(): Promise<LoadResult>;
  /** Keys in an answer. */
  readonly keys?: number;
}

const { values: options } = parseArgs({
  args: Deno.args,
  options: { quick: { type: "boolean" }, only: { type: "string" }, json: { type: "string" } },
});
const ROUNDS = options.quick ? 3 : 5;
const TIMES: Times = options.quick ? { seconds: 1.5, warmup: 0.5 } : { seconds: 3, warmup: 1 };
const POOL = options.quick ? 20_000 : 100_000;
const LARGE = options.quick ? 100_000 : 1_000_000;
const SMALL = 10_000;

const rows: Row[] = [];
const groups: Record<string, () => Promise<void>> = { memory, databases, pools, ingestion };
for (const [name, group] of Object.entries(groups)) {
  if (options.only === undefined || options.only.split(",").includes(name)) await group();
}
report();

/** The main axes, all in memory. */
async function memory(): Promise<void> {
  await using site = await Site.start([":memory:", ":memory:"], POOL);
  const [basePort, ceilingPort, closingPort] = await freePorts(3) as [number, number, number];
  const { ca_client_cert_path, server_cert_path, server_key_path } =
    site.network.kme("1").config.this_kme.saes_https_interface;
  const files = [ca_client_cert_path, server_cert_path, server_key_path];
  await using _baseline = await serve("baseline_server.ts", [String(basePort), ...files]);
  await using _bare = await serve("tls_server.ts", [String(ceilingPort), String(closingPort), ...files]);
  const other = (port: number, handshakes = false) =>
    load({ ...site.job({ way: "status", slave: "local", handshakes }, TIMES), port, path: "/constant" });
  const kme = (request: Request) => site.run(request, TIMES);
  const results = await interleave([
    { name: "generator", run: () => other(ceilingPort) },
    { name: "baseline", run: () => other(basePort) },
    { name: "status", run: () => kme({ way: "status", slave: "local" }) },
    { name: "one KME", run: () => kme({ way: "enc", slave: "local" }) },
    { name: "one KME, then dec_keys", run: () => kme({ way: "enc+dec", slave: "local" }) },
    { name: "two KMEs", run: () => kme({ way: "enc", slave: "remote" }) },
    { name: "two KMEs, then dec_keys", run: () => kme({ way: "enc+dec", slave: "remote" }) },
    { name: "10 keys", run: () => kme({ way: "enc", slave: "local", keys: 10 }), keys: 10 },
    {
      name: "128 keys",
      run: () => kme({ way: "enc", slave: "local", keys: 128, stock: 4 * POOL }),
      keys: 128,
    },
    { name: "handshakes, bare", run: () => other(closingPort, true) },
    { name: "handshakes, front", run: () => other(basePort, true) },
    { name: "handshakes", run: () => kme({ way: "status", slave: "local", handshakes: true }) },
  ]);
  const row = compare(results);
  row("load generator's ceiling against the baseline", "requests/s", "generator", "baseline");
  row("status against the baseline", "requests/s", "status", "baseline", ">= 0.7");
  row("enc_keys, one KME, :memory:, against the baseline", "requests/s", "one KME", "baseline", ">= 0.5");
  row(
    "enc_keys then dec_keys, one KME, against the baseline",
    "pairs/s",
    "one KME, then dec_keys",
    "baseline",
  );
  row("enc_keys over two KMEs against one KME", "requests/s", "two KMEs", "one KME", ">= 0.3");
  row(
    "enc_keys then dec_keys over two KMEs against one",
    "pairs/s",
    "two KMEs, then dec_keys",
    "one KME, then dec_keys",
  );
  row("10 keys in one request against one", "keys/s", "10 keys", "one KME");
  row("128 keys in one request against one", "keys/s", "128 keys", "one KME", ">= 10");
  row(
    "a handshake per request, KME against bare node:tls",
    "requests/s",
    "handshakes",
    "handshakes, bare",
    ">= 0.9",
  );
  row(
    "a handshake per request, KME against the baseline's front",
    "requests/s",
    "handshakes",
    "handshakes, front",
  );
}

/** Every answer durable. */
async function databases(): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const memory = stack.use(await Site.start([":memory:", ":memory:"], POOL));
  const enc = { way: "enc", slave: "local" } as const;
  const targets: Target[] = [{ name: "memory", run: () => memory.run(enc, TIMES) }];
  const file = stack.use(await Site.start(["sqlite", "sqlite"], POOL));
  targets.push({ name: "SQLite file", run: () => file.run(enc, TIMES) });
  targets.push({
    name: "SQLite file, two KMEs",
    run: () => file.run({ way: "enc", slave: "remote" }, TIMES),
  });
  for (
    const [name, kind, start] of [["PostgreSQL", "postgres", startPostgres], [
      "MariaDB",
      "mariadb",
      startMariadb,
    ]] as const
  ) {
    const available = databaseAvailable(kind);
    if (!available.available) {
      console.error(`${name} is left out: ${available.reason}`);
      continue;
    }
    const server = await start();
    stack.defer(() => server.remove());
    const site = stack.use(
      await Site.start([await server.createDatabase(), await server.createDatabase()], POOL),
    );
    targets.push({ name, run: () => site.run(enc, TIMES) });
  }
  const row = compare(await interleave(targets));
  row("enc_keys, one KME, SQLite file, against :memory:", "requests/s", "SQLite file", "memory", ">= 0.7");
  row(
    "enc_keys, two KMEs, SQLite files, against one on a file",
    "requests/s",
    "SQLite file, two KMEs",
    "SQLite file",
  );
  row("enc_keys, one KME, PostgreSQL, against :memory:", "requests/s", "PostgreSQL", "memory", ">= 0.25");
  row("enc_keys, one KME, MariaDB, against :memory:", "requests/s", "MariaDB", "memory");
}

/** What a large stock costs. */
async function pools(): Promise<void> {
  await using small = await Site.start(["sqlite", ":memory:"], SMALL);
  await using middle = await Site.start(["sqlite", ":memory:"], LARGE / 10);
  await using large = await Site.start(["sqlite", ":memory:"], LARGE);
  const empty = await Site.start(["sqlite", ":memory:"], 0);
  await using _ = empty;
  for (const site of [small, middle, large]) await site.fill("local");
  const memories = { small: [] as number[], large: [] as number[] };
  const starts = { empty: [] as number[], large: [] as number[] };
  for (let i = 0; i < ROUNDS; i++) {
    starts.empty.push(await restart(empty));
    starts.large.push(await restart(large));
    memories.small.push(await restart(small) && await residentMemory(small));
    memories.large.push(await residentMemory(large));
  }
  rows.push(
    rowOf(
      `start until ready, ${LARGE} stored blocks against none`,
      "s",
      starts.large,
      starts.empty,
      "<= 1.3",
    ),
  );
  rows.push(
    rowOf(
      `resident memory, ${LARGE} blocks on a file against ${SMALL}`,
      "MiB",
      memories.large,
      memories.small,
      "<= 1.3",
    ),
  );
  const enc = { way: "enc", slave: "local" } as const;
  // Short, so that the smallest pool does not run dry.
  const times = { seconds: 0.8, warmup: 0.3 };
  const results = await interleave([
    { name: "small", run: () => small.run(enc, times) },
    { name: "middle", run: () => middle.run(enc, times) },
    { name: "large", run: () => large.run(enc, times) },
  ]);
  const row = compare(results);
  row(`enc_keys at ${LARGE / 10} blocks against ${SMALL}`, "requests/s", "middle", "small");
  row(`enc_keys at ${LARGE} blocks against ${SMALL}`, "requests/s", "large", "small", ">= 0.95");
  const p99 = (name: string) => results.get(name)!.map((result) => result.p99);
  rows.push(
    rowOf(`enc_keys at ${LARGE} blocks against ${SMALL}, p99`, "ms", p99("large"), p99("small"), "<= 1.2"),
  );
}

async function ingestion(): Promise<void> {
  const blocks = LARGE / 2;
  const ours: number[] = [];
  const bare: number[] = [];
  await using directory = await makeTempDir();
  for (let i = 0; i < ROUNDS; i++) {
    await using site = await Site.start(["sqlite", ":memory:"], blocks);
    await site.fill("local", 1); // what is done once is not measured
    const begin = performance.now();
    await site.fill("local", blocks);
    ours.push(blocks * 1000 / (performance.now() - begin));
    bare.push(
      blocks / Number(await print("ingest_baseline.ts", [`${directory.path}/${i}.db`, String(blocks)])),
    );
  }
  rows.push(
    rowOf("ingestion, SQLite file, against a bare insert of the same rows", "blocks/s", ours, bare, ">= 0.5"),
  );
}

/** Runs the targets in turn, so that what the machine does besides hits all of them. */
async function interleave(targets: readonly Target[]): Promise<Map<string, LoadResult[]>> {
  const results = new Map<string, LoadResult[]>();
  for (let turn = 1; turn <= ROUNDS; turn++) {
    for (const target of targets) {
      const result = await target.run();
      const ok = result.ok * (target.keys ?? 1);
      results.set(target.name, [...results.get(target.name) ?? [], { ...result, ok }]);
      const failure = result.failed > 0 ? `, ${result.failed} failed: ${result.firstFailure}` : "";
      console.error(
        `round ${turn}/${ROUNDS} ${target.name}: ${round(ok / result.seconds)}/s, p50 ${
          round(result.p50)
        } ms, p99 ${round(result.p99)} ms${failure}`,
      );
    }
  }
  return results;
}

function compare(results: Map<string, LoadResult[]>) {
  const rates = (name: string) => results.get(name)!.map((result) => result.ok / result.seconds);
  return (what: string, unit: string, name: string, baseline: string, goal?: string) => {
    const measured = results.get(name);
    if (measured === undefined) return;
    rows.push({
      ...rowOf(what, unit, rates(name), rates(baseline), goal),
      p99: spread(measured.map((result) => result.p99)),
      failed: measured.reduce((sum, result) => sum + result.failed, 0),
    });
  };
}

function rowOf(what: string, unit: string, values: number[], baseline: number[], goal?: string): Row {
  const ratio = ratios(values, baseline);
  return { what, unit, value: spread(values), baseline: spread(baseline), ratio, goal, failed: 0 };
}

async function restart(site: Site): Promise<number> {
  await site.processes[0]!.stop();
  const begin = performance.now();
  site.processes[0] = await startKme(site.network.kme("1").configPath, { env: ENV });
  return (performance.now() - begin) / 1000;
}

async function residentMemory(site: Site): Promise<number> {
  const status = await Deno.readTextFile(`/proc/${site.processes[0]!.pid}/status`);
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)![1]) / 1024;
}

function report(): void {
  const text = ({ median, min, max }: Spread) => `${round(median)} (${round(min)}..${round(max)})`;
  console.log(`\n| what | ratio: median (min..max) | goal | measured | baseline | p99 ms | failed |
|---|---|---|---|---|---|---|`);
  for (const row of rows) {
    console.log(
      `| ${row.what} | ${text(row.ratio)} | ${row.goal ?? ""} | ${text(row.value)} ${row.unit} | ${
        text(row.baseline)
      } | ${row.p99 === undefined ? "" : text(row.p99)} | ${row.failed} |`,
    );
  }
  const file = options.json ?? "bench.json";
  const machine = {
    os: Deno.build.os,
    arch: Deno.build.arch,
    processors: navigator.hardwareConcurrency,
    deno: Deno.version.deno,
  };
  Deno.writeTextFileSync(
    file,
    JSON.stringify({ at: new Date(), machine, rounds: ROUNDS, times: TIMES, rows }, null, 2),
  );
  console.log(`\nWritten to ${file}.`);
}

Deno.exit(0);
