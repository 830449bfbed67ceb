/** The table, and the same as JSON. */
import { QUICK, ROUNDS, TIMES } from "./options.ts";
import { type Goal, isReached, type Row } from "./row.ts";
import type { Times } from "./site.ts";
import { round, type Spread } from "./stats.ts";

/** What the file holds. */
export interface BenchResults {
  /** ISO 8601. */
  readonly at: string;
  readonly machine: {
    readonly os: string;
    readonly arch: string;
    readonly processors: number;
    readonly deno: string;
  };
  readonly quick: boolean;
  readonly rounds: number;
  readonly times: Times;
  /** That it took. */
  readonly minutes: number;
  readonly rows: readonly Row[];
}

/** Prints the rows and writes them, with what they were measured on, to a file. */
export function report(rows: readonly Row[], file: string, minutes: number): void {
  console.log(
    `\n| what | ratio: median (min..max) | goal | | measured | baseline | p99 ms | CPU µs a request: servers + generator | of the baseline | failed |
|---|---|---|---|---|---|---|---|---|---|`,
  );
  for (const row of rows) {
    const cells = [
      row.what,
      text(row.ratio),
      goalText(row.goal),
      verdict(row),
      `${text(row.value)} ${row.unit}`,
      text(row.baseline),
      row.p99 === undefined ? "" : text(row.p99),
      cpuText(row.cpu),
      cpuText(row.baselineCpu),
      row.failed,
    ];
    console.log(`| ${cells.join(" | ")} |`);
  }
  const generators = rows.filter((row) => row.what.startsWith("load generator's ceiling"));
  for (const { what, value, cpu } of generators) {
    const cores = value.median * cpu!.generator.median / 1e6;
    const alone = 1e6 / cpu!.generator.median;
    console.log(
      `\n${what}: ${round(value.median)} requests/s with ${round(cores)} of a processor, so at most about ` +
        `${round(alone)} requests/s with one of its own.`,
    );
  }
  for (const { what, unit, course } of rows) {
    if (course !== undefined) console.log(`\n${what}, in turn: ${course.map(round).join(", ")} ${unit}`);
  }
  for (const { what, droppedLines } of rows) {
    if (droppedLines) console.log(`\n${what}: the KMEs dropped ${droppedLines} lines of their logs`);
  }
  for (const row of rows) {
    if (row.failed > 0) console.log(`\n${row.what}: ${row.failed} failed, the first: ${row.firstFailure}`);
  }
  const goals = rows.filter((row) => row.goal !== undefined);
  const reached = goals.filter((row) => isReached(row.ratio, row.goal!));
  console.log(`\n${reached.length} of ${goals.length} goals reached, ${round(minutes)} minutes.`);
  const machine = {
    os: Deno.build.os,
    arch: Deno.build.arch,
    processors: navigator.hardwareConcurrency,
    deno: Deno.version.deno,
  };
  const all: BenchResults = {
    at: new Date().toISOString(),
    machine,
    quick: QUICK,
    rounds: ROUNDS,
    times: TIMES,
    minutes,
    rows,
  };
  Deno.writeTextFileSync(file, JSON.stringify(all, null, 2));
  console.log(`\nWritten to ${file}.`);
}

function text({ median, min, max }: Spread): string {
  return `${round(median)} (${round(min)}..${round(max)})`;
}

function goalText(goal: Goal | undefined): string {
  if (goal === undefined) return "";
  return "atLeast" in goal ? `≥ ${goal.atLeast}` : `≤ ${goal.atMost}`;
}

function verdict({ ratio, goal }: Row): string {
  if (goal === undefined) return "";
  return isReached(ratio, goal) ? "pass" : "MISS";
}

function cpuText(cpu: Row["cpu"]): string {
  if (cpu === undefined) return "";
  const servers = cpu.servers === undefined ? "?" : round(cpu.servers.median);
  return `${servers} + ${round(cpu.generator.median)}`;
}
