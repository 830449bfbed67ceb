/** The program as it is released: the file that `KME_TEST_BINARY` names, or else the sources under Deno. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { eventually } from "../harness/eventually.ts";
import { type KmeOptions, runKme } from "../harness/kme_process.ts";
import { keyIdsOf } from "../harness/sae_client.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { makeTestNetwork } from "../harness/test_network.ts";

const binary = Deno.env.get("KME_TEST_BINARY");
const program: KmeOptions["program"] = binary === undefined ? undefined : { executable: binary };

const posixOnly = { ignore: Deno.build.os === "windows" };

async function names(directory: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(directory))).map(({ name }) => name);
}

Deno.test("it tells its version and its usage", async () => {
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
    await using network = await makeTestNetwork({
      kmes: [{ id: 1, saes: [1], database: "sqlite" }, { id: 2, saes: [2], database: "sqlite" }],
    });
    await network.writeKeyFile(1, 2, 4);
    const processes = await network.startAll({ program, env });
    await eventually(async () => (await network.client(1).status(2)).json.stored_key_count === 4);
    const ids = keyIdsOf(await network.client(1).encKeys(2));
    assert.equal((await network.client(2).decKeys(1, ids)).status, 200);
    // What is unpacked is where no other user can put anything.
    for (const name of await names(temporary.path)) {
      const { isDirectory, mode } = await Deno.lstat(join(temporary.path, name));
      assert.ok(isDirectory && (mode! & 0o077) === 0, name);
    }
    for (const process of processes) {
      assert.deepEqual(process.lines.filter((line) => /main thread/.test(line)), []);
      assert.equal(await process.stop(), 0);
    }
    const check = await runKme(["check", network.kme(1).configPath], { program, env });
    assert.notEqual(check.code, 2, check.stdout + check.stderr);
    assert.deepEqual(await names(temporary.path), []);
  },
);
