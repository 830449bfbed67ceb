import assert from "node:assert/strict";
import type { KmeStatus } from "../../src/metrics/kme_status.ts";
import { formatStatus } from "../../src/cli/status_output.ts";
import { startChild } from "../harness/child_process.ts";
import { findProgram } from "../harness/child_process.ts";
import { PROJECT_ROOT, runKme } from "../harness/kme_process.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { makeTempDir } from "../harness/temp_dir.ts";

for (const command of ["start", "check", "status", "burn", "health"]) {
  Deno.test(`kme ${command} takes one configuration file, which must exist`, async () => {
    const two = await runKme([command, "a.json5", "b.json5"]);
    assert.equal(two.code, 2);
    assert.match(two.stderr, /only one configuration file can be given, not also b\.json5/);
    const missing = await runKme([command, "/nowhere/kme.json5"]);
    assert.equal(missing.code, 2);
    assert.match(missing.stdout + missing.stderr, /does not exist/);
  });
}

Deno.test("kme status needs a console", async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1 }] });
  const { code, stderr } = await runKme(["status", network.kme(1).configPath]);
  assert.equal(code, 2);
  assert.match(stderr, /debugging_http_interface: is missing/);
});

Deno.test("kme status recognizes another program, and another KME", async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, console: true }] });
  const { configPath, consolePort } = network.kme(1);
  let answer = new Response("{}");
  const server = Deno.serve({ hostname: "127.0.0.1", port: consolePort, onListen() {} }, () => answer);
  try {
    const other = await runKme(["status", configPath]);
    assert.equal(other.code, 1);
    assert.match(other.stderr, /is not a KME of this version/);
    answer = Response.json({ ...STATUS, kme: "7" });
    const seven = await runKme(["status", configPath]);
    assert.equal(seven.code, 1);
    assert.match(seven.stderr, /KME 7 answers, not KME 1/);
    answer = Response.json(STATUS);
    const url = ["status", "--url", `http://127.0.0.1:${consolePort}`];
    assert.equal((await runKme(url)).code, 0);
    // Whatever else is wrong with the configuration.
    const config = await Deno.readTextFile(configPath);
    const broken = config.replace('"nickname"', '"nick"').replaceAll("server_key_path", "key");
    assert.notEqual(broken, config);
    await Deno.writeTextFile(configPath, broken);
    answer = Response.json(STATUS);
    assert.equal((await runKme(["status", configPath])).code, 0);
    answer = Response.json({ ...STATUS, ready: false, reason: "the database does not answer" });
    const notReady = await runKme(["status", configPath]);
    assert.equal(notReady.code, 1);
    assert.match(notReady.stdout, /^NOT READY: the database does not answer$/m);
  } finally {
    await server.shutdown();
  }
});

const STATUS: KmeStatus = {
  storeEncrypted: true,
  kme: "1",
  nickname: "Al\x1b[31mice",
  version: "1.2.3",
  ready: true,
  reason: null,
  uptime: 90_000,
  since: "2026-01-02T03:04:05.000Z",
  delivery: {
    links: "none",
    problems: [{
      severity: "error",
      link: "2",
      what: "KME 2 does not answer",
      since: "2026-01-02T03:04:05.000Z",
    }],
  },
  relayed: [],
  saes: [],
  burnt: 0,
  links: [
    { kme: "1", free: null, max: 10, used: false, lastIngestion: null, files: [], servedAgain: 0 },
    {
      kme: "2",
      free: 5,
      max: 1000,
      used: true,
      unmatched: 7,
      comparedAt: "2026-01-02T03:05:05.000Z",
      unmatchedSince: "2026-01-02T03:04:05.000Z",
      unmatchedFiles: [
        { name: "b.cor", here: 4, there: 9 },
        { name: "c.cor", here: 2, there: 0 },
        { name: "d.cor", here: 1, there: 0 },
        { name: "e.cor", here: 0, there: 1 },
      ],
      lastIngestion: { at: "2026-01-02T03:04:05.000Z", file: "a.cor" },
      files: [],
      servedAgain: 0,
    },
  ],
  keysWaiting: 3,
  peers: [
    { kme: "2", up: false, since: "2026-01-02T03:04:05.000Z", lastError: "connection refused" },
    { kme: "3", up: null, since: null, lastError: null },
  ],
  certificates: [
    {
      member: "a.cert",
      use: "server",
      subject: "CN=a",
      serial: "0a",
      notBefore: "2026-01-02T03:04:05Z",
      notAfter: "2027-01-02T03:04:05Z",
      daysLeft: 12,
    },
  ],
  entropy: 8,
};

Deno.test("the status of a KME fits into a few lines", () => {
  assert.deepEqual(formatStatus(STATUS).split("\n"), [
    "KME 1 (Al [31mice), version 1.2.3, up 1 d 1 h",
    "ready, but no link can deliver keys",
    "ERROR KME 2 does not answer, since 2026-01-02T03:04:05.000Z",
    "",
    "link      free  of    at one end only   since                     last key file",
    "own SAEs  ?     10    -                 -                         none since the start",
    "KME 2     5     1000  7 here, 10 there  2026-01-02T03:04:05.000Z  2026-01-02T03:04:05.000Z a.cor",
    "at one end only, KME 2: b.cor (4 here, 9 there), c.cor (2 here, 0 there), d.cor (1 here, 0 there), ...",
    "",
    "keys waiting for their slaves: 3",
    "",
    "peer   state           since                     last error",
    "KME 2  DOWN            2026-01-02T03:04:05.000Z  connection refused",
    "KME 3  not called yet  -                         -",
    "",
    "certificate a.cert ends in 12 days",
  ]);
});

const script = findProgram("script");

Deno.test({
  name: "a terminal gets colours, unless NO_COLOR says not to",
  ignore: Deno.build.os !== "linux" || script === undefined,
  fn: async () => {
    await using network = await makeTestNetwork({ kmes: [{ id: 1 }] });
    await using temp = await makeTempDir();
    const { configPath } = network.kme(1);
    const command = [
      Deno.execPath(),
      "run",
      "-A",
      "--config",
      `${PROJECT_ROOT}deno.json`,
      `${PROJECT_ROOT}src/main.ts`,
    ]
      .join(" ");
    const onTerminal = async (env: Record<string, string>) => {
      const child = startChild(script!, {
        args: ["-qec", `${command} check ${configPath}`, `${temp.path}/typescript`],
        env,
      });
      assert.equal((await child.exited).code, 0);
      return child.lines.join("\n");
    };
    assert.ok((await onTerminal({ NO_COLOR: "" })).includes("\x1b[32mok"));
    assert.ok(!(await onTerminal({ NO_COLOR: "1" })).includes("\x1b["));
  },
});
