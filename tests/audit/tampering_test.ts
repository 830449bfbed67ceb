/** Every change of an audit log is detected, with its place. */
import assert from "node:assert/strict";
import { hash } from "node:crypto";
import {
  deliveryRecord,
  fileOf,
  linesIn,
  type LogDirectory,
  makeLogDirectory,
  problemsOf,
} from "./audit_fixture.ts";

/** A log of three files, ended by a stop. */
async function smallLog(): Promise<LogDirectory> {
  const log = await makeLogDirectory();
  const trail = await log.open({ rotateBytes: 2000 });
  await trail.write({ kind: "start", version: "for a test" });
  for (let i = 1; i <= 9; i++) await trail.write(deliveryRecord(i));
  await trail.close({ kind: "stop" });
  assert.equal(log.files().length, 3, log.files().join());
  return log;
}

/** Changes a file, verifies, and puts it back. */
async function changed(log: LogDirectory, name: string, lines: readonly string[]) {
  const before = log.read(name);
  log.write(name, fileOf(lines));
  try {
    return await log.verify();
  } finally {
    log.write(name, before);
  }
}

/** Applies a change at every line of every file, and expects a problem at that line or the next ones. */
async function foundEverywhere(
  change: (lines: string[], at: number) => string[] | undefined,
  reach: number,
): Promise<void> {
  await using log = await smallLog();
  assert.deepEqual((await log.verify()).findings, []);
  const files = log.files();
  let tried = 0;
  for (const [index, name] of files.entries()) {
    const lines = linesIn(log.read(name));
    for (let at = 0; at < lines.length; at++) {
      const after = change([...lines], at);
      if (after === undefined) continue;
      tried++;
      const problems = problemsOf(await changed(log, name, after));
      const what = `${name} line ${at + 1} of ${lines.length}`;
      assert.ok(problems.length > 0, `${what}: not found`);
      const near = problems.some(({ place, line }) =>
        place === name && (line === undefined || line >= at + 1 && line <= at + 1 + reach) ||
        // The last line of a file shows in the next one.
        place === files[index + 1] && line === 1 || place === "chain 1"
      );
      assert.ok(near, `${what}: found in another place: ${JSON.stringify(problems)}`);
    }
  }
  assert.ok(tried >= 10, String(tried));
}

/** Gives a changed line the hash that belongs to it. */
function rehash(line: string): string {
  const content = line.replace(/,"hash":"[0-9a-f]{64}"\}$/, "}");
  return `${content.slice(0, -1)},"hash":"${hash("sha256", content, "hex")}"}`;
}

const altered = (line: string) => line.replace(/"time":"2/, '"time":"3');

Deno.test("an altered record is detected", async () => {
  await foundEverywhere((lines, at) => lines.with(at, altered(lines[at]!)), 0);
});

Deno.test("an altered record is detected, whichever byte is altered", async () => {
  await using log = await smallLog();
  const name = log.files()[1]!;
  const bytes = log.read(name);
  const end = bytes.indexOf(10, bytes.indexOf(10) + 1);
  for (let at = bytes.indexOf(10) + 1; at <= end; at++) {
    const after = Uint8Array.from(bytes);
    after[at] = after[at]! ^ 1;
    log.write(name, after);
    assert.ok(problemsOf(await log.verify()).length > 0, `byte ${at}`);
  }
});

Deno.test("an altered record with a matching hash is detected at the next record", async () => {
  await foundEverywhere(
    // Behind the last record of the log there is nothing that it has to fit.
    (lines, at) =>
      lines[at]!.includes('"kind":"stop"') ? undefined : lines.with(at, rehash(altered(lines[at]!))),
    1,
  );
});

Deno.test("a removed record is detected", async () => {
  await foundEverywhere(
    (lines, at) => lines[at]!.includes('"kind":"stop"') ? undefined : lines.toSpliced(at, 1),
    0,
  );
});

Deno.test("a repeated record is detected", async () => {
  await foundEverywhere((lines, at) => lines.toSpliced(at, 0, lines[at]!), 1);
});

Deno.test("a record that is repeated at the end is detected", async () => {
  await foundEverywhere((lines, at) => [...lines, lines[at]!], Infinity);
});

Deno.test("two exchanged records are detected", async () => {
  await foundEverywhere(
    (lines, at) =>
      at + 1 === lines.length ? undefined : lines.with(at, lines[at + 1]!).with(at + 1, lines[at]!),
    1,
  );
});

Deno.test("an inserted line is detected", async () => {
  await foundEverywhere((lines, at) => lines.toSpliced(at, 0, "not a record"), 0);
  await foundEverywhere((lines, at) => lines.toSpliced(at, 0, ""), 0);
});

Deno.test("a removed file is detected", async () => {
  await using log = await smallLog();
  for (const name of log.files()) {
    const bytes = log.read(name);
    await Deno.remove(`${log.path}/${name}`);
    const [problem] = problemsOf(await log.verify());
    assert.match(problem?.message ?? "", /missing/, name);
    log.write(name, bytes);
  }
  assert.deepEqual((await log.verify()).findings, []);
});

Deno.test("two exchanged files are detected", async () => {
  await using log = await smallLog();
  const [first, second] = log.files() as [string, string];
  const [a, b] = [log.read(first), log.read(second)];
  log.write(first, b);
  log.write(second, a);
  assert.ok(problemsOf(await log.verify()).length > 0);
});

Deno.test("a file that is cut anywhere is detected, at the end of the log by its head or the missing stop", async () => {
  await using log = await smallLog();
  const files = log.files();
  const [chain] = (await log.verify()).chains;
  for (const [index, name] of files.entries()) {
    const bytes = log.read(name);
    const isLast = index === files.length - 1;
    for (let length = 0; length < bytes.length; length += 7) {
      log.write(name, bytes.subarray(0, length));
      const found = await log.verify([chain!.hash]);
      const what = `${name} cut to ${length} bytes`;
      assert.ok(isLast || problemsOf(found).length > 0, what);
      assert.equal(found.unknownHeads.length, isLast ? 1 : 0, what);
      assert.ok(found.findings.length > 0, what);
    }
    // Between two records.
    for (let end = bytes.indexOf(10); end >= 0 && end + 1 < bytes.length; end = bytes.indexOf(10, end + 1)) {
      log.write(name, bytes.subarray(0, end + 1));
      const found = await log.verify([chain!.hash]);
      assert.ok(isLast || problemsOf(found).length > 0);
      assert.equal(found.unknownHeads.length, isLast ? 1 : 0);
      assert.ok(found.findings.length > 0, `${name} cut behind a record`);
    }
    log.write(name, bytes);
  }
  assert.deepEqual(
    await log.verify([chain!.hash]).then(({ findings, unknownHeads }) => [findings, unknownHeads]),
    [[], []],
  );
});

Deno.test("a log that was rewritten from some record on has another head", async () => {
  await using log = await smallLog();
  const head = (await log.verify()).chains[0]!.hash;
  await using forged = await smallLog();
  for (const name of log.files()) log.write(name, forged.read(name));
  const found = await log.verify([head.slice(0, 13)]);
  assert.deepEqual(found.findings, []);
  assert.deepEqual(found.unknownHeads, [head.slice(0, 13)]);
});
