/** Sizes and times of what is measured. */
import { parseCommandLine } from "./command_line.ts";
import type { Times } from "./site.ts";

const command = parseCommandLine(Deno.args);

export const QUICK: boolean = command.kind === "measure" && command.quick;

export const ROUNDS = QUICK ? 3 : 5;

export const TIMES: Times = QUICK ? { seconds: 1, warmup: 0.6 } : { seconds: 3, warmup: 1.5 };

/** Blocks in stock before a run. */
export const POOL = QUICK ? 30_000 : 100_000;

/** Sizes of pools that are compared. */
export const POOLS = QUICK
  ? { small: 10_000, middle: 30_000, large: 100_000 }
  : { small: 10_000, middle: 100_000, large: 1_000_000 };

/** Blocks of the group `large`. */
export const LARGEST_POOL = QUICK ? 1_000_000 : 10_000_000;

/** Minutes of the group `mixed`. */
export const MIXED_MINUTES = QUICK ? 1 : 10;
