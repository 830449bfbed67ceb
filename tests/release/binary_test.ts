/** The program as it is released: the file that `KME_TEST_BINARY` names, or else the sources under Deno. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { eventually } from "../harness/eventually.ts";
import { type KmeOptions, PROJECT_ROOT, runKme } from "../harness/kme_process.ts";
import { keyIdsOf } from "../harness/sae_client.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { makeTestNetwork } from "../harness/test_network.ts";

const binary = Deno.env.get("KME_TEST_BINARY");
const program: KmeOptions["program"] = binary === undefined ? undefined : { executable: binary };

const posixOnly = { ignore: Deno.build.os === "windows" };

async function names(directory: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(directory))).map(({ name }) => name);
}

/** An executable of the sources that behaves as a compiled program does, as far as the program itself decides. */
async function takingItselfForCompiled(directory: string): Promise<string> {
  const path = join(directory, "kme");
  const preload = new URL("compiled.ts", import.meta.url).pathname;
  const args = ["run", "-A", "--preload", preload, "--config", `${PROJECT_ROOT}deno.json`];
  const command = [Deno.execPath(), ...args, `${PROJECT_ROOT}src/main.ts`].map((word) => `'${word}'`);
  await Deno.writeTextFile(path, `#!/bin/sh\nexec ${command.join(" ")} "$@"\n`, { mode: 0o755 });
  return path;
}

Deno.test("the program prints its version and its usage", async () => {
  const version = await runKme(["--version"], { program });
  assert.deepEqual([version.code, version.stderr], [0, ""]);
  assert.match(version.stdout, /^kme \d+\.\d+\.\d+\n$/);
  const help = await runKme(["--help"], { program });
  assert.equal(help.code, 0);
  assert.match(help.stdout, /kme/);
});

Deno.test(
  "the database is in a thread of its own, and nothing is left of temporary files",
  posixOnly,
  async () => {
    await using temporary = await makeTempDir();
    await Deno.chmod(temporary.path, 0o1777);
    const env = { TMPDIR: temporary.path };
    await using bin = await makeTempDir();
    const program = { executable: binary ?? await takingItselfForCompiled(bin.path) };
    await using network = await makeTestNetwork({
      kmes: [{ id: 1, saes: [1], database: "sqlite" }, { id: 2, saes: [2], database: "sqlite" }],
    });
    // The names of what a compiled program unpacks are the same at each start.
    const unpacked: string[] = [];
    const first = await network.start(1, { program, env });
    for (const name of await names(temporary.path)) unpacked.push(...await names(join(temporary.path, name)));
    assert.equal(await first.stop(), 0);
    if (binary !== undefined) assert.deepEqual(unpacked.map((name) => name.replace(/.*\./, ".")), [".node"]);
    // Another user's, who knows them.
    const others = [
      "deno-compile-kme.cache",
      "kme-1-0123456789abcdef",
      "kme0123456789abcdef.node",
      ...unpacked,
    ].sort();
    for (const name of others) {
      const path = join(temporary.path, name);
      if (name.startsWith("kme-")) await Deno.mkdir(path);
      else await Deno.writeTextFile(path, "another user's file");
      if (Deno.uid() === 0) await Deno.chown(path, 65534, 65534);
    }

    await network.writeKeyFile(1, 2, 4);
    const processes = await network.startAll({ program, env });
    await eventually(async () => (await network.client(1).status(2)).json.stored_key_count === 4);
    const ids = keyIdsOf(await network.client(1).encKeys(2));
    assert.equal((await network.client(2).decKeys(1, ids)).status, 200);
    // What is unpacked is where no other user can put anything: in a directory of each process.
    const own = (await names(temporary.path)).filter((name) => !others.includes(name));
    assert.equal(own.length, processes.length);
    for (const name of own) {
      const { isDirectory, mode } = await Deno.lstat(join(temporary.path, name));
      assert.ok(isDirectory && (mode! & 0o077) === 0, name);
    }
    for (const process of processes) {
      assert.deepEqual(process.lines.filter((line) => /main thread/.test(line)), []);
      assert.equal(await process.stop(), 0);
    }
    const { configPath } = network.kme(1);
    for (const args of [["check", configPath], ["burn", configPath, "--yes"], ["--version"]]) {
      const { code, stdout, stderr } = await runKme(args, { program, env });
      assert.notEqual(code, 2, stdout + stderr);
      assert.deepEqual((await names(temporary.path)).toSorted(), others);
    }
  },
);
