/** The single binary holds every module of the program: those loaded lazily and those of its threads too. */
import assert from "node:assert/strict";
import { relative } from "node:path";
import { fileURLToPath } from "node:url";
import { runChild } from "../harness/child_process.ts";
import { PROJECT_ROOT } from "../harness/kme_process.ts";

/** Local modules that `deno compile` finds from an entry point, relative to the project. */
async function graphOf(entry: string): Promise<string[]> {
  const { code, stdout, stderr } = await runChild(Deno.execPath(), {
    args: ["info", "--json", entry],
    cwd: PROJECT_ROOT,
  });
  assert.equal(code, 0, stderr);
  const { modules } = JSON.parse(stdout) as {
    modules: { kind: string; specifier: string; error?: string }[];
  };
  assert.deepEqual(modules.filter(({ error }) => error !== undefined), []);
  return modules.filter(({ specifier }) => specifier.startsWith("file:"))
    .map(({ specifier }) => relative(PROJECT_ROOT, fileURLToPath(specifier)).replaceAll("\\", "/"));
}

Deno.test("the compile task embeds the lazily loaded modules and those of threads", async () => {
  const { tasks } = JSON.parse(await Deno.readTextFile(`${PROJECT_ROOT}deno.json`));
  const words = (tasks.compile.command as string).split(" ");
  const included = words.filter((_, i) => words[i - 1] === "--include");
  const embedded = new Set<string>();
  for (const entry of [words.at(-1)!, ...included]) {
    for (const module of await graphOf(entry)) embedded.add(module);
  }
  for (
    const module of [
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
    ]
  ) assert.ok(embedded.has(module), `${module} is not in the binary`);
});
