/** What all commands have in common, through the command line. */
import assert from "node:assert/strict";
import { COMMANDS } from "../../src/cli/commands.ts";
import { findProgram, runChild } from "../harness/child_process.ts";
import { eventually } from "../harness/eventually.ts";
import { freePort } from "../harness/free_port.ts";
import { testWith } from "../harness/installed.ts";
import { PROJECT_ROOT, runKme } from "../harness/kme_process.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { makeTestNetwork } from "../harness/test_network.ts";

const NAMES = COMMANDS.map(({ name }) => name);

Deno.test("help lists all commands, and each has a help text of its own", async () => {
  const help = await runKme(["help"]);
  assert.equal(help.code, 0);
  assert.match(help.stdout, /^Usage: kme COMMAND/);
  for (const flag of ["--help", "-h"]) assert.deepEqual(await runKme([flag]), help);
  for (const command of NAMES) {
    assert.match(help.stdout, new RegExp(`^  ${command} `, "m"));
    const own = await runKme(["help", command]);
    assert.equal(own.code, 0);
    assert.match(own.stdout, new RegExp(`^Usage: kme ${command}`));
    assert.deepEqual(await runKme([command, "--help"]), own);
  }
});

Deno.test("version", async () => {
  const version = await runKme(["version"]);
  assert.equal(version.code, 0);
  assert.match(version.stdout, /^kme \d+\.\d+\.\d+\n$/);
  for (const flag of ["--version", "-V"]) assert.deepEqual(await runKme([flag]), version);
});

Deno.test("help and version load descriptions of commands, but nothing that a command works with", async () => {
  interface Dependency {
    readonly code?: { readonly specifier: string };
    readonly isDynamic?: boolean;
  }
  const { code, stdout } = await runChild(Deno.execPath(), {
    args: ["info", "--json", "src/main.ts"],
    cwd: PROJECT_ROOT,
  });
  assert.equal(code, 0);
  const graph = JSON.parse(stdout) as {
    roots: [string];
    modules: { specifier: string; dependencies?: Dependency[] }[];
  };
  const modules = new Map(graph.modules.map((module) => [module.specifier, module]));
  const loaded = new Set(graph.roots);
  for (const specifier of loaded) {
    for (const { code, isDynamic } of modules.get(specifier)?.dependencies ?? []) {
      if (!isDynamic && code !== undefined) loaded.add(code.specifier);
    }
  }
  const names = [...loaded].map((name) => name.replace(/^.*\/src\//, ""));
  assert.ok(names.includes("cli/version_command.ts"));
  // Modules of Node.js that take no time to load, and small ones of the program.
  assert.deepEqual(
    names.filter((name) =>
      !/^(?:main|version|platform)\.ts$|^(?:cli|domain)\/|^log\/log_settings\.ts$/.test(name)
    ).sort(),
    ["node:os", "node:path", "node:util"],
  );
});

Deno.test("a usage error is one line and the usage line, with exit code 2", async () => {
  for (
    const [args, message, usage] of [
      [[], /^kme: a command or a configuration file is missing$/, /^Usage: kme COMMAND/],
      [["--frob"], /^kme: unknown option --frob$/, /^Usage: kme COMMAND/],
      [["--hlep"], /^kme: unknown option --hlep; did you mean --help\?$/, /^Usage: kme COMMAND/],
      [["--verion"], /^kme: unknown option --verion; did you mean --version\?$/, /^Usage: kme COMMAND/],
      [
        ["chekc", "a.json5"],
        /^kme: chekc is neither a command nor a file; did you mean "kme check"\?$/,
        /^Usage: kme COMMAND/,
      ],
      [
        ["strat"],
        /^kme: strat is neither a command nor a file; did you mean "kme start"\?$/,
        /^Usage: kme COMMAND/,
      ],
      [["xyzzy"], /^kme: xyzzy is neither a command nor a file$/, /^Usage: kme COMMAND/],
      [
        ["confg_kme1.json5"],
        /^kme: confg_kme1\.json5 is neither a command nor a file; did you mean "kme config_kme1\.json5"\?$/,
        /^Usage: kme COMMAND/,
      ],
      [["start", ""], /^kme start: CONFIG, the configuration file, must not be empty$/, /^Usage: kme start/],
      [["help", "--man", "start"], /^kme help: --man cannot be combined with a command$/, /^Usage: kme help/],
      [
        ["help", "statsu"],
        /^kme help: unknown command statsu; did you mean "kme status"\?$/,
        /^Usage: kme help/,
      ],
      [["version", "1"], /^kme version: unexpected argument 1$/, /^Usage: kme version$/],
      [
        ["completion", "tcsh"],
        /^kme completion: there is no completion for tcsh; use bash, zsh or fish$/,
        /^Usage: kme completion bash\|zsh\|fish$/,
      ],
      [
        ["check", "a.json5", "--peer"],
        /unknown option --peer; did you mean --peers\?$/,
        /^Usage: kme check CONFIG/,
      ],
      [["check", "a.json5", "--json=yes"], /^kme check: --json has no value$/, /^Usage: kme check CONFIG/],
      [
        ["certs", "n.json5", "--out", "--configs"],
        /--out needs a value: --out DIR$/,
        /^Usage: kme certs NETWORK/,
      ],
      [["health"], /^kme health: the configuration file is missing$/, /^Usage: kme health/],
      [["health", "a.json5", "--url", "http://x"], /cannot be combined$/, /^Usage: kme health/],
      [["health", "--url", "nonsense"], /--url must be like http:/, /^Usage: kme health/],
    ] as const
  ) {
    const { code, stdout, stderr } = await runKme([...args]);
    const [first, second, ...rest] = stderr.trimEnd().split("\n");
    assert.equal(code, 2, args.join(" "));
    assert.equal(stdout, "");
    assert.match(first!, message);
    assert.match(second!, usage);
    assert.deepEqual(rest, []);
  }
});

Deno.test("a KME starts with `kme CONFIG`, `kme start CONFIG` and `kme run CONFIG`", async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1 }] });
  const { configPath } = network.kme(1);
  const kme = await network.start(1);
  for (const args of [[configPath], ["start", configPath], ["run", configPath]]) {
    // The listeners are in use, so a second one gets as far as that.
    const { code, stderr } = await runKme(args);
    assert.equal(code, 1, args.join(" "));
    assert.match(stderr, /in use/);
  }
  await kme.stop();
});

