/** `kme sae`, through the command line, with running KMEs and with servers that are none. */
import assert from "node:assert/strict";
import { once } from "node:events";
import https from "node:https";
import type { AddressInfo } from "node:net";
import { runKme } from "../harness/kme_process.ts";
import { makeTestCa } from "../harness/test_certificates.ts";
import type { TestId, TestNetwork } from "../harness/test_network.ts";
import { keysOf } from "../harness/sae_client.ts";
import { forge, issuerOf } from "../x509/forge.ts";
import { startNetwork, stockOf, twoKmes } from "../sae_api/api_fixture.ts";

/** Options with the certificate of an SAE, for its KME or a server at another port. */
async function optionsOf(network: TestNetwork, id: TestId, port?: number): Promise<string[]> {
  const { cert, key, ca, kmeId } = network.sae(id);
  const at = (name: string) => `${network.directory}/${id}-${name}.pem`;
  await Deno.writeTextFile(at("cert"), cert);
  await Deno.writeTextFile(at("key"), key, { mode: 0o600 });
  await Deno.writeTextFile(at("both"), cert + key, { mode: 0o600 });
  await Deno.writeTextFile(at("ca"), ca);
  const url = `https://127.0.0.1:${port ?? network.kme(kmeId).saesPort}`;
  return ["--url", url, "--cert", at("cert"), "--key", at("key"), "--ca", at("ca")];
}

async function succeeds(...args: string[]) {
  const { code, stdout, stderr } = await runKme(["sae", ...args]);
  assert.equal(code, 0, stderr);
  return { stdout, stderr };
}

async function fails(code: number, message: RegExp, ...args: string[]) {
  const output = await runKme(["sae", ...args]);
  assert.match(output.stderr, message);
  assert.deepEqual([output.code, output.stdout], [code, ""]);
}

