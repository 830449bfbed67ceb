/** "Your own network in six commands" of README.md, run as written, but with ports that are free. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { findProgram, runChild } from "../harness/child_process.ts";
import { freePorts } from "../harness/free_port.ts";
import { testWith } from "../harness/installed.ts";
import { PROJECT_ROOT } from "../harness/kme_process.ts";
import { makeTempDir } from "../harness/temp_dir.ts";

const curl = Deno.build.os === "windows" ? undefined : findProgram("curl");

testWith(
  curl,
  "curl is missing",
  "six commands of README.md lead from a clone to a key at both SAEs",
  async () => {
    const readme = await Deno.readTextFile(join(PROJECT_ROOT, "README.md"));
    const section = readme.split("\n## Your own network in six commands\n")[1]!.split("\n## ")[0]!;
    const [commands, fetch, ...more] = [...section.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, block]) =>
      block!
    );
    assert.deepEqual(more, []);
    assert.equal(commands!.replaceAll("\\\n", "").trim().split("\n").length, 6);
    assert.ok(section.includes("`kill %1 %2`"));

    await using temp = await makeTempDir("kme-readme-");
    const ports = freePorts(6);
    const names = ["13000", "13001", "18080", "14000", "14001", "18081"];
    const onFreePorts = (text: string) =>
      text.replaceAll(/(?<=:\s?)1[348]0[08][01]\b/g, (port) => String(ports[names.indexOf(port)]));
    await Deno.mkdir(join(temp.path, "certs"));
    const network = await Deno.readTextFile(join(PROJECT_ROOT, "certs/network.json5"));
    await Deno.writeTextFile(join(temp.path, "certs/network.json5"), onFreePorts(network));

    const program = Deno.env.get("KME_TEST_BINARY") ??
      `${Deno.execPath()}' run -A --config '${PROJECT_ROOT}deno.json' '${PROJECT_ROOT}src/main.ts`;
    // The KMEs are stopped however it ends; the output ends when they have. Jobs are numbered as in a terminal by -m.
    const script = `
kme() { '${program}' "$@"; }
trap 'kill %1 %2; wait' EXIT
{ ${onFreePorts(commands!)} } >first
cat first
KEY_ID=$(sed -n 's/.*"key_ID":"\\([^"]*\\)".*/\\1/p' first)
${onFreePorts(fetch!)}`;
    const { code, stdout, stderr } = await runChild("bash", { args: ["-emc", script], cwd: temp.path });
    assert.equal(code, 0, stderr);
    const keys = [...stdout.matchAll(/\{"keys":\[\{"key_ID":"[0-9a-f-]{36}","key":"[^"]{44}"\}\]\}/g)].map((
      [text],
    ) => text);
    assert.equal(keys.length, 2, stderr);
    assert.ok(keys[0] === keys[1], "the two SAEs got different keys");
  },
);
