/** Rows of the table. */
import { ratios, type Spread, spread } from "./stats.ts";

export type Goal = { readonly atLeast: number } | { readonly atMost: number };

export interface Cpu {
  readonly generator: Spread;
  /** Of the KMEs, or of the bare server; absent where the system does not tell. */
  readonly servers?: Spread;
}

export interface Row {
  readonly what: string;
  /** Of what is measured, and of what it is compared with. */
  readonly unit: string;
  readonly value: Spread;
  readonly baseline: Spread;
  readonly ratio: Spread;
  readonly goal?: Goal;
  /** Milliseconds, of single requests. */
  readonly p99?: Spread;
  /** Microseconds of processor time for each request, of what is measured and of what it is compared with. */
  readonly cpu?: Cpu;
  readonly baselineCpu?: Cpu;
  /** Requests in the run with the fewest. */
  readonly samples?: number;
  readonly failed: number;
  readonly firstFailure?: string;
  /** Lines of their logs that the KMEs dropped in all runs. */
  readonly droppedLines?: number;
  /** The values one after the other, where they are a course in time. */
  readonly course?: readonly number[];
}

/** @param values, baseline one a round, in the same order. */
export function rowOf(
  what: string,
  unit: string,
  values: readonly number[],
  baseline: readonly number[],
  goal?: Goal,
): Row {
  const ratio = ratios(values, baseline);
  return { what, unit, value: spread(values), baseline: spread(baseline), ratio, goal, failed: 0 };
}

/** Whether the median reaches the goal. */
export function isReached({ median }: Spread, goal: Goal): boolean {
  return "atLeast" in goal ? median >= goal.atLeast : median <= goal.atMost;
}
