/** The commands of docs/sae-quickstart.md, run as they are written, but with ports that are free. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { runChild } from "../harness/child_process.ts";
import { shellBlocks, writeKmeCommand } from "../harness/document_commands.ts";
import { freePorts } from "../harness/free_port.ts";
import { testWith } from "../harness/installed.ts";
import { PROJECT_ROOT, startKme } from "../harness/kme_process.ts";
import { pythonWith } from "../harness/python.ts";
import { makeTempDir } from "../harness/temp_dir.ts";

/** The ports of certs/network.json5. */
const PORTS = ["13000", "13001", "18080", "14000", "14001", "18081"];

testWith(
  Deno.build.os === "windows" ? undefined : await pythonWith("requests"),
  "no Python with the package requests",
  "docs/sae-quickstart.md leads from nothing to a key in a program",
  async (python) => {
    const document = await Deno.readTextFile(join(PROJECT_ROOT, "docs/sae-quickstart.md"));
    const commands = shellBlocks(document).join("").split("\n");
    const configs = commands.flatMap((command) => /^kme start (\S+) &$/.exec(command)?.[1] ?? []);
    const begin = commands.findIndex((command) => command.startsWith("kme start "));
    assert.equal(configs.length, 2);

    await using temp = await makeTempDir("kme-quickstart-");
    const bin = join(temp.path, "bin");
    for (const name of ["bin", "certs", "examples/python"]) {
      await Deno.mkdir(join(temp.path, name), { recursive: true });
    }
    await writeKmeCommand(bin);
    await Deno.writeTextFile(join(bin, "python3"), `#!/bin/sh\nexec '${python}' "$@"\n`, { mode: 0o755 });
    await Deno.copyFile(
      join(PROJECT_ROOT, "examples/python/sae.py"),
      join(temp.path, "examples/python/sae.py"),
    );
    const ports = freePorts(PORTS.length);
    const onFreePorts = (text: string) =>
      PORTS.reduce(
        (text, port, i) => text.replaceAll(new RegExp(`(?<=: ?)${port}\\b`, "g"), `${ports[i]}`),
        text,
      );
    const sample = await Deno.readTextFile(join(PROJECT_ROOT, "certs/network.json5"));
    await Deno.writeTextFile(join(temp.path, "certs/network.json5"), onFreePorts(sample));
    const run = async (lines: string[]) => {
      const output = await runChild("bash", {
        args: ["-euo", "pipefail", "-c", onFreePorts(lines.join("\n"))],
        cwd: temp.path,
        env: { PATH: `${bin}:${Deno.env.get("PATH")}` },
      });
      assert.equal(output.code, 0, output.stderr);
      return output;
    };

    await run(commands.slice(0, begin));
    await using kmes = new AsyncDisposableStack();
    for (const config of configs) kmes.use(await startKme(config, { cwd: temp.path }));
    const { stdout, stderr } = await run(commands.slice(begin + configs.length));
    assert.match(stdout, /"stored_key_count": [1-9]/);
    const [got, fetched] = [...stdout.matchAll(/"key_ID": "(.*)",\n *"size": 256,\n *"sha256": "(.*)"/g)];
    assert.deepEqual([fetched![1], fetched![2]], [got![1], got![2]]);
    assert.match(stdout, /^the same key$/m);
    assert.match(stdout, /^\{"keys":\[\{"key_ID":"[^"]+","key":"[^"]+"\}\]\}$/m);
    const [first, second] = [...stderr.matchAll(/^fingerprint (\w{16})$/gm)];
    assert.equal(second![1], first![1]);
  },
);
