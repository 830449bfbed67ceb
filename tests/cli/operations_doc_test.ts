/**
 * The commands of docs/operations.md, run as they are written, on one host and without root: directories of the system are
 * below a directory of the test, its owner takes the place of the users, and the test that of systemd.
 */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { COMMANDS } from "../../src/cli/commands.ts";
import { runChild } from "../harness/child_process.ts";
import { databaseTest, type TestDatabaseServer } from "../harness/databases.ts";
import { commandsIn, sectionOf, writeKmeCommand } from "../harness/document_commands.ts";
import { eventually } from "../harness/eventually.ts";
import { freePorts } from "../harness/free_port.ts";
import { type KmeProcess, type KmeProgram, PROJECT_ROOT, runKme, startKme } from "../harness/kme_process.ts";
import { keyIdsOf, SaeClient } from "../harness/sae_client.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { makeTestNetwork } from "../harness/test_network.ts";

/** All commands that are not run, and why. A new one has to be looked at. Those for Windows, in blocks of their own, need Windows. */
const NOT_RUN: Readonly<Record<string, string>> = {
  "kme start CONFIG": "tests/cli/command_line_test.ts does",
  "deno run -A src/main.ts": 'the program from source, which is what "kme" is in these tests',
  "deno task compile": "downloads a runtime; tests/release/compile_test.ts builds without it",
  "deno task compile:all": "the same",
  "deno run -A scripts/compile.ts linux-x64": "the same",
  "deno run -A scripts/compile.ts linux-arm64": "the same",
  "KME_DENORT_DIR=/path/of/the/directory deno task compile:all": "the same",
  "KME_TEST_BINARY=$PWD/kme deno test -A tests/release/binary_test.ts tests/cli/first_steps_test.ts":
    "needs a compiled file; release.yml does it",
  "scripts/package.sh TARGET BINARY": "tests/release/package_test.ts does",
  "apt-get purge kme": "needs root; tests/release/package_test.ts purges the package in a directory",
  "gh attestation verify FILE --repo OWNER/REPOSITORY": "needs a release on GitHub",
  "deno task compile && docker compose up --build":
    "needs a container engine; tests/release/containers_test.ts runs the commands of compose.yaml",
  "KME_BINARY=dist/kme-linux-x64 docker compose up --build": "the same",
  "podman build --format docker --tag kme .": "the same",
  "deno task demo -- --devices": "tests/tools/ does",
  "useradd --system --home-dir /var/lib/kme --shell /usr/sbin/nologin kme":
    "needs root, and changes the system",
  "systemctl daemon-reload": "needs systemd",
  "journalctl -u kme -n 20": "needs systemd; the test reads the log itself",
};

const document = await Deno.readTextFile(join(PROJECT_ROOT, "docs/operations.md"));
const { blocks, inline } = commandsIn(document);
const commands = [...blocks.flat(), ...inline];
const tested = new Set<string>();

/** The commands of the first block of the document that has this text; all are run, but for those of `NOT_RUN`. */
function block(text: string): string[] {
  const found = blocks.find((commands) => commands.join("\n").includes(text));
  assert.ok(found, `no block has ${text}`);
  const run = found.filter((command) => !(command in NOT_RUN));
  for (const command of run) tested.add(command);
  return run;
}

/** A command in the text of the document. */
function inText(command: string): string {
  assert.ok(inline.includes(command), `the document does not say ${command}`);
  tested.add(command);
  return command;
}