Deno.test("kme sae asks a KME as an SAE", async (t) => {
  await using network = await startNetwork(twoKmes, [1, 2, 30]);
  const master = await optionsOf(network, 1);
  const slave = await optionsOf(network, 3);
  const file = (name: string) => `${network.directory}/${name}`;

  await t.step("status", async () => {
    const { stdout } = await succeeds("status", "3", ...master);
    assert.deepEqual(JSON.parse(stdout), (await network.client(1).status(3)).json);
  });

  await t.step("get and fetch show that the keys agree, but not the keys", async () => {
    const got = JSON.parse((await succeeds("get", "3", ...master, "--number", "2", "--size", "128")).stdout);
    assert.equal(got.keys.length, 2);
    for (const key of got.keys) {
      assert.deepEqual(Object.keys(key), ["key_ID", "size", "sha256"]);
      assert.equal(key.size, 128);
      assert.match(key.sha256, /^[0-9a-f]{16}$/);
    }
    const ids = got.keys.map((key: { key_ID: string }) => key.key_ID);
    const fetched = await succeeds("fetch", "1", ...ids, ...slave);
    assert.deepEqual(JSON.parse(fetched.stdout), got);
    await fails(
      1,
      /^the KME answers 400: one or more keys specified are not found on KME$/m,
      "fetch",
      "1",
      ids[0],
      ...slave,
    );
  });

  await t.step("--hex prints the keys alone", async () => {
    const [expected] = keysOf(await network.client(1).encKeys(3));
    const { stdout, stderr } = await succeeds("fetch", "1", expected!.key_ID, ...slave, "--hex");
    assert.ok(stdout === `${Uint8Array.fromBase64(expected!.key).toHex()}\n`, "not the key in hexadecimal");
    assert.equal(stderr, `key_ID ${expected!.key_ID}\n`);
  });

  await t.step("--raw writes the bytes to a new file for its owner only", async () => {
    const got = JSON.parse((await succeeds("get", "3", ...master, "--raw", file("a"))).stdout);
    const { key_ID } = got.keys[0];
    const [fetched] = keysOf(await network.client(3).decKeys(1, key_ID));
    assert.ok((await Deno.readFile(file("a"))).toBase64() === fetched!.key, "other bytes");
    if (Deno.build.os !== "windows") assert.equal((await Deno.stat(file("a"))).mode! & 0o777, 0o600);
    const before = await stockOf(network.client(1), 3);
    await fails(1, /exists already and is not overwritten/, "get", "3", ...master, "--raw", file("a"));
    await fails(1, /nowhere/, "get", "3", ...master, "--raw", file("nowhere/a"));
    assert.equal(await stockOf(network.client(1), 3), before, "a key was used up");
    await fails(1, /^the KME answers 400/, "get", "99", ...master, "--raw", file("b"));
    await assert.rejects(Deno.stat(file("b")), Deno.errors.NotFound);
  });

  await t.step(
    "a certificate with its key in one file, and a URL with the path of the interface",
    async () => {
      const both = file("1-both.pem");
      const url = `${master[1]}/api/v1/keys/`;
      await succeeds("status", "3", "--url", url, "--cert", both, "--ca", file("1-ca.pem"));
    },
  );

  await t.step("a server that is not trusted gets no request", async () => {
    const other = file("other-ca.pem");
    await Deno.writeTextFile(other, (await makeTestCa("another CA")).ca);
    const before = await stockOf(network.client(1), 3);
    await fails(1, /certificate|issuer|trusted/i, "get", "3", ...master.slice(0, -2), "--ca", other);
    await fails(1, /certificate|issuer|trusted/i, "get", "3", ...master.slice(0, -2));
    assert.equal(await stockOf(network.client(1), 3), before);
  });

  await t.step("a certificate of version 1 with the name of the CA as issuer is refused", async () => {
    // The TLS of the runtime accepts it.
    const { pem } = forge({
      issuer: issuerOf({ cert: network.kme(1).zoneCa.ca, key: forge().pem.key }),
      version: null,
      extensions: null,
    });
    const server = https.createServer(pem, (_, response) => response.end("{}"));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const options = await optionsOf(network, 1, (server.address() as AddressInfo).port);
    await fails(1, /version 1/, "get", "3", ...options);
    server.closeAllConnections();
    server.close();
  });

  await t.step("a KME that is down", async () => {
    await network.processes[1]!.kill();
    await fails(1, /^the KME answers 503: /, "get", "3", ...master);
    await fails(1, /refused/i, "status", "1", ...slave);
  });
});

