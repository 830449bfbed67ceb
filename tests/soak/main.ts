/**
 * `deno task soak [-- --minutes 15] [-- --database sqlite]`: two KMEs under mixed load, with clients that hang up, bodies that are
 * refused, key files that arrive and a database that is restarted. Prints a table; exits with 1 when a check fails.
 */
import { parseArgs } from "node:util";
import { formatChecks, soak, soakDatabase } from "./soak.ts";

/** Minutes from which on the memory is checked: before, caches fill. */
const LONG_MINUTES = 10;

const { values } = parseArgs({
  args: Deno.args.filter((argument) => argument !== "--"),
  options: { minutes: { type: "string", default: "15" }, database: { type: "string" } },
});
const minutes = Number(values.minutes);
const database = values.database ?? soakDatabase();
if (!(minutes > 0) || (database !== "postgres" && database !== "sqlite")) {
  console.error("usage: deno task soak [-- --minutes NUMBER] [-- --database postgres|sqlite]");
  Deno.exit(2);
}
const checks = await soak({
  seconds: minutes * 60,
  database,
  isLong: minutes >= LONG_MINUTES,
  onProgress: console.error,
});
console.log(formatChecks(checks));
Deno.exit(checks.every(({ ok }) => ok) ? 0 : 1);
