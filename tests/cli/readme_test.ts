/** The commands of README.md, run as they are written, but with ports that are free. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { findProgram, type Output, runChild } from "../harness/child_process.ts";
import { sectionOf, shellBlocks, writeKmeCommand } from "../harness/document_commands.ts";
import { freePorts } from "../harness/free_port.ts";
import { testWith } from "../harness/installed.ts";
import { type KmeProgram, PROJECT_ROOT, startKme } from "../harness/kme_process.ts";
import { makeTempDir } from "../harness/temp_dir.ts";

const binary = Deno.env.get("KME_TEST_BINARY");
const program: KmeProgram | undefined = binary ? { executable: binary } : undefined;

const readme = await Deno.readTextFile(join(PROJECT_ROOT, "README.md"));
const curl = Deno.build.os === "windows" ? undefined : findProgram("curl");

/** The ports of certs/network.json5. */
const PORTS = ["13000", "13001", "18080", "14000", "14001", "18081"];

testWith(
  curl,
  "curl is not installed",
  "the six commands of README.md lead to a key at both SAEs",
  async () => {
    const section = sectionOf(readme, "Your own network in six commands");
    const [network, fetch, ...more] = shellBlocks(section);
    assert.deepEqual(more, []);
    const commands = network!.replaceAll("\\\n", "").trimEnd().split("\n");
    assert.equal(commands.length, 6);
    assert.match(section, /`kill %1 %2` stops the KMEs/);

    await using temp = await makeTempDir("kme-readme-");
    const bin = join(temp.path, "bin");
    await Deno.mkdir(bin);
    await writeKmeCommand(bin, program);
    const ports = freePorts(PORTS.length);
    const onFreePorts = (text: string) =>
      PORTS.reduce(
        (text, port, i) => text.replaceAll(new RegExp(`(?<=: ?)${port}\\b`, "g"), `${ports[i]}`),
        text,
      );
    // What a clone has, and the commands need.
    await Deno.mkdir(join(temp.path, "certs"));
    const sample = await Deno.readTextFile(join(PROJECT_ROOT, "certs/network.json5"));
    await Deno.writeTextFile(join(temp.path, "certs/network.json5"), onFreePorts(sample));

    const run = async (command: string, env: Record<string, string> = {}): Promise<Output> => {
      const output = await runChild("bash", {
        args: ["-euc", onFreePorts(command)],
        cwd: temp.path,
        env: { ...env, PATH: `${bin}:${Deno.env.get("PATH")}` },
      });
      assert.equal(output.code, 0, `${command}\n${output.stdout}${output.stderr}`);
      return output;
    };
    // In the last line: as long as no key file is ingested, curl prints the error and tries again.
    const keyIn = ({ stdout }: Output): { key_ID: string; key: string } =>
      JSON.parse(stdout.trimEnd().split("\n").at(-1)!).keys[0];

    await using kmes = new AsyncDisposableStack();
    const stop: (() => Promise<number>)[] = [];
    let last: Output | undefined;
    for (const command of commands) {
      const config = /^kme start (\S+) &$/.exec(command)?.[1];
      if (config === undefined) {
        last = await run(command);
        continue;
      }
      const kme = kmes.use(await startKme(config, { cwd: temp.path, program }));
      stop.push(kme.stop);
    }
    assert.equal(stop.length, 2);
    const sent = keyIn(last!);
    const received = keyIn(await run(fetch!, { KEY_ID: sent.key_ID }));
    assert.ok(received.key === sent.key, "the two SAEs got different keys");

    // The other commands that the text names, with the configuration that was made.
    const named = [...readme.matchAll(/`(kme (?:check|status|help|completion)(?: [^`]+)?)`/g)];
    const others = [...new Set(named.map(([, command]) => command!))];
    assert.deepEqual(others, [
      "kme check CONFIG --peers",
      "kme status CONFIG",
      "kme status --url http://127.0.0.1:18080",
      "kme help",
      "kme help COMMAND",
      "kme help --man",
      "kme completion bash",
    ]);
    for (const command of others) {
      await run(command.replace("CONFIG", "my_certs/config_kme1.json5").replace("COMMAND", "certs"));
    }
    assert.deepEqual(await Promise.all(stop.map((stop) => stop())), [0, 0]);
  },
);

Deno.test("the documents name one version of Deno", async () => {
  const texts = await Promise.all(
    ["CONTRIBUTING.md", "docs/operations.md"].map((name) => Deno.readTextFile(join(PROJECT_ROOT, name))),
  );
  const versions = [readme, ...texts].flatMap((text) => text.match(/(?<=\bdeno[@ ])\d+\.\d+\.\d+/gi) ?? []);
  assert.equal(new Set(versions).size, 1, versions.join(", "));
});

testWith(
  findProgram("git"),
  "git is not installed",
  "git ignores what the commands of the documents make in a clone",
  async (git) => {
    await using temp = await makeTempDir();
    const run = (...args: string[]) => runChild(git, { args, cwd: temp.path });
    assert.equal((await run("init", "--quiet")).code, 0);
    await Deno.copyFile(join(PROJECT_ROOT, ".gitignore"), join(temp.path, ".gitignore"));
    const made = [
      "my_network.json5",
      "my_certs/kme-1-local-zone/ca.key",
      "compose_certs/kme-1-local-zone/ca.key",
      "kme1.local.json5",
      "raw_keys/kme-1-2/a.cor",
      "dist/kme-linux-x64",
      "kme",
    ];
    const { stdout } = await run("check-ignore", ...made);
    assert.deepEqual(stdout.trimEnd().split("\n"), made);
  },
);
