/** What differs between operating systems, for all of them; and the directory for temporary files. */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { libraryFailure } from "../../src/store/dialects/sqlite_library.ts";
import { describePlatform, openRegularFile, type SystemFacts } from "../../src/platform.ts";
import { findProgram, runChild, startChild } from "../harness/child_process.ts";
import { testIfInstalled } from "../harness/installed.ts";
import { makeTempDir } from "../harness/temp_dir.ts";

const SYSTEMS = {
  linux: { os: "linux", uid: 1000 },
  macos: { os: "darwin", uid: 501 },
  windows: { os: "windows", uid: null },
} as const satisfies Record<string, SystemFacts>;

Deno.test("signals are those that the system has", () => {
  for (const system of [SYSTEMS.linux, SYSTEMS.macos]) {
    assert.deepEqual(describePlatform(system).stopSignals, ["SIGINT", "SIGTERM"]);
    assert.equal(describePlatform(system).reloadSignal, "SIGHUP");
  }
  assert.deepEqual(describePlatform(SYSTEMS.windows).stopSignals, ["SIGINT", "SIGBREAK"]);
  assert.equal(describePlatform(SYSTEMS.windows).reloadSignal, undefined);
});

Deno.test("modes and the superuser are those of POSIX", () => {
  assert.ok(describePlatform(SYSTEMS.macos).hasFileModes);
  assert.ok(!describePlatform(SYSTEMS.macos).isRoot);
  assert.ok(describePlatform({ ...SYSTEMS.macos, uid: 0 }).isRoot);
  assert.ok(!describePlatform(SYSTEMS.windows).hasFileModes);
  assert.ok(!describePlatform(SYSTEMS.windows).isRoot);
  assert.ok(describePlatform(SYSTEMS.macos).isOwn(501));
  assert.ok(!describePlatform(SYSTEMS.macos).isOwn(0));
  assert.ok(describePlatform(SYSTEMS.windows).isOwn(0));
});

Deno.test("only Linux tells that a file is complete", () => {
  assert.deepEqual(describePlatform(SYSTEMS.linux).completeEvents, ["access", "rename"]);
  assert.deepEqual(describePlatform(SYSTEMS.macos).completeEvents, []);
  assert.deepEqual(describePlatform(SYSTEMS.windows).completeEvents, []);
});

Deno.test("a regular file is opened with the flags that the system has", () => {
  assert.equal(openRegularFile({ O_RDONLY: 0, O_NOFOLLOW: 0o400000, O_NONBLOCK: 0o4000 }), 0o404000);
  assert.equal(openRegularFile({ O_RDONLY: 0, O_NOFOLLOW: 0x100, O_NONBLOCK: 4 }), 0x104);
  assert.equal(openRegularFile({ O_RDONLY: 0 }), 0);
});

Deno.test("the path of a URI begins with a drive letter on Windows only", () => {
  assert.equal(describePlatform(SYSTEMS.windows).pathOfUri("/C:/keys/kme.db"), "C:/keys/kme.db");
  assert.equal(describePlatform(SYSTEMS.windows).pathOfUri("/keys/kme.db"), "/keys/kme.db");
  assert.equal(describePlatform(SYSTEMS.linux).pathOfUri("/c:/keys/kme.db"), "/c:/keys/kme.db");
});

Deno.test("a library that cannot be loaded is one line that says what is missing", () => {
  for (
    const [message, expected] of [
      [
        "/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by /tmp/x.node)",
        /glibc 2\.34/,
      ],
      ["libstdc++.so.6: cannot open shared object file: No such file or directory", /libstdc\+\+ is missing/],
      ["version `GLIBCXX_3.4.29' not found\n(required by x)", /libstdc\+\+ is missing or too old/],
      ["/tmp/x.node: failed to map segment from shared object", /noexec; set TMPDIR/],
      ["something else", /glibc 2\.34, libstdc\+\+ and a directory/],
    ] as const
  ) {
    assert.match(libraryFailure(message), expected);
    assert.ok(!libraryFailure(message).includes("\n"));
  }
});

const posixOnly = { ignore: Deno.build.os === "windows" };

/** A program that makes its directory, prints its path, and does `rest`. */
function program(rest: string): string[] {
  const module = JSON.stringify(new URL("../../src/platform.ts", import.meta.url).href);
  const source = `import { usePrivateTempDirectory } from ${module};
    import { tmpdir } from "node:os";
    usePrivateTempDirectory();
    usePrivateTempDirectory();
    console.log(tmpdir());
    ${rest}`;
  return ["eval", "--no-config", source];
}