Deno.test("kme sae says when a key may be lost, and shows nothing of a strange answer", async () => {
  await using network = await startNetwork({ kmes: [{ id: 1, saes: [1, 2] }] });
  const { cert, key } = await network.kme(1).zoneCa.server({ commonName: "no KME (for tests)" });
  const secret = "c2VjcmV0IGJpdHM";
  const answers: [string, (response: import("node:http").ServerResponse) => void, RegExp][] = [
    [
      "cut",
      (response) => response.destroy(),
      /the KME may have got the request, and then the key is used up$/m,
    ],
    ["text", (response) => response.end(secret), /^the answer is not JSON$/m],
    [
      "other",
      (response) => response.end(`{"keys":[{"key":"${secret}"}]}`),
      /^the answer is not a Key container/m,
    ],
    [
      "not base64",
      (response) => response.end(`{"keys":[{"key_ID":"x","key":"${secret}?"}]}`),
      /not a Key container/,
    ],
    ["error", (response) => response.writeHead(502).end(secret), /^the KME answers 502$/m],
  ];
  for (const [name, answer, message] of answers) {
    const server = https.createServer({ cert, key }, (_, response) => answer(response));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    try {
      const options = await optionsOf(network, 1, (server.address() as AddressInfo).port);
      const { code, stdout, stderr } = await runKme(["sae", "get", "2", ...options]);
      assert.match(stderr, message, name);
      assert.deepEqual([code, stdout, stderr.includes(secret)], [1, "", false], name);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  }
});

Deno.test("kme sae prints no control characters of a KME", async () => {
  await using network = await startNetwork({ kmes: [{ id: 1, saes: [1, 2] }] });
  const { cert, key } = await network.kme(1).zoneCa.server({ commonName: "no KME (for tests)" });
  const evil = "\u001b[2J\u009b2J\n";
  const server = https.createServer({ cert, key }, (request, response) => {
    if (request.url!.endsWith("/status")) response.end(JSON.stringify({ message: evil }));
    else if (request.url!.includes("/3/")) response.writeHead(400).end(JSON.stringify({ message: evil }));
    else response.end(JSON.stringify({ keys: [{ key_ID: evil, key: btoa("for tests") }] }));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    const options = await optionsOf(network, 1, (server.address() as AddressInfo).port);
    for (const args of [["status", "2"], ["get", "2"], ["get", "2", "--hex"], ["get", "3"]]) {
      const { stdout, stderr } = await runKme(["sae", ...args, ...options]);
      assert.match(stdout + stderr, /2J/, args.join(" "));
      // deno-lint-ignore no-control-regex
      assert.doesNotMatch(stdout + stderr, /[\u001b\u009b]/, args.join(" "));
    }
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

Deno.test("kme sae refuses a wrong command line and wrong files", async () => {
  await using network = await startNetwork({ kmes: [{ id: 1, saes: [1, 2] }] });
  const options = await optionsOf(network, 1);
  const file = (name: string) => `${network.directory}/${name}`;
  await Deno.writeTextFile(file("empty.pem"), "");
  await optionsOf(network, 2);
  const cases: [RegExp, ...string[]][] = [
    [/^kme sae: the action is missing$/m],
    [/unknown action give; use status, get or fetch/, "give", "2", ...options],
    [/the id of the slave SAE is missing/, "get", ...options],
    [/the id of the master SAE is missing/, "fetch", ...options],
    [/the key_ID is missing/, "fetch", "2", ...options],
    [/unexpected argument 3/, "get", "2", "3", ...options],
    [/--number and --size belong to get/, "status", "2", "--number", "1", ...options],
    [/--raw and --hex belong to get and fetch/, "status", "2", "--hex", ...options],
    [/--raw and --hex cannot be combined/, "get", "2", "--hex", "--raw", file("x"), ...options],
    [/--raw writes one key/, "get", "2", "--number", "2", "--raw", file("x"), ...options],
    [/--raw writes one key/, "fetch", "2", "a", "b", "--raw", file("x"), ...options],
    [/--number must be a whole number, not x/, "get", "2", "--number", "x", ...options],
    [/--url URL is missing/, "get", "2", ...options.slice(2)],
    [/--url must be like https:/, "get", "2", "--url", "http://127.0.0.1:1", ...options.slice(2)],
    [/--url must be like https:/, "get", "2", "--url", "https://127.0.0.1:1/?a=b", ...options.slice(2)],
    [/--cert FILE is missing/, "get", "2", ...options.slice(0, 2)],
    [/--cert: .*nowhere\.pem/, "get", "2", ...options.slice(0, 2), "--cert", file("nowhere.pem")],
    [/--cert: .*holds no certificate/, "get", "2", ...options.slice(0, 2), "--cert", file("empty.pem")],
    [/--cert: .*holds no private key/, "get", "2", ...options.slice(0, 4)],
    [
      /--key: .*does not belong to the certificate/,
      "get",
      "2",
      ...options.slice(0, 4),
      "--key",
      file("2-key.pem"),
    ],
    [/--ca: .*holds no certificate/, "get", "2", ...options.slice(0, 6), "--ca", file("empty.pem")],
  ];
  for (const [message, ...args] of cases) await fails(2, message, ...args);
  await assert.rejects(Deno.stat(file("x")), Deno.errors.NotFound);
});
