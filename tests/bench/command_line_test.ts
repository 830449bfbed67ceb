import assert from "node:assert/strict";
import { type AgainstCommand, GROUPS, type MeasureCommand, parseCommandLine } from "./command_line.ts";

const AGAINST = "--against https://kme1.example:13000/ --cert c --key k --ca a --slave 2".split(" ");

function problemOf(...args: string[]): string {
  const command = parseCommandLine(args);
  assert.ok(command.kind === "wrong", `${args} is accepted`);
  assert.ok(!command.problem.includes("\n"));
  return command.problem;
}

Deno.test("without options everything but the group large is measured", () => {
  const all = GROUPS.filter((group) => group !== "large");
  assert.deepEqual(parseCommandLine([]), { kind: "measure", quick: false, groups: all, json: "bench.json" });
  const chosen = parseCommandLine(["--", "--quick", "--only", "large,memory", "--json", "x.json"]);
  assert.deepEqual(chosen, { kind: "measure", quick: true, groups: ["memory", "large"], json: "x.json" });
  assert.deepEqual((parseCommandLine(["--only=mixed"]) as MeasureCommand).groups, ["mixed"]);
});

Deno.test("--against takes a server, the files of the SAEs, and bounds with defaults", () => {
  const common: AgainstCommand = {
    kind: "against",
    url: "https://kme1.example:13000",
    ca: "a",
    cert: "c",
    key: "k",
    slaveId: "2",
    connections: 32,
    seconds: 10,
    requests: 10_000,
  };
  assert.deepEqual(parseCommandLine(["--", ...AGAINST]), common);
  const slave = "--slave-cert sc --slave-key sk --master 1 --requests 100 --seconds 3".split(" ");
  assert.deepEqual(parseCommandLine([...AGAINST, ...slave]), {
    ...common,
    slave: { url: common.url, ca: "a", cert: "sc", key: "sk", masterId: "1" },
    seconds: 3,
    requests: 100,
  });
  const elsewhere = "--decrypt-url https://kme2.example/path/ --slave-ca sa".split(" ");
  const { slave: other } = parseCommandLine([...AGAINST, ...slave, ...elsewhere]) as AgainstCommand;
  assert.deepEqual(other, {
    url: "https://kme2.example/path",
    ca: "sa",
    cert: "sc",
    key: "sk",
    masterId: "1",
  });
});

Deno.test("what is wrong with a command line is said in one line", () => {
  assert.match(problemOf("--fast"), /'--fast'/);
  assert.match(problemOf("memory"), /memory/);
  assert.match(problemOf("--quick=yes"), /--quick/);
  assert.match(problemOf("--only"), /--only/);
  assert.match(problemOf("--only", "memory,disks"), /no group disks; there are memory, /);
  assert.match(problemOf("--cert", "c"), /--cert needs --against/);
  assert.match(problemOf(...AGAINST, "--quick"), /--quick cannot be used with --against/);
  assert.match(problemOf("--against", "https://kme1.example"), /--ca is missing/);
  for (const url of ["http://kme1.example", "kme1.example:13000", "https://kme1.example/?a=b"]) {
    assert.match(problemOf("--against", url, ...AGAINST.slice(2)), /--against must be like https:/);
  }
  for (const wrong of ["0", "1e3", "-1", "1.5", "257", "many"]) {
    assert.match(problemOf(...AGAINST, `--connections=${wrong}`), /whole number from 1 to 256/);
  }
  assert.match(problemOf(...AGAINST, "--slave-cert", "sc"), /--slave-key is missing/);
  assert.match(problemOf(...AGAINST, "--slave-cert", "sc", "--slave-key", "sk"), /--master is missing/);
});

Deno.test("--help is told whatever else is there", () => {
  assert.deepEqual(parseCommandLine(["--help"]), { kind: "help" });
  assert.deepEqual(parseCommandLine([...AGAINST, "-h"]), { kind: "help" });
});