const CHECKSUMS = block("sha256sum");
const NETWORK = block("cat > network.json5");
const INSTALL = block("install -m 0755 kme");
const START = block("systemctl enable");
const KEY_DIRECTORIES = block("/srv/qkd/kme-1-1");
const RESTORE = block("rm -f kme.db-wal");
const BURN = block("burn /etc/kme/kme.json5");
const BURN_LINK = block("--link THIS_KME");
const AUDIT_DIRECTORY = block("-m 0750 /var/lib/kme/audit");
const AUDIT = block("kme audit show");
const FORGET = block("kme link forget");
// In place of systemd.
inText("kme CONFIG");
const MONITORING = [
  "kme check CONFIG --peers",
  "kme status CONFIG",
  "kme health CONFIG",
  "kme health --url http://127.0.0.1:18080",
].map(inText);
const AUDIT_HEAD = inText("kme audit verify DIR --head $(printf %013x 1234567890123456)");
const ROTATION = [
  "--renew client_1",
  "--renew kme-1-local-zone/kme_server",
  "--renew inter_kmes/kme1_server",
  "--renew inter_kmes/kme1-to-kme2",
  "kme certs network.json5 --out . --renew client_1",
  "kme certs network.json5 --out . --revoke client_1",
  "kme certs network.json5 --out . --crls",
  "kme certs network.json5 --out .",
].map(inText);
const [STOP, GO, RELOAD] = ["stop", "start", "reload"].map((action) => inText(`systemctl ${action} kme`));
const MAKE_KEY = inText("umask 077; openssl rand -hex 32 > store.key");
const CHECK_CREDENTIALS = inText("CREDENTIALS_DIRECTORY=/etc/kme kme check CONFIG");
const REKEY = ["kme store rekey CONFIG", "kme store rekey CONFIG --new-key-file NEW"].map(inText);
const BURN_ALL = inText("kme burn CONFIG --yes");
const DUMP = block("pg_dump");
const LOAD = {
  postgres: inText("dropdb kme && createdb -O kme kme && pg_restore -d kme kme.dump"),
  mariadb: inText("mariadb kme < kme.sql"),
};

const binary = Deno.env.get("KME_TEST_BINARY");
const program: KmeProgram | undefined = binary ? { executable: binary } : undefined;
const linuxOnly = { ignore: Deno.build.os !== "linux" };

Deno.test("each command of docs/operations.md is run here, or there is a reason why not", () => {
  assert.deepEqual(commands.filter((command) => !tested.has(command) && !(command in NOT_RUN)), []);
  assert.deepEqual(Object.keys(NOT_RUN).filter((command) => !commands.includes(command)), []);
  assert.ok(
    document.indexOf("\n## The single binary\n") < document.indexOf("\n## Two KMEs on two hosts\n"),
    "the binary is used before it is there",
  );
  for (const { name } of COMMANDS) assert.match(document, new RegExp(`^\\| .*\`kme ${name}\\b.* \\|$`, "m"));
});

/** A host of the guide. */
class Host {
  readonly ports = freePorts(3);
  kme: KmeProcess | undefined;

  /** @param root takes the place of `/`. @param work where the commands are typed. */
  constructor(readonly id: 1 | 2, readonly root: string, readonly work: string) {}

  path(path: string): string {
    return join(this.root, path);
  }

  get config(): string {
    return this.path("etc/kme/kme.json5");
  }

  /** Runs commands as they are written; those of systemd are obeyed by the test. @returns what they print. */
  async run(commands: readonly string[]): Promise<string> {
    let [output, shell]: [string, string[]] = ["", []];
    const flush = async () => {
      if (shell.length > 0) output += await this.#shell(shell.join("\n"));
      shell = [];
    };
    for (const command of commands) {
      const action = /^systemctl (start|stop|reload|enable --now) kme$/.exec(command)?.[1];
      if (action === undefined) {
        shell.push(command);
        continue;
      }
      await flush();
      if (action === "stop") await this.stop();
      else if (action === "reload") this.kme!.signal("SIGHUP");
      else this.kme = await startKme(this.config, { cwd: this.path("var/lib/kme"), program });
    }
    await flush();
    return output;
  }

  async stop(): Promise<void> {
    const { kme } = this;
    this.kme = undefined;
    if (kme !== undefined) assert.equal(await kme.stop(), 0);
  }

