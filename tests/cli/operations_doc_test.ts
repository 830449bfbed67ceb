/** The commands of docs/operations.md, "Two KMEs on two hosts", run as they are written, as far as one host without root can. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { runChild } from "../harness/child_process.ts";
import { sectionOf, shellBlocks, writeKmeCommand } from "../harness/document_commands.ts";
import { freePorts } from "../harness/free_port.ts";
import { type KmeProgram, PROJECT_ROOT, startKme } from "../harness/kme_process.ts";
import { makeTempDir } from "../harness/temp_dir.ts";

/** Commands that need root, systemd or the other host. */
const NOT_HERE = /^(?:useradd|chown|systemctl) |^install .*-o | --peers\b/;

/** All commands that are not run; a new one has to be looked at. */
const NOT_RUN = [
  "useradd --system --home-dir /var/lib/kme --shell /usr/sbin/nologin kme",
  "chown -R root:kme /etc/kme && chmod -R u=rwX,g=rX,o= /etc/kme",
  "install -d -o kme -g kme -m 0750 /var/lib/kme",
  "systemctl daemon-reload",
  "systemctl enable --now kme",
  "sudo -u kme kme check /etc/kme/kme.json5 --peers",
];

const binary = Deno.env.get("KME_TEST_BINARY");
const program: KmeProgram | undefined = binary ? { executable: binary } : undefined;

const document = await Deno.readTextFile(join(PROJECT_ROOT, "docs/operations.md"));
const section = sectionOf(document, "Two KMEs on two hosts");
const blocks = shellBlocks(section);

const withoutComment = (line: string) => line.replace(/\s+#.*$/, "");
const lines = blocks.map((block) => block.trimEnd().split("\n"));

/** The files that the table sends to a host, as pairs of source and target. A name without a directory is in that of the one before it. */
function filesFor(host: string): [string, string][] {
  const row = section.split("\n").find((line) => line.startsWith(`| \`/etc/kme\` on ${host} |`))!;
  let directory = "";
  return [...row.split("|")[2]!.matchAll(/`([^`]+)`(?: as `([^`]+)`)?/g)].map(([, name, as]) => {
    if (name!.includes("/")) directory = name!.slice(0, name!.lastIndexOf("/") + 1);
    const path = name!.includes("/") ? name! : directory + name;
    return [path, as ?? path];
  });
}

Deno.test("docs/operations.md runs as written, except for what needs root, systemd or another host", () => {
  assert.ok(
    document.indexOf("\n## The single binary\n") < document.indexOf("\n## Two KMEs on two hosts\n"),
    "the binary is used before it is there",
  );
  assert.deepEqual(lines.flat().filter((line) => NOT_HERE.test(line)).map(withoutComment), NOT_RUN);
});

Deno.test({
  name: "the commands for two hosts lead to a KME that is ready",
  ignore: Deno.build.os === "windows",
  fn: async () => {
    await using temp = await makeTempDir("kme-operations-");
    const root = temp.path;
    for (
      const path of [
        "work",
        "usr/local/bin",
        "etc/kme",
        "var/lib/kme",
        "etc/systemd/system",
        "srv/qkd/kme-1-1",
        "srv/qkd/kme-1-2",
      ]
    ) {
      await Deno.mkdir(join(root, path), { recursive: true });
    }
    await writeKmeCommand(join(root, "work"), program);
    await Deno.copyFile(join(PROJECT_ROOT, "docs/kme.service"), join(root, "work/kme.service"));
    const ports = freePorts(3);

    /** The commands that can run here, with directories of the system below `root` and ports that are free. */
    const run = async (block: readonly string[]) => {
      const script = block.filter((line) => !NOT_HERE.test(line)).join("\n")
        .replaceAll(/(?<=[\s"'])\/(?=(?:etc|var|srv|usr)\/)/g, `${root}/`)
        .replaceAll("sudo -u kme ", "")
        .replaceAll("port: 13000", `port: ${ports[0]}`)
        .replaceAll("port: 13001", `port: ${ports[1]}`)
        .replaceAll("127.0.0.1:18080", `127.0.0.1:${ports[2]}`);
      const PATH = `${root}/work:${root}/usr/local/bin:${Deno.env.get("PATH")}`;
      const output = await runChild("bash", {
        args: ["-euc", script],
        cwd: join(root, "work"),
        env: { PATH },
      });
      assert.equal(output.code, 0, `${script}\n${output.stdout}${output.stderr}`);
      return output.stdout;
    };
    assert.equal(blocks.length, 3);
    const [network, install, start] = lines as [string[], string[], string[]];

    await run(network);
    for (const [from, to] of filesFor("kme1.example")) {
      await Deno.mkdir(join(root, "etc/kme", to, ".."), { recursive: true });
      await Deno.copyFile(join(root, "work", from), join(root, "etc/kme", to));
    }
    await run(install);

    // What the text says to change in kme.json5.
    const config = join(root, "etc/kme/kme.json5");
    const text = (await Deno.readTextFile(config))
      .replace(/db_uri: "[^"]*"/, `db_uri: "sqlite://${root}/var/lib/kme/kme.db"`)
      .replaceAll(
        /key_directory_to_watch: "[^"]*(kme-1-\d)"/g,
        `key_directory_to_watch: "${root}/srv/qkd/$1"`,
      );
    await Deno.writeTextFile(config, text);

    // systemctl starts it between the check and the status.
    const status = start.findIndex((line) => line.startsWith("kme status "));
    assert.match(await run(start.slice(0, status)), /\b0 failed$/m);
    await using kme = await startKme(config, { cwd: join(root, "var/lib/kme"), program });
    assert.match(await run(start.slice(status)), /KME 1\b/);
    assert.equal(await kme.stop(), 0);
  },
});
