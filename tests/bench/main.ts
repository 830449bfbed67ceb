/**
 * `deno task bench`: measures the program as its users meet it, processes over mTLS, always as ratios within one run; with
 * `--against`, another server. docs/performance.md says how to read it, `--help` tells the options.
 */
import { measureServer } from "./against.ts";
import { stall } from "./stall_rows.ts";
import { agreement } from "./agreement_rows.ts";
import { audit } from "./audit_rows.ts";
import { databases } from "./bench_databases.ts";
import { type Group, parseCommandLine, SHORT_USAGE, USAGE } from "./command_line.ts";
import { devices } from "./device_rows.ts";
import { encryption } from "./encryption_rows.ts";
import { ingestion } from "./ingestion_rows.ts";
import { keyIds } from "./key_id_rows.ts";
import { latency } from "./latency_rows.ts";
import { memory } from "./memory.ts";
import { mixed } from "./mixed_rows.ts";
import { largest, pools } from "./pools.ts";
import { report } from "./report.ts";
import type { Row } from "./row.ts";

const MEASUREMENTS: Readonly<Record<Group, () => Promise<Row[]>>> = {
  memory,
  databases,
  latency,
  agreement,
  audit,
  encryption,
  key_ids: keyIds,
  pools,
  ingestion,
  devices,
  stall,
  mixed,
  large: largest,
};

/** @returns whether all groups could be measured. */
async function measure(groups: readonly Group[], json: string): Promise<boolean> {
  const begin = performance.now();
  const rows: Row[] = [];
  let isComplete = true;
  for (const group of groups) {
    try {
      rows.push(...await MEASUREMENTS[group]());
    } catch (error) {
      // The other groups took minutes to measure, so their results are printed all the same.
      console.error(`the group ${group} failed:`, error);
      isComplete = false;
    }
  }
  report(rows, json, (performance.now() - begin) / 60_000);
  return isComplete;
}

const command = parseCommandLine(Deno.args);
switch (command.kind) {
  case "help":
    console.log(USAGE);
    break;
  case "wrong":
    console.error(`${command.problem}; ${SHORT_USAGE}`);
    Deno.exit(2);
    break;
  case "measure":
    Deno.exit(await measure(command.groups, command.json) ? 0 : 1);
    break;
  case "against":
    Deno.exit(await measureServer(command));
}
