/**
 * `deno task bench [-- --quick] [-- --only GROUP,...] [-- --json FILE]`: measures the program as its users meet it, processes
 * over mTLS, always as ratios within one run. docs/performance.md says how to read it.
 */
import { agreement } from "./agreement_rows.ts";
import { audit } from "./audit_rows.ts";
import { databases } from "./bench_databases.ts";
import { devices } from "./device_rows.ts";
import { encryption } from "./encryption_rows.ts";
import { ingestion } from "./ingestion_rows.ts";
import { memory } from "./memory.ts";
import { JSON_FILE, ONLY } from "./options.ts";
import { pools } from "./pools.ts";
import { report } from "./report.ts";
import type { Row } from "./row.ts";

const GROUPS: Record<string, () => Promise<Row[]>> = {
  memory,
  databases,
  agreement,
  audit,
  encryption,
  pools,
  ingestion,
  devices,
};

const unknown = ONLY?.filter((name) => !Object.hasOwn(GROUPS, name)) ?? [];
if (unknown.length > 0) {
  console.error(`no group ${unknown.join(", ")}; there are ${Object.keys(GROUPS).join(", ")}`);
  Deno.exit(2);
}
const begin = performance.now();
const rows: Row[] = [];
let failed = false;
for (const [name, group] of Object.entries(GROUPS)) {
  if (!(ONLY?.includes(name) ?? true)) continue;
  try {
    rows.push(...await group());
  } catch (error) {
    // The other groups took minutes to measure, so their results are printed all the same.
    console.error(`the group ${name} failed:`, error);
    failed = true;
  }
}
report(rows, JSON_FILE, (performance.now() - begin) / 60_000);
Deno.exit(failed ? 1 : 0);
