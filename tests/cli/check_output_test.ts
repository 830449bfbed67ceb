import assert from "node:assert/strict";
import {
  type CheckLine,
  configError,
  environmentError,
  exitCode,
  ok,
  warn,
} from "../../src/check/check_line.ts";
import { formatJson, formatTable } from "../../src/cli/check_output.ts";

const LINES: CheckLine[] = [
  ok("clock", "right"),
  warn("saes", "late", "hurry"),
  environmentError("KME 2", "silent\x1b[31m\nok    all", "call it"),
];

Deno.test("the table has a line for each check and one for their number", () => {
  assert.deepEqual(formatTable(LINES, false).split("\n"), [
    "ok    clock  right",
    "warn  saes   late -> hurry",
    "fail  KME 2  silent [31m ok    all -> call it",
    "1 ok, 1 warning, 1 failed",
  ]);
});

Deno.test("only the levels are coloured", () => {
  const [first] = formatTable(LINES, true).split("\n");
  assert.equal(first, "\x1b[32mok  \x1b[0m  clock  right");
});

Deno.test("JSON holds all lines, the counts and the exit code", () => {
  const value = JSON.parse(formatJson("a.json5", LINES));
  assert.equal(value.file, "a.json5");
  assert.deepEqual([value.ok, value.warn, value.fail, value.exit_code], [1, 1, 1, 1]);
  assert.deepEqual(value.checks[1], { level: "warn", what: "saes", detail: "late", fix: "hurry" });
  assert.equal(value.checks[2].kind, "environment");
});

Deno.test("a config error decides the exit code before an environment error", () => {
  assert.equal(exitCode([ok("a", "b"), warn("a", "b", "c")]), 0);
  assert.equal(exitCode(LINES), 1);
  assert.equal(exitCode([...LINES, configError("a", "b", "c")]), 2);
});
