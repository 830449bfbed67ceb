/** Each SAE of `examples/` with running KMEs, and with answers that are refused or lost. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import https from "node:https";
import type { AddressInfo } from "node:net";
import { type Output, runChild } from "../harness/child_process.ts";
import { testIfInstalled, testWith } from "../harness/installed.ts";
import { keysOf } from "../harness/sae_client.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { makeTestCa, type TestCa } from "../harness/test_certificates.ts";
import { makeTestNetwork, type TestNetwork } from "../harness/test_network.ts";
import { startNetwork, twoKmes } from "../sae_api/api_fixture.ts";
import { type Command, type Example, EXAMPLES, examples } from "./example_saes.ts";

const KEY = { key_ID: "5e5f1a56-1d3d-4d1e-9f0e-0a2f3b4c5d6e", key: btoa("a key for tests only, 32 bytes..") };

const fingerprintOf = (base64: string) =>
  createHash("sha256").update(Uint8Array.fromBase64(base64)).digest("hex").slice(0, 16);

/** Says which KME an SAE asks, with which certificate. */
async function environment(
  network: TestNetwork,
  sae: number,
  port?: number,
): Promise<Record<string, string>> {
  const { cert, key, ca, kmeId } = network.sae(sae);
  const at = (name: string) => `${network.directory}/${sae}-${name}.pem`;
  await Deno.writeTextFile(at("cert"), cert);
  await Deno.writeTextFile(at("key"), key, { mode: 0o600 });
  await Deno.writeTextFile(at("ca"), ca);
  return {
    KME_URL: `https://127.0.0.1:${port ?? network.kme(kmeId).saesPort}`,
    SAE_CERT: at("cert"),
    SAE_KEY: at("key"),
    KME_CA: at("ca"),
  };
}

function run([program, ...first]: Command, env: Record<string, string>, ...args: string[]): Promise<Output> {
  return runChild(program, { args: [...first, ...args], env });
}

/** key_ID and fingerprint of what an example prints. */
function printed({ code, stdout, stderr }: Output) {
  assert.equal(code, 0, stderr);
  const fingerprint = /^fingerprint ([0-9a-f]{16})$/m.exec(stderr)?.[1];
  assert.ok(fingerprint !== undefined, stderr);
  return { keyId: stdout.trimEnd(), fingerprint };
}

type Answer = (response: ServerResponse) => void;
const json = (status: number, body: unknown, headers = {}): Answer => (response) =>
  response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
const key = json(200, { keys: [KEY] });
const lost: Answer = (response) => response.socket!.destroy();
/** The connection breaks in the middle of the key. */
const cut: Answer = (response) => {
  const text = JSON.stringify({ keys: [KEY] });
  response.writeHead(200, { "content-type": "application/json", "content-length": text.length });
  response.write(text.slice(0, -20), () => response.socket!.destroy());
};
const notFound = json(400, { message: "one or more keys specified are not found on KME" });

