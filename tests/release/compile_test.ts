/**
 * What is built for each platform. Deno's own executable takes the place of the runtimes, which have to be downloaded: what
 * comes out does not run, but holds the same files.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { embed, findRuntime, writeChecksums } from "../../scripts/compile.ts";
import { embeddedFiles } from "../../scripts/embedded_files.ts";
import { stagePackages } from "../../scripts/npm_files.ts";
import { hostTarget, TARGETS } from "../../scripts/targets.ts";
import { eventually } from "../harness/eventually.ts";
import { PROJECT_ROOT } from "../harness/kme_process.ts";
import { keyIdsOf } from "../harness/sae_client.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { makeTestNetwork } from "../harness/test_network.ts";

/** Bytes: what a host without internet has to be brought. */
const MAX_SIZE = 115e6;

/** Modules that commands load when they need them, or that are started as threads, and the console's page. */
async function filesToEmbed(): Promise<string[]> {
  const page = "src/console/page";
  const names = await Array.fromAsync(Deno.readDir(join(PROJECT_ROOT, page)));
  return [
    "src/main.ts",
    "src/cli/run_kme.ts",
    "src/kme.ts",
    "src/check/run_checks.ts",
    "src/console/status_client.ts",
    "src/rollback_guard/burn.ts",
    "src/tools/certs/make_network.ts",
    "src/tools/sample_keys.ts",
    "src/cli/man_page.ts",
    "src/cli/completion_scripts.ts",
    "src/store/engine/store_worker.ts",
    ...names.map(({ name }) => `${page}/${name}`),
  ];
}

for (const target of TARGETS) {
  Deno.test(`${target.name}: the program, its own SQLite addon, and nothing that it does not use`, async () => {
    await using dir = await makeTempDir();
    const output = join(dir.path, `kme${target.suffix}`);
    await embed(target, output, Deno.execPath(), hostTarget());
    const files = await embeddedFiles(output);
    const paths = files.map(({ path }) => path);

    for (const file of await filesToEmbed()) assert.ok(paths.includes(file), file);
    assert.deepEqual(
      paths.filter((path) => path.endsWith(".node")).map((path) => path.replace(/^.*\/prebuilds\//, "")),
      [`${target.addon}.node`],
    );
    const others =
      /^tests\/|_test\.|\/bench\/|\.d\.[cm]?ts$|^(?:src\/tools\/demo|playwright-core|fast-check|ajv)\//;
    assert.deepEqual(paths.filter((path) => others.test(path)), []);
    assert.deepEqual(paths.filter((path) => path.startsWith("@opentelemetry")), []);

    const { size } = await Deno.stat(output);
    const embedded = files.reduce((sum, file) => sum + file.size, 0);
    const mb = (bytes: number) => (bytes / 1e6).toFixed(1);
    console.log(`    ${mb(size)} MB, of which ${mb(embedded)} MB are ours`);
    if (target.name === "linux-x64") assert.ok(size <= MAX_SIZE, `${mb(size)} MB`);
  });
}

Deno.test({
  name: "the program runs with nothing but the packages' files that are built into it",
  ignore: Deno.build.os === "windows",
  fn: async () => {
    await using dir = await makeTempDir();
    await stagePackages(hostTarget(), dir.path);
    const executable = join(dir.path, "kme");
    const args = ["run", "-A", "--no-check", "--cached-only", "--config", `${PROJECT_ROOT}deno.json`];
    const command = [Deno.execPath(), ...args, `${PROJECT_ROOT}src/main.ts`].map((part) => `'${part}'`);
    await Deno.writeTextFile(executable, `#!/bin/sh\nexec ${command.join(" ")} "$@"\n`, { mode: 0o755 });
    await using network = await makeTestNetwork({
      kmes: [
        { id: 1, saes: [1], database: "sqlite", console: true },
        { id: 2, saes: [2], database: "sqlite" },
      ],
    });
    await network.writeKeyFile(1, 2, 4);
    const processes = await network.startAll({ program: { executable }, env: { DENO_DIR: dir.path } });
    await eventually(async () => (await network.client(1).status(2)).json.stored_key_count === 4);
    const ids = keyIdsOf(await network.client(1).encKeys(2));
    assert.equal((await network.client(2).decKeys(1, ids)).status, 200);
    const page = await fetch(`http://127.0.0.1:${network.kme(1).consolePort}/`);
    assert.equal(page.status, 200);
    await page.body?.cancel();
    for (const process of processes) {
      assert.deepEqual(process.lines.filter((line) => /main thread/.test(line)), []);
      assert.equal(await process.stop(), 0);
    }
  },
});

Deno.test("SHA256SUMS keeps the lines of files that were built before", async () => {
  await using dir = await makeTempDir();
  const read = () => Deno.readTextFile(join(dir.path, "SHA256SUMS"));
  const sum = (bytes: string) => createHash("sha256").update(bytes).digest("hex");
  for (const name of ["kme-b", "kme-a"]) await Deno.writeTextFile(join(dir.path, name), name);
  await writeChecksums(dir.path, ["kme-b"]);
  assert.equal(await read(), `${sum("kme-b")}  kme-b\n`);
  await writeChecksums(dir.path, ["kme-a"]);
  assert.equal(await read(), `${sum("kme-a")}  kme-a\n${sum("kme-b")}  kme-b\n`);
  // What is built again has a new sum, and what is no longer there has none.
  await Deno.writeTextFile(join(dir.path, "kme-a"), "new");
  await Deno.remove(join(dir.path, "kme-b"));
  await writeChecksums(dir.path, ["kme-a"]);
  assert.equal(await read(), `${sum("new")}  kme-a\n`);
});

Deno.test("the runtime is the target's own file, one of the directory, or the one that Deno downloads", async () => {
  await using dir = await makeTempDir();
  const target = TARGETS.find(({ name }) => name === "windows-x64")!;
  assert.equal(await findRuntime(target, {}), undefined);
  assert.equal(await findRuntime(target, { DENORT_BIN: "/a/denort" }), "/a/denort");
  const env = { DENORT_BIN: "/a/denort", KME_DENORT_DIR: dir.path };
  await assert.rejects(findRuntime(target, env), /denort-x86_64-pc-windows-msvc\.exe is missing/);
  const path = join(dir.path, "denort-x86_64-pc-windows-msvc.exe");
  await Deno.writeTextFile(path, "");
  assert.equal(await findRuntime(target, env), path);
  assert.equal(await findRuntime(target, { ...env, DENORT_BIN_WINDOWS_X64: "/b.exe" }), "/b.exe");
});
