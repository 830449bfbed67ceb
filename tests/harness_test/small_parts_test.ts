import assert from "node:assert/strict";
import { eventually } from "../harness/eventually.ts";
import { freePort, freePorts } from "../harness/free_port.ts";
import { makeTempDir } from "../harness/temp_dir.ts";

Deno.test("freePorts are distinct, over calls too, and can be listened on", () => {
  const ports = [...freePorts(50), ...freePorts(50), freePort()];
  assert.equal(new Set(ports).size, 101);
  for (const port of ports) Deno.listen({ hostname: "127.0.0.1", port }).close();
});

Deno.test("freePorts gives other test files other ports, as long as this one runs", async () => {
  const module = JSON.stringify(new URL("../harness/free_port.ts", import.meta.url).href);
  const own = new Set(freePorts(64));
  const ports = (count: number) => {
    const source = `import { freePorts } from ${module};
      self.postMessage(freePorts(${count}));`;
    const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    const worker = new Worker(url, { type: "module" });
    const answer = new Promise<number[]>((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = ({ message }) => reject(new Error(message));
    });
    return answer.then((given) => ({ given, end: () => worker.terminate() }));
  };
  // A third of all ports: ports that are not kept apart would meet.
  const files = await Promise.all(Array.from({ length: 4 }, () => ports(2000)));
  const all = files.flatMap(({ given }) => given);
  for (const file of files) file.end();
  assert.equal(new Set(all).size, 8000);
  assert.ok(all.every((port) => !own.has(port)));
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

Deno.test("eventually returns the result, or the last error after the time limit", async () => {
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