Deno.test("a wrong LOG_LEVEL or LOG_FORMAT is one line and exit code 2", async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1 }] });
  const { configPath } = network.kme(1);
  for (
    const [env, message] of [
      [{ LOG_LEVEL: "infoo" }, /^LOG_LEVEL: unknown level "infoo"; use trace, /],
      [{ LOG_LEVEL: "info,evnt=warning" }, /^LOG_LEVEL: unknown part "evnt"; use audit, cli, /],
      [{ LOG_FORMAT: "jsn" }, /^LOG_FORMAT must be text or json, not "jsn"$/],
    ] as const
  ) {
    for (const args of [[configPath], ["check", configPath], ["burn", configPath]]) {
      const { code, stderr } = await runKme(args, { env });
      assert.equal(code, 2);
      assert.match(stderr.trimEnd(), message);
      assert.equal(stderr.trimEnd().split("\n").length, 1);
    }
  }
});

Deno.test("with LOG_FORMAT=json every line on stderr is a JSON object", async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, database: "sqlite" }] });
  await using temp = await makeTempDir();
  const { configPath } = network.kme(1);
  const kme = await network.start(1, { env: { LOG_FORMAT: "json" } });
  const broken = `${temp.path}/broken.json5`;
  await Deno.writeTextFile(broken, "{ this_kme: 1 }");
  const text = await Deno.readTextFile(configPath);
  const withDatabase = async (name: string, uri: string) => {
    const path = `${network.kme(1).directory}/${name}`;
    await Deno.writeTextFile(path, text.replace(/("?db_uri"?: ?)"[^"]*"/, `$1${JSON.stringify(uri)}`));
    return path;
  };
  const samePorts = await withDatabase("same_ports.json5", ":memory:");
  const noDatabase = await withDatabase("no_database.json5", "postgres://kme@127.0.0.1:1/kme");
  for (
    const [args, code, level] of [
      [[configPath], 1, "ERROR"],
      [[broken], 2, "ERROR"],
      [["chekc"], 2, "ERROR"],
      [["burn", configPath, "--bogus"], 2, "ERROR"],
      [["burn", configPath, "--yes"], 1, "ERROR"],
      [["keys", temp.path, "--blocks", "1"], 0, "INFO"],
      [["certs", `${temp.path}/none.json5`, "--out", temp.path], 2, "ERROR"],
      [[], 2, "ERROR"],
      [["start", `${temp.path}/none.json5`], 2, "ERROR"],
      [["start", samePorts], 1, "ERROR"],
      [["start", noDatabase], 1, "ERROR"],
      [["health", "--url", "http://127.0.0.1:1"], 1, "ERROR"],
    ] as const
  ) {
    const output = await runKme([...args], { env: { LOG_FORMAT: "json" } });
    assert.equal(output.code, code, output.stderr);
    const records = output.stderr.trimEnd().split("\n").map((line) => JSON.parse(line));
    assert.ok(records.every(({ message, logger }) => message && logger.startsWith("kme.")), output.stderr);
    assert.equal(records.at(-1).level, level);
  }
  const wrongLevel = await runKme([configPath], { env: { LOG_FORMAT: "json", LOG_LEVEL: "loud" } });
  assert.equal(wrongLevel.code, 2);
  assert.match(JSON.parse(wrongLevel.stderr).message, /LOG_LEVEL/);
  await kme.stop();
  for (const line of kme.lines) assert.ok(JSON.parse(line)["@timestamp"], line);
});

