/** `.ci/run` with stand-ins for `npx`, which runs everything there, and `apt-get`. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { findProgram, runChild } from "../harness/child_process.ts";
import { PROJECT_ROOT } from "../harness/kme_process.ts";
import { makeTempDir } from "../harness/temp_dir.ts";

/** @param test what `deno task test` does, as a shell command. */
async function ciRun(test: string, edit: (script: string) => string = (script) => script) {
  await using dir = await makeTempDir();
  const write = (name: string, text: string) =>
    Deno.writeTextFile(join(dir.path, name), text, { mode: 0o755 });
  await Deno.mkdir(join(dir.path, ".ci"));
  await Deno.mkdir(join(dir.path, "bin"));
  await Deno.copyFile(`${PROJECT_ROOT}README.md`, join(dir.path, "README.md"));
  await write("bin/npx", `#!/bin/sh\ncase "$*" in *" task test") ${test} ;; esac\n`);
  await write("bin/apt-get", "#!/bin/sh\n");
  await write("bin/sudo", '#!/bin/sh\nexec "$@"\n');
  // Programs that this system may lack, so that only `edit` makes one missing.
  const programs = [
    "cargo",
    "cc",
    "curl",
    "fish",
    "go",
    "groff",
    "jq",
    "make",
    "mariadbd",
    "openssl",
    "pkg-config",
    "promtool",
    "python3",
    "shellcheck",
    "stunnel4",
    "zsh",
  ];
  for (const name of programs) await write(`bin/${name}`, "#!/bin/sh\n");
  const script = (await Deno.readTextFile(`${PROJECT_ROOT}.ci/run`))
    .replace("/usr/lib/postgresql/*/bin/postgres", "/bin/sh").replace("/usr/bin/chromium", "/bin/sh");
  await write(".ci/run", edit(script));
  const PATH = `${dir.path}/bin:${Deno.env.get("PATH")}`;
  const { code, stdout, stderr } = await runChild(join(dir.path, ".ci/run"), { args: [], env: { PATH } });
  return { code, stderr, line: stdout.trimEnd().split("\n").at(-1) };
}

const options = { ignore: findProgram("bash") === undefined || Deno.build.os === "windows" };

Deno.test(".ci/run ends with the line of the tests and their exit code", options, async () => {
  const passed = await ciRun('echo "ok | 3 passed | 0 failed (1s)"; echo "35 passed, 0 failed"');
  assert.deepEqual([passed.code, passed.line], [0, "35 passed, 0 failed"], passed.stderr);
  const failed = await ciRun('echo "34 passed, 1 failed"; exit 1');
  assert.deepEqual([failed.code, failed.line], [1, "34 passed, 1 failed"]);
});

Deno.test(
  ".ci/run counts a failure when the tests end without their line, or with an error",
  options,
  async () => {
    const killed = await ciRun('echo "ok | 3 passed | 0 failed (1s)"; exit 137');
    assert.deepEqual([killed.code, killed.line], [137, "0 passed, 1 failed"]);
    const late = await ciRun('echo "35 passed, 0 failed"; exit 2');
    assert.deepEqual([late.code, late.line], [2, "35 passed, 1 failed"]);
  },
);

Deno.test(".ci/run fails when a component cannot be installed", options, async () => {
  const { code, stderr, line } = await ciRun(
    'echo "35 passed, 0 failed"',
    (script) => script.replace("-x /bin/sh", "-x /not/installed"),
  );
  assert.deepEqual([code, line], [1, "0 passed, 1 failed"]);
  assert.match(stderr, /^not installed: chromium$/m);
});
