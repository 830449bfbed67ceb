/** A Python for tests of clients written in it. */
import assert from "node:assert/strict";
import { findProgram, runChild } from "./child_process.ts";
import { PROJECT_ROOT } from "./kme_process.ts";
import type { TestNetwork } from "./test_network.ts";

/** The first Python that has a module: that of `.ci/run`, then those of the system. */
export async function pythonWith(module: string): Promise<string | undefined> {
  const candidates = [`${PROJECT_ROOT}tmp/python/bin/python3`, findProgram("python3"), "/usr/bin/python3"];
  for (const python of candidates) {
    if (
      python === undefined || findProgram("python3", [python.slice(0, python.lastIndexOf("/"))]) !== python
    ) {
      continue;
    }
    const { code } = await runChild(python, { args: ["-c", `import ${module}`] });
    if (code === 0) return python;
  }
  return undefined;
}

/**
 * Writes the files of SAEs 1 and 3, and runs a script with their directory and the ports of KME 1 and 2.
 *
 * @returns the lines that it printed.
 */
export async function runAsSaes(
  python: string,
  network: TestNetwork,
  script: string,
  port: "saesPort" | "skipPort",
): Promise<string[]> {
  for (const sae of [1, 3]) {
    const { ca, cert, key } = network.sae(sae);
    await Deno.writeTextFile(`${network.directory}/${sae}-ca.pem`, ca);
    await Deno.writeTextFile(`${network.directory}/${sae}-cert.pem`, cert);
    await Deno.writeTextFile(`${network.directory}/${sae}-key.pem`, key, { mode: 0o600 });
  }
  const ports = [1, 2].map((kme) => String(network.kme(kme)[port]));
  const { code, stdout, stderr } = await runChild(python, {
    args: ["-c", script, network.directory, ...ports],
  });
  assert.equal(code, 0, stderr);
  return stdout.trimEnd().split("\n");
}
