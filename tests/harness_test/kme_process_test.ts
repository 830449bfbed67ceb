import assert from "node:assert/strict";
import { eventually } from "../harness/eventually.ts";
import { runKme, startKme } from "../harness/kme_process.ts";
import { makeTempDir } from "../harness/temp_dir.ts";

/** A program in place of a KME; its first argument is the path of its configuration. */
async function program(text: string) {
  const dir = await makeTempDir();
  const script = `${dir.path}/program.ts`;
  await Deno.writeTextFile(script, text);
  return { program: { script }, [Symbol.asyncDispose]: dir.remove };
}

const OBEDIENT = `
  Deno.addSignalListener("SIGTERM", () => { console.error("stopping"); Deno.exit(3); });
  Deno.addSignalListener("SIGHUP", () => console.error("hangup with " + Deno.env.get("KME_TEST_VALUE")));
  console.error("already up");
  console.error("KME " + Deno.args.join(" ") + " is ready");
  setInterval(() => {}, 1000);
`;

async function isRunning(pid: number): Promise<boolean> {
  // "kill -0" sends nothing; a process that has been waited for is not found.
  const { success } = await new Deno.Command("kill", { args: ["-0", String(pid)], stderr: "null" }).output();
  return success;
}

Deno.test("startKme resolves at the line with the word ready, and stop gives the exit code", async () => {
  await using fake = await program(OBEDIENT);
  const options = { ...fake, args: ["--more"], env: { KME_TEST_VALUE: "7" } };
  const kme = await startKme("the-config", options);
  assert.deepEqual(kme.lines, ["already up", "KME the-config --more is ready"]);
  assert.equal(await kme.waitForLine(/^already/), "already up");
  const future = kme.waitForLine(/hangup/);
  kme.signal("SIGHUP");
  assert.equal(await future, "hangup with 7");
  assert.ok(await isRunning(kme.pid));
  assert.equal(await kme.stop(), 3);
  assert.equal(kme.lines.at(-1), "stopping");
  assert.ok(!await isRunning(kme.pid));
  await kme.kill();
  await assert.rejects(kme.waitForLine(/never/), /ended with exit code 3/);
});

Deno.test("output that is discarded is read all the same", async () => {
  // More than a pipe holds, in blocking writes.
  await using fake = await program(`
    Deno.addSignalListener("SIGHUP", () => {
      const bytes = new TextEncoder().encode("a line of text\\n".repeat(100_000));
      for (let at = 0; at < bytes.length;) at += Deno.stderr.writeSync(bytes.subarray(at));
      Deno.exit(4);
    });
    console.error("ready");
    setInterval(() => {}, 1000);
  `);
  const kme = await startKme("c", { ...fake, discardOutput: true });
  kme.signal("SIGHUP");
  assert.equal((await kme.exited).code, 4);
  assert.deepEqual(kme.lines, ["ready"]);
});

Deno.test("startKme kills as a crash would", async () => {
  await using fake = await program(OBEDIENT);
  const kme = await startKme("c", fake);
  await kme.kill();
  assert.equal((await kme.exited).signal, "SIGKILL");
  assert.ok(!await isRunning(kme.pid));
});

Deno.test("startKme rejects with all output when the program ends first", async () => {
  await using fake = await program(`console.error("one"); console.log("two"); Deno.exit(2);`);
  await assert.rejects(startKme("c", fake), (error: Error) => {
    assert.match(error.message, /exit code 2/);
    assert.match(error.message, /^one$/m);
    assert.match(error.message, /^two$/m);
    return true;
  });
});

Deno.test("startKme kills a program that is not ready within the time limit", async () => {
  await using fake = await program(`console.error("pid " + Deno.pid); setInterval(() => {}, 1000);`);
  let pid = 0;
  await assert.rejects(startKme("c", { ...fake, timeout: 1500 }), (error: Error) => {
    pid = Number(/pid (\d+)/.exec(error.message)?.[1]);
    return /SIGKILL/.test(error.message);
  });
  assert.ok(pid > 0 && !await isRunning(pid));
});

Deno.test("runKme gives exit code and both outputs", async () => {
  await using fake = await program(
    `console.log(Deno.args.join()); console.error("wrong"); Deno.exit(2);`,
  );
  assert.deepEqual(await runKme(["a", "b"], fake), { code: 2, stdout: "a,b\n", stderr: "wrong\n" });
});

Deno.test({
  name: "a killed test process takes its KMEs with it",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    await using fake = await program(OBEDIENT);
    const harness = JSON.stringify(new URL("../harness/kme_process.ts", import.meta.url).href);
    await using parent = await program(`
      import { startKme } from ${harness};
      const kme = await startKme("c", { program: ${JSON.stringify(fake.program)} });
      console.error("child " + kme.pid);
      console.error("ready");
      await kme.exited;
    `);
    const process = await startKme("c", parent);
    const pid = Number((await process.waitForLine(/child/)).split(" ")[1]);
    assert.ok(await isRunning(pid));
    await process.kill();
    // The kernel's signal is under way; its output pipe ended with the parent, so there is no event to await.
    await eventually(() => isGone(pid), { what: "the child's end" });
  },
});

/** Gone, or a zombie that only its new parent can wait for (Linux). */
function isGone(pid: number): boolean {
  try {
    return /^State:\s+Z/m.test(Deno.readTextFileSync(`/proc/${pid}/status`));
  } catch {
    return true;
  }
}

Deno.test("the program itself, given a configuration that is not there, ends instead of getting ready", async () => {
  await using dir = await makeTempDir();
  const missing = `${dir.path}/missing.json5`;
  await assert.rejects(startKme(missing), (error: Error) => {
    assert.match(error.message, /exit code 2/);
    return error.message.includes(missing);
  });
  assert.equal((await runKme([missing])).code, 2);
});
