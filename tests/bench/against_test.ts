/** `deno task bench` as a program, with the options that measure no KME of its own. */
import assert from "node:assert/strict";
import https from "node:https";
import type { AddressInfo } from "node:net";
import { runChild } from "../harness/child_process.ts";
import { PROJECT_ROOT } from "../harness/kme_process.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { type IssuedCertificate, makeTestCa } from "../harness/test_certificates.ts";
import { Site } from "./site.ts";

function bench(...args: string[]) {
  return runChild(Deno.execPath(), {
    args: ["run", "-A", "--quiet", "--config", "deno.json", "tests/bench/main.ts", "--", ...args],
    cwd: PROJECT_ROOT,
  });
}

/** @returns the options for an SAE's files, which are written to the directory. */
async function filesOf(directory: string, name: string, prefix: string, sae: Files): Promise<string[]> {
  const options = [];
  for (const part of ["ca", "cert", "key"] as const) {
    const path = `${directory}/${name}-${part}.pem`;
    await Deno.writeTextFile(path, sae[part]);
    options.push(`--${prefix}${part}`, path);
  }
  return options;
}

type Files = Pick<IssuedCertificate, "ca" | "cert" | "key">;

/** The cells of a row. */
function row(table: string, what: string): string[] {
  const line = table.split("\n").find((line) => line.startsWith(`| ${what} |`));
  assert.ok(line !== undefined, table);
  return line.split(" | ").slice(1).map((cell) => cell.replace(/ \|$/, ""));
}

const BOUNDS = ["--requests", "50", "--seconds", "60"];

Deno.test("--against measures a KME, and uses up at most the keys that were allowed", async () => {
  await using site = await Site.make([":memory:", ":memory:"]);
  await site.renewWith("remote", 500);
  const { network } = site;
  const common = [
    "--against",
    `https://127.0.0.1:${network.kme(1).saesPort}/`,
    ...await filesOf(network.directory, "master", "", network.sae(1)),
    ...["--slave", "3", "--connections", "4"],
    ...BOUNDS,
  ];
  const alone = await bench(...common);
  assert.equal(alone.code, 0, alone.stdout + alone.stderr);
  assert.equal(await site.settle("remote", 50), 0);
  for (const what of ["status", "enc_keys"]) {
    const [rate, p50, p99, counted, failed] = row(alone.stdout, what);
    assert.match(rate!, /^[\d.]+ requests\/s$/);
    assert.ok(Number(p50) > 0 && Number(p99) >= Number(p50), `${p50} ${p99}`);
    assert.ok(Number(counted) > 30 && Number(counted) <= 40, `${counted}`);
    assert.equal(failed, "0");
  }
  assert.ok(!alone.stdout.includes("dec_keys"));

  const pairs = await bench(
    ...common,
    ...["--master", "1", "--decrypt-url", `https://127.0.0.1:${network.kme(2).saesPort}`],
    ...await filesOf(network.directory, "slave", "slave-", network.sae(3)),
  );
  assert.equal(pairs.code, 0, pairs.stdout + pairs.stderr);
  assert.match(row(pairs.stdout, "enc_keys then dec_keys")[0]!, /^[\d.]+ pairs\/s$/);
  assert.equal(await site.settle("remote", 100), 0);

  // The slave's certificate in place of the master's: every request fails, and the reason is told in one line.
  const slave = await filesOf(network.directory, "slave", "", network.sae(3));
  const refused = await bench(...common.slice(0, 2), ...slave, "--slave", "1", ...BOUNDS);
  assert.equal(refused.code, 1);
  assert.equal(row(refused.stdout, "enc_keys")[0], "-");
  assert.match(refused.stdout, /^status: \d+ failed, the first: .+$/m);
  assert.ok(!/^\s+at /m.test(refused.stdout + refused.stderr));
});

Deno.test("--against measures servers that answer in chunks, with other JSON, and close connections", async () => {
  const ca = await makeTestCa("for tests");
  const { cert, key } = await ca.server();
  let asked = 0;
  const server = https.createServer({ cert, key, ca: ca.ca, requestCert: true }, (request, response) => {
    let body = "";
    request.on("data", (chunk) => body += chunk);
    request.on("end", () => {
      asked++;
      assert.match(request.url!, /^\/qkd\/api\/v1\/keys\/(the%20slave|m)\/(status|enc_keys|dec_keys)$/);
      const ids: string[] = request.method === "POST"
        ? JSON.parse(body).key_IDs.map(({ key_ID }: { key_ID: string }) => key_ID)
        : [crypto.randomUUID()];
      const answer = JSON.stringify({ keys: ids.map((id) => ({ key: `of ${id}`, key_ID: id })) }, null, 2);
      if (asked % 10 === 0) response.setHeader("connection", "close");
      response.write(answer.slice(0, 20));
      response.end(answer.slice(20));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  await using directory = await makeTempDir();
  const sae = await ca.client();
  const url = `https://localhost:${(server.address() as AddressInfo).port}/qkd`;
  const files = await filesOf(directory.path, "sae", "", sae);
  const slave = await filesOf(directory.path, "slave", "slave-", sae);
  const result = await bench(
    "--against",
    url,
    ...files,
    ...slave,
    ...["--slave", "the slave", "--master", "m"],
    ...BOUNDS,
  );
  server.close();
  server.closeAllConnections();
  assert.equal(result.code, 0, result.stdout + result.stderr);
  assert.equal(asked, 50 + 50 + 2 * 50);
});

Deno.test("a wrong option gives one line, and --help the usage", async () => {
  const wrong = await bench("--fast");
  assert.equal(wrong.code, 2);
  assert.equal(wrong.stdout, "");
  assert.match(wrong.stderr, /^.*'--fast'; usage: deno task bench .*\n$/);
  const help = await bench("--help");
  assert.equal(help.code, 0);
  assert.match(help.stdout, /^usage: deno task bench/);
  assert.match(help.stdout, /--against URL/);
  const files = "--cert /nowhere/c --key /nowhere/k --ca /nowhere/a --slave 2".split(" ");
  const unreadable = await bench("--against", "https://localhost:1", ...files);
  assert.equal(unreadable.code, 2);
  assert.match(unreadable.stderr, /^\/nowhere\/\w cannot be read: .*\n$/);
});