Deno.test("kme health is 0 for a ready KME and 1 for another", async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, console: true }, { id: 2 }] });
  const { configPath, consolePort } = network.kme(1);
  const url = `http://127.0.0.1:${consolePort}`;
  const silent = await runKme(["health", configPath]);
  assert.equal(silent.code, 1);
  assert.match(silent.stderr, /^no KME answers at http:\S+\/health\/ready \(connection refused\)\n$/);

  const kme = await network.start(1);
  await eventually(async () => (await runKme(["health", configPath])).code === 0);
  for (const args of [[configPath], ["--url", url], ["--url", `${url}/`]]) {
    assert.deepEqual(await runKme(["health", ...args]), { code: 0, stdout: "ready\n", stderr: "" });
  }
  // What else is wrong in the configuration does not make a running KME unhealthy.
  const config = await Deno.readTextFile(configPath);
  await Deno.writeTextFile(
    configPath,
    config.replace('"nickname"', '"nick"').replace("server_key_path", "key"),
  );
  assert.equal((await runKme(["health", configPath])).code, 0);
  await kme.stop();

  const other = await runKme(["health", network.kme(2).configPath]);
  assert.equal(other.code, 2);
  assert.match(other.stderr, /debugging_http_interface: is missing/);
});

Deno.test("kme health says why a KME is not ready, and tells another program from a KME", async () => {
  const answers = [
    Response.json({ ready: false, reason: "the database does not answer" }, { status: 503 }),
    Response.json({ ready: false }, { status: 200 }),
    new Response("hello"),
  ];
  const port = freePort();
  const server = Deno.serve({ hostname: "127.0.0.1", port, onListen() {} }, () => answers.shift()!);
  try {
    const ask = () => runKme(["health", "--url", `http://127.0.0.1:${port}`]);
    const notReady = await ask();
    assert.deepEqual(notReady, { code: 1, stdout: "not ready: the database does not answer\n", stderr: "" });
    assert.match((await ask()).stderr, /\(status 200\)/);
    const other = await ask();
    assert.equal(other.code, 1);
    assert.match(other.stderr, /\(what answers is not a KME\)/);
  } finally {
    await server.shutdown();
  }
});

const bash = findProgram("bash");

Deno.test({
  name: "bash completes commands, options, files and directories",
  ignore: bash === undefined,
  fn: async () => {
    await using temp = await makeTempDir();
    await Deno.writeTextFile(`${temp.path}/kme 1.json5`, "");
    await Deno.mkdir(`${temp.path}/keys1`);
    const { stdout } = await runKme(["completion", "bash"]);
    await Deno.writeTextFile(`${temp.path}/completion`, stdout);
    const complete = async (...words: string[]) => {
      const script =
        `. ./completion; COMP_WORDS=(kme "$@"); COMP_CWORD=$#; _kme; printf '%s\\n' "\${COMPREPLY[@]}"`;
      const output = await runChild(bash!, { args: ["-c", script, "bash", ...words], cwd: temp.path });
      assert.equal(output.stderr, "");
      return output.stdout.trimEnd().split("\n").sort();
    };
    assert.deepEqual(await complete("st"), ["start", "status", "store"]);
    assert.deepEqual(await complete("kme "), ["kme 1.json5"]);
    assert.deepEqual(await complete("check", "--p"), ["--peers"]);
    assert.deepEqual(await complete("check", "k"), ["keys1", "kme 1.json5"]);
    assert.deepEqual(await complete("keys", "k"), ["keys1"]);
    assert.deepEqual(await complete("certs", "--out", "k"), ["keys1"]);
    assert.deepEqual(await complete("completion", ""), ["bash", "fish", "zsh"]);
    assert.deepEqual(await complete("help", "bu"), ["burn"]);
    assert.deepEqual(await complete("keys", "--blocks", ""), [""]);
    assert.deepEqual(await complete("link", ""), ["forget"]);
    assert.deepEqual(await complete("sae", ""), ["fetch", "get", "status"]);
    assert.deepEqual(await complete("sae", "get", "3", "--cert", "kme"), ["kme 1.json5"]);
    assert.deepEqual(await complete("link", "forget", "kme"), ["kme 1.json5"]);
  },
});

