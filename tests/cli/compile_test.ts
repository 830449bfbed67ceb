/** The single binary holds the modules that nothing imports, as threads are made of them. */
import assert from "node:assert/strict";
import { dirname, join, relative } from "node:path";
import { PROJECT_ROOT } from "../harness/kme_process.ts";

async function* sources(directory: string): AsyncGenerator<string> {
  for await (const entry of Deno.readDir(directory)) {
    const path = join(directory, entry.name);
    if (entry.isDirectory) yield* sources(path);
    else if (path.endsWith(".ts")) yield path;
  }
}

Deno.test("the task that compiles the program includes the modules of its threads", async () => {
  const { tasks } = JSON.parse(await Deno.readTextFile(join(PROJECT_ROOT, "deno.json")));
  const included = [...(tasks.compile.command as string).matchAll(/--include (\S+)/g)].map(([, path]) =>
    path
  );
  const modules = new Set<string>();
  for await (const path of sources(join(PROJECT_ROOT, "src"))) {
    const text = await Deno.readTextFile(path);
    for (const [, module] of text.matchAll(/new Worker\(\s*new URL\("([^"]+)"/g)) {
      modules.add(relative(PROJECT_ROOT, join(dirname(path), module!)).replaceAll("\\", "/"));
    }
  }
  assert.ok(modules.size > 0);
  assert.deepEqual(included, [...modules]);
  for (const path of modules) await Deno.stat(join(PROJECT_ROOT, path));
});