  async #shell(commands: string): Promise<string> {
    const owner = [`${Deno.uid()}`, `${Deno.gid()}`];
    const script = commands
      .replaceAll(/\bCONFIG\b/g, this.config)
      .replaceAll(/(?<=[\s"'=])\/(?=(?:etc|var|srv|usr)\/)/g, `${this.root}/`)
      .replaceAll("sudo -u kme ", "")
      .replaceAll(/-o \w+ -g kme\b/g, `-o ${owner[0]} -g ${owner[1]}`)
      .replaceAll(/\b(?:root|kme):kme\b/g, owner.join(":"))
      .replaceAll("127.0.0.1:18080", `127.0.0.1:${this.ports[2]}`);
    const { code, stdout, stderr } = await runChild("bash", {
      args: ["-euc", script],
      cwd: this.work,
      env: { PATH: `${this.work}:${this.path("usr/local/bin")}:${Deno.env.get("PATH")}` },
    });
    assert.equal(code, 0, `${script}\n${stdout}${stderr}`);
    return stdout;
  }
}

/** With the ids of the KMEs swapped, as the document asks for the other host. */
function swapped(text: string): string {
  return text.replaceAll(
    /kme-?[12](?:-[12]\b|-to-kme[12])?/g,
    (name) => name.replaceAll(/[12]/g, (digit) => digit === "1" ? "2" : "1"),
  );
}

/** The files that the table sends to a host, as pairs of source and target. A name without a directory is in that of the one before it. */
function filesFor(host: string): [string, string][] {
  const section = sectionOf(document, "Two KMEs on two hosts");
  const row = section.split("\n").find((line) => line.startsWith(`| \`/etc/kme\` on ${host} |`))!;
  let directory = "";
  return [...row.split("|")[2]!.matchAll(/`([^`]+)`(?: as `([^`]+)`)?/g)].map(([, name, as]) => {
    if (name!.includes("/")) directory = name!.slice(0, name!.lastIndexOf("/") + 1);
    const path = name!.includes("/") ? name! : directory + name;
    return [path, as ?? path];
  });
}

Deno.test(
  "the commands for two hosts lead from the binary to keys, and through what may happen to them",
  linuxOnly,
  async (t) => {
    await using temp = await makeTempDir("kme-operations-");
    const work = join(temp.path, "work");
    const hosts = ([1, 2] as const).map((id) => new Host(id, join(temp.path, `host${id}`), work));
    const [one, two] = hosts as [Host, Host];
    for (const path of ["usr/local/bin", "etc/kme", "etc/systemd/system", "var/lib", "srv"]) {
      for (const host of hosts) await Deno.mkdir(host.path(path), { recursive: true });
    }
    await Deno.mkdir(work);
    await writeKmeCommand(work, program);
    await Deno.copyFile(join(PROJECT_ROOT, "docs/kme.service"), join(work, "kme.service"));
    await using _kmes = {
      [Symbol.asyncDispose]: async () => void await Promise.all(hosts.map(({ kme }) => kme?.kill())),
    };

    await t.step("the checksums of a release", async () => {
      const { stdout } = await runChild("sha256sum", { args: ["kme"], cwd: work });
      await Deno.writeTextFile(
        join(work, "SHA256SUMS"),
        `${stdout}${"0".repeat(64)}  kme-of-another-platform\n`,
      );
      assert.equal(await one.run(CHECKSUMS), "kme: OK\n");
    });

    await t.step("certificates, files and directories of both hosts", async () => {
      // Both are this host, with ports of their own.
      const parts = NETWORK.join("\n").split(/(?=nickname: "Bob")/);
      assert.equal(parts.length, 2);
      const here = parts.map((part, i) =>
        part.replaceAll(/"kme\d\.example", "192[.\d]+"/g, '"127.0.0.1", "localhost"')
          .replace("port: 13000", `port: ${hosts[i]!.ports[0]}`)
          .replace("port: 13001", `port: ${hosts[i]!.ports[1]}`)
          .replace("127.0.0.1:18080", `127.0.0.1:${hosts[i]!.ports[2]}`)
      );
      await one.run([here.join("")]);
      for (const host of hosts) {
        for (const [from, to] of filesFor("kme1.example")) {
          const [source, target] = host === one ? [from, to] : [swapped(from), swapped(to)];
          await Deno.mkdir(dirname(host.path(`etc/kme/${target}`)), { recursive: true });
          await Deno.copyFile(join(work, source), host.path(`etc/kme/${target}`));
        }
        await host.run(INSTALL);
        await host.run(host === one ? KEY_DIRECTORIES : KEY_DIRECTORIES.map(swapped));
        await host.run(AUDIT_DIRECTORY);
        // What the text says to name in kme.json5.
        const audit = /^audit_log: \{ directory: ".*$/m.exec(document)![0];
        const text = (await Deno.readTextFile(host.config))
          .replace(/db_uri: "[^"]*"/, `db_uri: "sqlite:///var/lib/kme/kme.db"`)
          .replaceAll(/key_directory_to_watch: "[^"]*(kme-\d-\d)"/g, `key_directory_to_watch: "/srv/qkd/$1"`)
          .replace("this_kme: {", `this_kme: {\n    ${audit},`)
          .replaceAll(/\/(?=(?:var|srv)\/)/g, `${host.root}/`);
        await Deno.writeTextFile(host.config, text);
      }
      assert.ok((await Deno.stat(one.path("etc/systemd/system/kme.service"))).isFile);
      assert.equal((await Deno.stat(one.path("srv/qkd/kme-1-2"))).mode! & 0o7777, 0o2770);
    });

    const directories = [one.path("srv/qkd/kme-1-2"), two.path("srv/qkd/kme-2-1")];
    const keyFiles = async (directories: string[], blocks: string) => {
      const { code, stderr } = await runKme(["keys", ...directories, "--blocks", blocks], { program });
      assert.equal(code, 0, stderr);
    };
    const status = async (host: Host) => await host.run(["kme status CONFIG --json"]);

    await t.step("the start of both", async () => {
      await two.run([GO!]);
      const output = await one.run(START);
      // Before the start, and with the other KME.
      assert.equal(output.match(/\b0 failed$/gm)?.length, 2, output);
      assert.match(output, /^KME 1\b/m);
      const [peers, , health, healthByUrl] = await Promise.all(
        MONITORING.map((command) => one.run([command])),
      );
      assert.match(peers!, /\b0 failed$/m);
      assert.deepEqual([health, healthByUrl], ["ready\n", "ready\n"]);
    });

    await t.step("a key, and its record in the audit log", async () => {
      await keyFiles(directories, "20");
      const sae = (id: number, host: Host) => {
        const read = (name: string) => Deno.readTextFileSync(join(work, `kme-${host.id}-local-zone/${name}`));
        const [cert, key, ca] = [`client_${id}.crt`, `client_${id}.key`, "ca.crt"].map(read);
        return new SaeClient({ port: host.ports[0]!, cert, key, ca: ca! });
      };
      using alice = sae(1, one);
      using bob = sae(3, two);
      await eventually(async () => (await alice.status(3)).json.stored_key_count === 20);
      const ids = keyIdsOf(await alice.encKeys(3));
      assert.equal((await bob.decKeys(1, ids)).status, 200);
      const written = "1bb5ec9b-2f0e-5b58-8c5f-8a4a8a6e9f0c";
      const output = await one.run(AUDIT.map((command) => command.replace(written, ids[0]!)));
      assert.ok(output.includes(ids[0]!), output);
      const metrics = await (await fetch(`http://127.0.0.1:${one.ports[2]}/metrics`)).text();
      const head = /^kme_audit_head(?:\{.*\})? (\S+)$/m.exec(metrics)![1]!;
      await one.run([
        AUDIT_HEAD.replace("DIR", one.path("var/lib/kme/audit")).replace(
          "1234567890123456",
          `${BigInt(Number(head))}`,
        ),
      ]);
    });

    await t.step("a key file that one end will never get", async () => {
      await Deno.writeFile(
        one.path("srv/qkd/kme-1-2/alice-0001.cor"),
        crypto.getRandomValues(new Uint8Array(40 * 32)),
      );
      await eventually(async () => JSON.parse(await status(one)).links[1].unmatched === 40, {
        timeout: 60_000,
      });
      assert.match(await one.run(FORGET), /\b40 blocks/);
      await eventually(async () => JSON.parse(await status(one)).links[1].unmatched === 0, {
        timeout: 60_000,
      });
    });

    await t.step("rotation of certificates", async () => {
      const whole = (command: string) =>
        command.startsWith("--") ? `kme certs network.json5 --out . ${command}` : command;
      await one.run(ROTATION.map(whole));
      await one.run([RELOAD!]);
      await one.kme!.waitForLine(/was reloaded/);
    });

    await t.step("the master key of the stored keys", async () => {
      await one.run([STOP!, MAKE_KEY, CHECK_CREDENTIALS, REKEY[0]!]);
      const key = join(work, "store.key");
      await one.run([REKEY[1]!.replace("NEW", key)]);
      await Deno.copyFile(key, one.path("etc/kme/store_kme1.key"));
      await one.run([GO!, STOP!]);
    });

    await t.step("restoring a backup", async () => {
      const backup = join(temp.path, "backup");
      await Deno.mkdir(backup);
      await Deno.copyFile(one.path("var/lib/kme/kme.db"), join(backup, "kme.db"));
      await one.run([GO!, STOP!]);
      await one.run(RESTORE.map((command) => command.replace("/path/of/the/backup", backup)));
      await assert.rejects(one.run([GO!]), /the database is older than it was/);
      await one.run(BURN);
      await two.run([STOP!, ...BURN_LINK.map((command) => command.replace("THIS_KME", "1")), GO!]);
      await one.run([GO!]);
      await keyFiles(directories, "5");
      await eventually(async () => JSON.parse(await status(one)).links[1].free === 5, { timeout: 60_000 });
    });

    await t.step("a master key that is lost", async () => {
      await one.run([STOP!]);
      await Deno.remove(one.path("etc/kme/store_kme1.key"));
      await one.run([BURN_ALL]);
    });
    for (const host of hosts) await host.stop();
  },
);

/** What the clients of a server are told by their environment. */
async function clientEnvironment(
  { kind, port, administer }: TestDatabaseServer,
  uri: string,
  home: string,
): Promise<Record<string, string>> {
  const { username, password } = new URL(uri);
  if (kind === "postgres") {
    await administer([`ALTER ROLE ${username} CREATEDB`]);
    const bin = (await Array.fromAsync(Deno.readDir("/usr/lib/postgresql"))).map(({ name }) =>
      `/usr/lib/postgresql/${name}/bin`
    );
    return {
      PGHOST: "127.0.0.1",
      PGPORT: `${port}`,
      PGUSER: username,
      PGPASSWORD: decodeURIComponent(password),
      PATH: `${bin.join(":")}:${Deno.env.get("PATH")}`,
    };
  }
  const lines = [
    "[client]",
    "host=127.0.0.1",
    `port=${port}`,
    `user=${username}`,
    `password="${decodeURIComponent(password)}"`,
  ];
  await Deno.writeTextFile(join(home, ".my.cnf"), lines.join("\n"), { mode: 0o600 });
  return { HOME: home };
}

for (const kind of ["postgres", "mariadb"] as const) {
  databaseTest(
    kind,
    "a dump that is made and restored by the commands of docs/operations.md is noticed, and can be burnt",
    async (_uri, server) => {
      await using temp = await makeTempDir("kme-dump-");
      const uri = await server.createDatabase("kme");
      const env = await clientEnvironment(server, uri, temp.path);
      const run = async (...commands: string[]) => {
        const { code, stderr } = await runChild("bash", {
          args: ["-euc", commands.join("\n")],
          cwd: temp.path,
          env,
        });
        assert.equal(code, 0, `${commands.join("\n")}\n${stderr}`);
      };
      await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1, 2], database: uri }] });
      const startAndStop = async () => assert.equal(await (await network.start(1)).stop(), 0);
      await startAndStop();
      const dump = DUMP.find((command) =>
        command.startsWith(kind === "postgres" ? "pg_dump " : "mariadb-dump ")
      )!;
      await run("umask 077", dump);
      const [file] = (await Array.fromAsync(Deno.readDir(temp.path))).filter(({ name }) =>
        /^kme\./.test(name)
      );
      assert.equal((await Deno.stat(join(temp.path, file!.name))).mode! & 0o077, 0);
      await startAndStop();

      if (kind === "mariadb") {
        await server.dropDatabase(uri);
        await server.createDatabase("kme");
      }
      await run(LOAD[kind]);
      await assert.rejects(network.start(1), /the database is older than it was/);
      const { code, stderr } = await runKme(["burn", network.kme(1).configPath, "--yes"], { program });
      assert.equal(code, 0, stderr);
      await startAndStop();
    },
    { ownServer: true },
  );
}
