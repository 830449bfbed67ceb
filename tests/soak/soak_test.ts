/** Some seconds of the soak, with the checks that make sense then. */
import assert from "node:assert/strict";
import { formatChecks, soak, soakDatabase } from "./soak.ts";

Deno.test({
  name: "the soak finds nothing in some seconds",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    const checks = await soak({ seconds: 15, database: soakDatabase(), isLong: false });
    assert.ok(checks.every(({ ok }) => ok), `\n${formatChecks(checks)}`);
  },
});