Deno.test(
  "temporary files are in a new directory of the user's own, gone at the end",
  posixOnly,
  async () => {
    await using shared = await makeTempDir();
    // As another user who knows how the program names its files.
    await Deno.chmod(shared.path, 0o1777);
    await Deno.writeTextFile(join(shared.path, "kme0123456789abcdef.node"), "another user's file");
    const env = { TMPDIR: shared.path };
    const look = `const { mode, uid } = Deno.statSync(tmpdir());
    console.log((mode & 0o777).toString(8), uid === Deno.uid(), ...Deno.readDirSync(tmpdir()));
    Deno.exit(3);`;
    const { code, stdout, stderr } = await runChild(Deno.execPath(), { args: program(look), env });
    assert.equal(code, 3, stderr);
    const [directory, facts] = stdout.trim().split("\n");
    assert.equal(dirname(directory!), shared.path);
    assert.equal(facts, "700 true");
    const names = (await Array.fromAsync(Deno.readDir(shared.path))).map(({ name }) => name);
    assert.deepEqual(names, ["kme0123456789abcdef.node"]);
  },
);

Deno.test(
  "what a killed process left is removed by the next, what a running one uses is not",
  posixOnly,
  async () => {
    await using shared = await makeTempDir();
    const env = { TMPDIR: shared.path };
    const wait = program("setInterval(() => {}, 1000);");
    const running = startChild(Deno.execPath(), { args: wait, env });
    const killed = startChild(Deno.execPath(), { args: wait, env });
    try {
      const path = /kme-\d+-/;
      const [used, left] = [await running.waitForLine(path), await killed.waitForLine(path)];
      await killed.end("SIGKILL");
      assert.ok((await Deno.stat(left)).isDirectory);
      const { code, stderr } = await runChild(Deno.execPath(), { args: program(""), env });
      assert.equal(code, 0, stderr);
      await assert.rejects(Deno.stat(left), Deno.errors.NotFound);
      assert.ok((await Deno.stat(used)).isDirectory);
    } finally {
      await running.end("SIGKILL");
      await killed.end("SIGKILL");
    }
  },
);

Deno.test(
  "a program whose directory was removed while it ran ends as it would have otherwise",
  posixOnly,
  async () => {
    await using shared = await makeTempDir();
    const { code, stderr } = await runChild(Deno.execPath(), {
      args: program("Deno.removeSync(tmpdir(), { recursive: true });"),
      env: { TMPDIR: shared.path },
    });
    assert.deepEqual([code, stderr], [0, ""]);
  },
);

testIfInstalled(
  Deno.build.os === "linux" ? findProgram("systemd-tmpfiles", ["/usr/bin"]) : undefined,
  "systemd-tmpfiles is not installed",
  "systemd-tmpfiles removes old temporary files, but not the directory of a running process",
  async (tmpfiles) => {
    await using shared = await makeTempDir();
    await Deno.mkdir(join(shared.path, "old"));
    const settings = join(shared.path, "settings.conf");
    await Deno.writeTextFile(settings, `e ${shared.path} - - - mM:1h\n`);
    const running = startChild(Deno.execPath(), {
      args: program(`Deno.writeTextFileSync(tmpdir() + "/library.node", "");
        const past = new Date(Date.now() - 86_400_000);
        for (const path of [tmpdir() + "/library.node", tmpdir()]) Deno.utimeSync(path, past, past);
        console.log("ready");
        setInterval(() => {}, 1000);`),
      env: { TMPDIR: shared.path },
    });
    try {
      const directory = await running.waitForLine(/kme-\d+-/);
      await running.waitForLine(/^ready$/);
      const past = new Date(Date.now() - 86_400_000);
      await Deno.utime(join(shared.path, "old"), past, past);
      const { code, stderr } = await runChild(tmpfiles, { args: ["--clean", settings] });
      assert.equal(code, 0, stderr);
      await assert.rejects(Deno.stat(join(shared.path, "old")), Deno.errors.NotFound);
      assert.ok((await Deno.stat(join(directory, "library.node"))).isFile);
    } finally {
      await running.end("SIGKILL");
    }
  },
);
