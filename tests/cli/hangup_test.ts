import assert from "node:assert/strict";
import { startChild } from "../harness/child_process.ts";
import { PROJECT_ROOT } from "../harness/kme_process.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { makeTempDir } from "../harness/temp_dir.ts";

const posixOnly = { ignore: Deno.build.os === "windows" };

Deno.test("a SIGHUP while the configuration is read does not end the KME", posixOnly, async () => {
  await using temp = await makeTempDir();
  const pipe = `${temp.path}/kme.json5`;
  assert.ok((await new Deno.Command("mkfifo", { args: [pipe] }).output()).success);
  const child = startChild(Deno.execPath(), {
    args: ["run", "-A", "--config", `${PROJECT_ROOT}deno.json`, `${PROJECT_ROOT}src/main.ts`, pipe],
  });
  // Opens only once the other end is read.
  const file = await Deno.open(pipe, { write: true });
  child.signal("SIGHUP");
  await file.write(new TextEncoder().encode("{}"));
  file.close();
  // It went on to refuse the configuration.
  const { code, signal } = await child.exited;
  assert.deepEqual([code, signal], [2, null]);
});

Deno.test("a SIGHUP while the KME stops does not end it at once", posixOnly, async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1], database: "sqlite" }] });
  const kme = await network.start(1);
  kme.signal("SIGTERM");
  await kme.waitForLine(/: stopping/);
  kme.signal("SIGHUP");
  await kme.waitForLine(/\bstopped\b/);
  assert.equal((await kme.exited).code, 0);
});
