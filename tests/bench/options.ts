/** What `deno task bench` was asked for. */
import { parseArgs } from "node:util";
import type { Times } from "./site.ts";

const { values } = parseArgs({
  args: Deno.args.filter((argument) => argument !== "--"),
  options: { quick: { type: "boolean" }, only: { type: "string" }, json: { type: "string" } },
});

export const QUICK: boolean = values.quick ?? false;

/** Groups to be measured; all where there are none. */
export const ONLY: readonly string[] | undefined = values.only?.split(",");

export const JSON_FILE: string = values.json ?? "bench.json";

export const ROUNDS = QUICK ? 3 : 5;

export const TIMES: Times = QUICK ? { seconds: 1, warmup: 0.6 } : { seconds: 3, warmup: 1.5 };

/** Blocks in stock before a run. */
export const POOL = QUICK ? 30_000 : 100_000;

/** Sizes of pools that are compared. */
export const POOLS = QUICK
  ? { small: 10_000, middle: 30_000, large: 100_000 }
  : { small: 10_000, middle: 100_000, large: 1_000_000 };