/** A server with the certificate of a KME that gives these answers, one a request. */
async function scripted(ca: TestCa, answers: Answer[]) {
  const { cert, key } = await ca.server({ commonName: "no KME (for tests)" });
  const requests: { readonly path: string; readonly at: number }[] = [];
  const options = { cert, key, ca: ca.ca, requestCert: true, rejectUnauthorized: true };
  const server = https.createServer(options, (request: IncomingMessage, response: ServerResponse) => {
    requests.push({ path: request.url!, at: performance.now() });
    (answers[requests.length - 1] ?? json(500, { message: "one request too many" }))(response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    requests,
    [Symbol.dispose]: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

for (const example of examples) {
  const { name, missing, optional } = example;
  const register = optional ? testIfInstalled : testWith;
  register(
    missing === undefined ? name : undefined,
    missing!,
    `examples: ${name}`,
    (_, t) => tryOut(t, example),
  );
}

async function tryOut(t: Deno.TestContext, example: Example): Promise<void> {
  await using directory = await makeTempDir();
  const command = await example.prepare(directory.path);

  await t.step("a key from a master to a slave at another KME", async () => {
    await using network = await startNetwork(twoKmes, [1, 2, 10]);
    const [master, slave] = [await environment(network, 1), await environment(network, 3)];
    const sent = printed(await run(command, master, "get", "3"));
    const received = printed(await run(command, slave, "fetch", "1", sent.keyId));
    assert.deepEqual(received, sent);
    const again = await run(command, slave, "fetch", "1", sent.keyId);
    assert.equal(again.code, 1);
    assert.match(again.stderr, /400.*not found/);

    const [other] = keysOf(await network.client(1).encKeys(3));
    assert.deepEqual(printed(await run(command, slave, "fetch", "1", other!.key_ID)), {
      keyId: other!.key_ID,
      fingerprint: fingerprintOf(other!.key),
    });
    const unknown = await run(command, master, "get", "no such/SAE");
    assert.match(unknown.stderr, /400.*no such\/SAE/);
    assert.equal(unknown.code, 1);
  });

  await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1, 2] }] });
  const { zoneCa } = network.kme(1);
  const ask = async (answers: Answer[], ...args: string[]) => {
    using server = await scripted(zoneCa, answers);
    const output = await run(command, await environment(network, 1, server.port), ...args);
    return { output, requests: server.requests };
  };
  const expected = { keyId: KEY.key_ID, fingerprint: fingerprintOf(KEY.key) };

  await t.step("after 503 with Retry-After the client waits and retries", async () => {
    const busy = json(503, { message: "too few keys" }, { "retry-after": "2" });
    const { output, requests } = await ask([busy, key], "get", "2");
    assert.deepEqual(printed(output), expected);
    assert.ok(requests[1]!.at - requests[0]!.at > 1900, "asked again too early");
  });

  await t.step("a lost answer of enc_keys: another key is requested", async () => {
    const { output, requests } = await ask([lost, key], "get", "2");
    assert.deepEqual(printed(output), expected);
    assert.equal(requests.length, 2);
  });

  await t.step("a lost answer of dec_keys: a KME that repeats it gives the key", async () => {
    const { output } = await ask([lost, key], "fetch", "2", KEY.key_ID);
    assert.deepEqual(printed(output), expected);
  });

  await t.step("a lost answer of dec_keys: another KME does not have the key any more", async () => {
    const { output, requests } = await ask([lost, notFound], "fetch", "2", KEY.key_ID);
    assert.deepEqual([output.code, output.stdout], [3, ""], output.stderr);
    assert.match(output.stderr, /the answer with the key was lost; ask the master for another key/);
    assert.equal(requests.length, 2);
  });

  await t.step("an answer of dec_keys that is cut is a lost one", async () => {
    const again = await ask([cut, key], "fetch", "2", KEY.key_ID);
    assert.deepEqual(printed(again.output), expected);
    const { output, requests } = await ask([cut, notFound], "fetch", "2", KEY.key_ID);
    assert.deepEqual([output.code, output.stdout, requests.length], [3, "", 2], output.stderr);
  });

  await t.step("a refusal is final", async () => {
    const { output, requests } = await ask(
      [json(401, { message: "not yours" }), key],
      "fetch",
      "2",
      KEY.key_ID,
    );
    assert.deepEqual([output.code, output.stdout, requests.length], [1, "", 1], output.stderr);
    assert.match(output.stderr, /401.*not yours/);
  });

  await t.step("a server of another CA gets no request", async () => {
    using server = await scripted(await makeTestCa("another CA"), [key]);
    const output = await run(command, await environment(network, 1, server.port), "get", "2");
    assert.notEqual(output.code, 0);
    assert.deepEqual([output.stdout, server.requests.length], ["", 0]);
  });
}

Deno.test("examples/README.md names every example", async () => {
  const text = await Deno.readTextFile(`${EXAMPLES}/README.md`);
  for await (const { name, isDirectory } of Deno.readDir(EXAMPLES)) {
    if (isDirectory) assert.match(text, new RegExp(`\\(${name}/[\\w./]+\\)`), name);
  }
});