for (const shell of ["zsh", "fish"]) {
  testWith(
    findProgram(shell),
    `${shell} is not installed`,
    `${shell} reads its completion script`,
    async (program) => {
      await using temp = await makeTempDir();
      const path = `${temp.path}/completion`;
      await Deno.writeTextFile(path, (await runKme(["completion", shell])).stdout);
      const output = await runChild(program, { args: ["-n", path] });
      assert.deepEqual(output, { code: 0, stdout: "", stderr: "" });
    },
  );
}

Deno.test("completion supports three shells", async () => {
  for (const shell of ["zsh", "fish"]) {
    const { code, stdout } = await runKme(["completion", shell]);
    assert.equal(code, 0);
    for (const command of NAMES) assert.ok(stdout.includes(command), `${command} for ${shell}`);
    for (const name of COMMANDS.flatMap(({ options }) => Object.keys(options))) {
      assert.ok(stdout.includes(name), `--${name} for ${shell}`);
    }
  }
});

testWith(
  findProgram("zsh"),
  "zsh is not installed",
  "zsh completes at the first Tab, with the script in a directory of fpath",
  async (zsh) => {
    await using temp = await makeTempDir();
    await Deno.writeTextFile(`${temp.path}/_kme`, (await runKme(["completion", "zsh"])).stdout);
    await Deno.mkdir(`${temp.path}/keys1`);
    await Deno.writeTextFile(
      `${temp.path}/setup`,
      `fpath=($PWD $fpath)
      autoload -Uz compinit
      compinit -u -D
      PS1=
      kme() { print -r -- "<$*>" }
      print re""ady`,
    );
    // A line that is entered after a Tab: the command prints what it was completed to.
    const script = `zmodload zsh/zpty
      for line in "$@"; do
        zpty shell ${zsh} -f -i
        zpty -w shell 'source ./setup'
        zpty -r shell output '*ready*'
        zpty -w -n shell $line$'\\t\\n'
        zpty -r shell output '*<*>*'
        print -r -- "\${\${output##*<}%%>*}"
        zpty -d shell
      done`;
    const lines = ["kme comple", "kme check --pe", "kme keys ke", "kme completion fi"];
    const { stdout, stderr } = await runChild("timeout", {
      args: ["20", zsh, "-f", "-c", script, "zsh", ...lines],
      cwd: temp.path,
      env: { HOME: temp.path },
    });
    assert.deepEqual(stdout.trimEnd().split("\n").map((line) => line.trimEnd()), [
      "completion",
      "check --peers",
      "keys keys1",
      "completion fish",
    ], stderr);
  },
);

Deno.test("the exit codes that help names for version are those that it has", async () => {
  const { stdout } = await runKme(["help", "version"]);
  assert.match(stdout, /^ {2}0 +done\n {2}2 +wrong command line$/m);
});

testWith(
  findProgram("groff"),
  "groff is not installed",
  "the man page describes every command and option",
  async (groff) => {
    await using temp = await makeTempDir();
    const { code, stdout } = await runKme(["help", "--man"]);
    assert.equal(code, 0);
    await Deno.writeTextFile(`${temp.path}/kme.1`, stdout);
    const { stdout: page, stderr } = await runChild(groff, {
      args: ["-man", "-Tutf8", "-P-cbou", "-ww", `${temp.path}/kme.1`],
    });
    assert.equal(stderr, "");
    for (const title of ["NAME", "SYNOPSIS", "COMMANDS", "ENVIRONMENT", "EXIT STATUS"]) {
      assert.match(page, new RegExp(`^${title}$`, "m"));
    }
    for (const command of NAMES) assert.match(page, new RegExp(`^ +kme ${command}\\b`, "m"));
    for (const { options } of COMMANDS) {
      for (const [name, { value }] of Object.entries<{ value?: string }>(options)) {
        assert.match(page, new RegExp(`^ +--${name}${value === undefined ? "" : ` ${value}`}(?: |$)`, "m"));
      }
    }
  },
);
