import assert from "node:assert/strict";
import { runChild, startChild } from "../harness/child_process.ts";
import { PROJECT_ROOT } from "../harness/kme_process.ts";
import { makeTempDir } from "../harness/temp_dir.ts";

const DEMO = { args: ["run", "-A", `${PROJECT_ROOT}src/tools/demo/demo.ts`], cwd: PROJECT_ROOT };

Deno.test("the demo shows what the README says, without a warning, and leaves nothing behind", async () => {
  await using temp = await makeTempDir();
  const { code, stdout, stderr } = await runChild(Deno.execPath(), { ...DEMO, env: { TMPDIR: temp.path } });
  assert.equal(code, 0, stdout + stderr);
  const readme = await Deno.readTextFile(`${PROJECT_ROOT}README.md`);
  const shown = /^```text\n(Both KMEs are ready[\s\S]*?)^```$/m.exec(readme)![1]!;
  // What differs from run to run.
  const pattern = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9a-f]{16}\b|[0-9.]+(?= ms)/g;
  const [directory, ...output] = stdout.replaceAll(pattern, "...").trimEnd().split("\n");
  assert.match(directory!, /^Two KMEs in .+ 1000 sample blocks/);
  assert.equal(output.join("\n"), shown.replaceAll(pattern, "...").trimEnd());
  assert.doesNotMatch(stderr, /WARN|ERROR/);
  assert.deepEqual(
    [...Deno.readDirSync(temp.path)].map(({ name }) => name).filter((name) => /demo/.test(name)),
    [],
  );
});

Deno.test("the demo with devices fills the link from them", async () => {
  const { code, stdout, stderr } = await runChild(Deno.execPath(), {
    ...DEMO,
    args: [...DEMO.args, "--devices"],
  });
  assert.equal(code, 0, stdout + stderr);
  assert.match(stdout, /stock of the link {6}[1-9]\d* blocks at KME 1, [1-9]\d* at KME 2/);
  assert.equal(stdout.match(/the bits agree {10}yes/g)?.length, 2);
  assert.doesNotMatch(stderr, /ERROR/);
});

Deno.test("a second demo runs beside one that is kept, whose consoles are named", async () => {
  const kept = startChild(Deno.execPath(), { ...DEMO, args: [...DEMO.args, "--keep"] });
  try {
    await kept.waitForLine(/keep running until Ctrl-C/, 60_000);
    await kept.waitForLine(/as SAE 3: the same key/);
    const consoles = kept.lines.flatMap((line) => /^ +(http:\S+)$/.exec(line)?.[1] ?? []);
    assert.equal(consoles.length, 2);
    for (const console of consoles) {
      assert.equal((await (await fetch(`${console}/health/live`)).json()).live, true);
    }
    const second = await runChild(Deno.execPath(), DEMO);
    assert.equal(second.code, 0, second.stderr);
  } finally {
    assert.equal((await kept.end(Deno.build.os === "windows" ? "SIGKILL" : "SIGINT")).code, 0);
  }
});
