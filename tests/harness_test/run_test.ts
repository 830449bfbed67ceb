import assert from "node:assert/strict";
import { databaseAvailable } from "../harness/databases.ts";
import { runChild, startChild } from "../harness/child_process.ts";
import { eventually } from "../harness/eventually.ts";
import { PROJECT_ROOT } from "../harness/kme_process.ts";
import { ALONE, LONGEST, PARTS, testFiles } from "../harness/parts.ts";
import { addUp, readSummary } from "../harness/summary.ts";
import { makeTempDir } from "../harness/temp_dir.ts";

const TESTS = `${PROJECT_ROOT}tests/`;

Deno.test("every test file is in one part of the suite, and every part has a task", async () => {
  const inParts = Object.values(PARTS).flat().flatMap((path) => testFiles(TESTS, path));
  assert.deepEqual(inParts.toSorted(), testFiles(TESTS, "").toSorted());
  for (const file of [...ALONE, ...LONGEST]) assert.ok(inParts.includes(file), file);
  const { tasks } = JSON.parse(await Deno.readTextFile(`${PROJECT_ROOT}deno.json`));
  const named = Object.keys(tasks).filter((name) => name.startsWith("test:")).map((name) => name.slice(5));
  assert.deepEqual(named.toSorted(), Object.keys(PARTS).toSorted());
  for (const name of named) assert.ok(tasks[`test:${name}`].command.endsWith(`tests/run.ts ${name}`), name);
});

Deno.test("summaries are read and added up, and a run without one has failed", () => {
  const ok = readSummary("a ... ok (3ms)\n\nok | 12 passed (3 steps) | 0 failed | 1 ignored (5s)\n", true);
  assert.deepEqual(ok, { passed: 12, failed: 0 });
  const failed = readSummary("ok | 1 passed | 0 failed (1s)\nFAILED | 1063 passed | 2 failed (5s)\n", false);
  assert.deepEqual(failed, { passed: 1063, failed: 2 });
  assert.deepEqual(readSummary("error: Module not found\n", false), { passed: 0, failed: 1 });
  assert.deepEqual(readSummary("", true), { passed: 0, failed: 1 });
  // The summary came, and the program ended with an error all the same.
  assert.deepEqual(readSummary("ok | 4 passed | 0 failed (1s)\n", false), { passed: 4, failed: 1 });
  assert.deepEqual(addUp([ok, failed]), { passed: 1075, failed: 2 });
});

/** A test file that runs `body` with a database of each kind, on the servers of the run. */
async function testFile(body: string) {
  const dir = await makeTempDir();
  const harness = new URL("../harness/", import.meta.url).href;
  const path = `${dir.path}/fixture_test.ts`;
  await Deno.writeTextFile(
    path,
    `import { databaseTest } from "${harness}databases.ts";
    import { testWith } from "${harness}installed.ts";
    ${body}`,
  );
  return { path, dir: dir.path, [Symbol.asyncDispose]: dir.remove };
}

const runner = (...files: string[]) => ({
  args: ["run", "-A", "--config", `${PROJECT_ROOT}deno.json`, `${TESTS}run.ts`, ...files],
  cwd: PROJECT_ROOT,
});

const USES_SERVERS = `
  for (const kind of ["postgres", "mariadb"] as const) {
    databaseTest(kind, "uses the server", (_uri, server) => {
      console.log("port of " + kind + ": " + server.port + ".");
      if (server.controllable) throw new Error("the server is the file's own");
    });
  }
  databaseTest("postgres", "does not stop a server that others use", (_uri, server) => server.stop());
`;

function isListening(port: number): boolean {
  try {
    Deno.listen({ hostname: "127.0.0.1", port }).close();
    return false;
  } catch {
    return true;
  }
}

/** Whether a process other than `runner` has this path in its command line (Linux). */
function isNamedByProcess(path: string, runner: number): boolean {
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name) || Number(name) === runner) continue;
    try {
      if (Deno.readTextFileSync(`/proc/${name}/cmdline`).includes(path)) return true;
    } catch {
      // Ended meanwhile.
    }
  }
  return false;
}

const needsServers = {
  ignore: Deno.env.get("CI") !== "true" &&
    !(databaseAvailable("postgres").available && databaseAvailable("mariadb").available),
};

Deno.test("files share servers, which are stopped although a test failed", needsServers, async () => {
  await using first = await testFile(USES_SERVERS);
  await using second = await testFile(USES_SERVERS);
  const { code, stdout, stderr } = await runChild(Deno.execPath(), runner(first.path, second.path));
  const lines = stdout.trimEnd().split("\n");
  assert.equal(lines.at(-1), "4 passed, 2 failed", stdout + stderr);
  assert.equal(code, 1);
  for (const kind of ["postgres", "mariadb"]) {
    const ports = [...stdout.matchAll(new RegExp(`port of ${kind}: (\\d+)\\.`, "g"))].map(([, port]) => port);
    assert.equal(ports.length, 2, stdout);
    assert.equal(new Set(ports).size, 1);
    assert.ok(!isListening(Number(ports[0])), `${kind} still runs`);
  }
});

for (const signal of ["SIGTERM", "SIGKILL"] as const) {
  const ignore = needsServers.ignore || Deno.build.os !== "linux";
  Deno.test(`a run that ends by ${signal} leaves no server`, { ignore }, async () => {
    await using file = await testFile(`${USES_SERVERS}
      databaseTest("mariadb", "hangs", () => new Promise((resolve) => setTimeout(resolve, 100_000)));`);
    // A run that is killed cannot remove the servers' data.
    await Deno.chmod(file.dir, 0o755);
    const env = { KME_TEST_SERVER_DIRECTORY: file.dir };
    const child = startChild(Deno.execPath(), { ...runner(file.path), env });
    try {
      const ports: number[] = [];
      for (const kind of ["postgres", "mariadb"]) {
        const line = await child.waitForLine(new RegExp(`port of ${kind}`), 60_000);
        ports.push(Number(/(\d+)\./.exec(line)![1]));
      }
      child.signal(signal);
      await eventually(() => !ports.some(isListening), { what: "the end of the servers", timeout: 30_000 });
      await eventually(() => !isNamedByProcess(file.path, child.pid), { what: "the end of the tests" });
    } finally {
      await child.end("SIGKILL");
    }
    // Processes of the servers that are just ending may still write files.
    await eventually(() => file[Symbol.asyncDispose]().then(() => true), { what: "the end of the data" });
  });
}

Deno.test("with CI=true a test whose program is not installed fails, else it is ignored", async () => {
  await using file = await testFile(`testWith(undefined, "no such program", "needs a program", () => {});`);
  const args = ["test", "-A", "--no-check", "--config", `${PROJECT_ROOT}deno.json`, file.path];
  const run = (CI: string) => runChild(Deno.execPath(), { args, env: { CI, NO_COLOR: "1" } });
  const ci = await run("true");
  assert.match(ci.stdout, /no such program[^]*FAILED \| 0 passed \| 1 failed/);
  assert.equal(ci.code, 1);
  assert.match((await run("")).stdout, /ok \| 0 passed \| 0 failed \| 1 ignored/);
});
