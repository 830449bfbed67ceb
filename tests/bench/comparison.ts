/** Runs of targets in turn, and their results. */
import type { LoadResult } from "./load_job.ts";
import { ROUNDS } from "./options.ts";
import { type Cpu, type Row, rowOf } from "./row.ts";
import { round, spread } from "./stats.ts";

/** One thing that is measured repeatedly under load. */
export interface Target {
  readonly name: string;
  /** A run, and whatever has to be done before so that it does not depend on those before it. */
  run(): Promise<LoadResult & { readonly droppedLines?: number }>;
  /** Keys in an answer; the rate is then of keys. */
  readonly keys?: number;
}

/** A run, and what it brought in a second: requests, or keys. */
export type Run = LoadResult & { readonly droppedLines?: number; readonly rate: number };

/** Runs by target, round by round. */
export type Results = ReadonlyMap<string, readonly Run[]>;

/**
 * Runs the targets in turn, so that other load of the machine affects all of them; every second round in reverse order, so
 * that a drift of the machine's speed does not favour any.
 */
export async function interleave(targets: readonly Target[], rounds = ROUNDS): Promise<Results> {
  const results = new Map<string, Run[]>(targets.map(({ name }) => [name, []]));
  for (let turn = 1; turn <= rounds; turn++) {
    for (const target of turn % 2 === 1 ? targets : targets.toReversed()) {
      const result = await target.run();
      const rate = result.ok * (target.keys ?? 1) / result.seconds;
      results.get(target.name)!.push({ ...result, rate });
      const { generator, servers } = result.cpu;
      const facts = [
        `${round(rate)}/s`,
        `p50 ${round(result.p50)} ms, p99 ${round(result.p99)} ms of ${result.ok}`,
        `CPU ${servers === undefined ? "?" : round(servers)} + ${round(generator)} µs`,
      ];
      if (result.droppedLines) facts.push(`${result.droppedLines} lines of the log were dropped`);
      if (result.failed > 0) facts.push(`${result.failed} failed: ${result.firstFailure}`);
      console.error(`round ${turn}/${rounds} ${target.name}: ${facts.join(", ")}`);
    }
  }
  return results;
}

/** Makes rows of rates, as ratios of two targets. */
export function compare(results: Results) {
  const rates = (name: string) => results.get(name)!.map((result) => result.rate);
  return (what: string, unit: string, name: string, baseline: string, goal?: Row["goal"]): Row => {
    const measured = results.get(name)!;
    return {
      ...rowOf(what, unit, rates(name), rates(baseline), goal),
      p99: spread(measured.map((result) => result.p99)),
      cpu: cpuOf(measured),
      baselineCpu: cpuOf(results.get(baseline)!),
      ...countsOf(measured),
    };
  };
}

/** What a row says of all its runs. */
export function countsOf(
  runs: readonly Pick<Run, "ok" | "failed" | "firstFailure" | "droppedLines">[],
): Pick<Row, "samples" | "failed" | "firstFailure" | "droppedLines"> {
  return {
    samples: Math.min(...runs.map(({ ok }) => ok)),
    failed: runs.reduce((sum, { failed }) => sum + failed, 0),
    firstFailure: runs.find(({ failed }) => failed > 0)?.firstFailure,
    droppedLines: runs.reduce((sum, { droppedLines }) => sum + (droppedLines ?? 0), 0),
  };
}

/** A row of the servers' processor time for each request; `undefined` where the system does not tell. */
export function compareCpu(
  results: Results,
  what: string,
  name: string,
  baseline: string,
  goal?: Row["goal"],
): Row | undefined {
  const [times, base] = [name, baseline].map((each) => results.get(each)!.map(({ cpu }) => cpu.servers));
  if (![...times!, ...base!].every((time) => time !== undefined)) return undefined;
  return rowOf(what, "µs", times as number[], base as number[], goal);
}

function cpuOf(results: readonly LoadResult[]): Cpu {
  const servers = results.map(({ cpu }) => cpu.servers);
  return {
    generator: spread(results.map(({ cpu }) => cpu.generator)),
    servers: servers.every((time) => time !== undefined) ? spread(servers) : undefined,
  };
}
