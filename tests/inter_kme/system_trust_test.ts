import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";

const child = fileURLToPath(new URL("./system_trust_child.ts", import.meta.url));

async function run(trusted: "ours" | "other"): Promise<unknown> {
  const directory = await Deno.makeTempDir();
  try {
    const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--allow-all", "--no-check", child, directory, trusted],
      stderr: "piped",
    }).output();
    assert.ok(success, new TextDecoder().decode(stderr));
    return JSON.parse(new TextDecoder().decode(stdout));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

// Elsewhere the trust store is not a file that a test could choose.
Deno.test({
  name: "without a CA of its own a peer is verified against the system's trust store, an https: proxy always",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    assert.deepEqual(await run("ours"), { kinds: ["answer", "answer", "answer"], tunnels: 1 });
    assert.deepEqual(await run("other"), { kinds: ["unreached", "unreached", "unreached"], tunnels: 0 });
  },
});
