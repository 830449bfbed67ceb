import assert from "node:assert/strict";
import { eventually } from "../harness/eventually.ts";
import { freePort, freePorts } from "../harness/free_port.ts";
import { makeTempDir } from "../harness/temp_dir.ts";

Deno.test("freePorts are distinct, over calls too, and can be listened on", () => {
  const ports = [...freePorts(50), ...freePorts(50), freePort()];
  assert.equal(new Set(ports).size, 101);
  for (const port of ports) Deno.listen({ hostname: "127.0.0.1", port }).close();
});

Deno.test("makeTempDir makes a fresh directory and removes it with all in it", async () => {
  const [dir, other] = [await makeTempDir(), await makeTempDir()];
  assert.notEqual(dir.path, other.path);
  await Deno.mkdir(`${dir.path}/a/b`, { recursive: true });
  await dir.remove();
  await dir.remove();
  await assert.rejects(Deno.stat(dir.path), Deno.errors.NotFound);
  await other.remove();
});

Deno.test("eventually gives what it waited for, or the last error when it does not come", async () => {
  let looks = 0;
  const look = () => {
    if (++looks < 3) throw new Error("not yet");
    return looks;
  };
  assert.equal(await eventually(look, { interval: 1 }), 3);
  const never = eventually(() => Promise.reject(new Error("the last")), {
    timeout: 5,
    interval: 1,
    what: "it",
  });
  await assert.rejects(never, (error: Error) => {
    assert.match(error.message, /^it did not come within 5 ms$/);
    return (error.cause as Error).message === "the last";
  });
});
