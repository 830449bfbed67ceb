import assert from "node:assert/strict";
import https from "node:https";
import type { AddressInfo } from "node:net";
import type { TLSSocket } from "node:tls";
import { assertSameKeys, keyIdsOf, openTlsSocket, readToEnd, SaeClient } from "../harness/sae_client.ts";
import { makeTestCa } from "../harness/test_certificates.ts";

/** An mTLS server that answers with what it was asked; `/keys` answers with a Key container. */
async function echoServer() {
  const ca = await makeTestCa("echo CA");
  const own = await ca.server();
  const connections = new Set<unknown>();
  const server = https.createServer({
    cert: own.cert,
    key: own.key,
    ca: ca.ca,
    requestCert: true,
    rejectUnauthorized: true,
  }, (request, response) => {
    let body = "";
    request.on("data", (chunk) => body += chunk);
    request.on("end", () => {
      const subject = (request.socket as TLSSocket).getPeerCertificate().subject.CN;
      response.setHeader("Content-Type", "application/json");
      if (request.url!.startsWith("/keys")) {
        response.end(JSON.stringify({ keys: [{ key_ID: "a", key: request.url!.slice(6) }] }));
        return;
      }
      const { method, url, headers } = request;
      const type = headers["content-type"];
      response.statusCode = url!.includes("teapot") ? 418 : 200;
      response.end(JSON.stringify({ subject, method, url, type, extra: headers["x-extra"], body }));
    });
  });
  server.on("secureConnection", (socket) => connections.add(socket));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const sae = await ca.client({ commonName: "SAE one" });
  return {
    port,
    sae,
    ca,
    connections,
    client: (options = {}) => new SaeClient({ port, ...sae, ...options }),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

Deno.test("SaeClient asks as the standard says", async () => {
  await using server = await echoServer();
  using client = server.client();
  const root = "/api/v1/keys";
  const seen = async (answer: Promise<{ json: Record<string, string> }>) => {
    const { method, url, body } = (await answer).json;
    return [method, url, body === "" ? "" : JSON.parse(body!)];
  };
  assert.deepEqual(await seen(client.status("a/b c")), ["GET", `${root}/a%2Fb%20c/status`, ""]);
  assert.deepEqual(await seen(client.status(9007199254740993n)), [
    "GET",
    `${root}/9007199254740993/status`,
    "",
  ]);
  assert.deepEqual(await seen(client.encKeys(3)), ["GET", `${root}/3/enc_keys`, ""]);
  const sized = { number: 2, size: 64 };
  assert.deepEqual(await seen(client.encKeys(3, sized)), ["GET", `${root}/3/enc_keys?number=2&size=64`, ""]);
  assert.deepEqual(await seen(client.encKeys(3, sized, { method: "POST" })), [
    "POST",
    `${root}/3/enc_keys`,
    sized,
  ]);
  const many = { additional_slave_SAE_IDs: ["4"] };
  assert.deepEqual(await seen(client.encKeys(3, many)), ["POST", `${root}/3/enc_keys`, many]);
  assert.deepEqual(await seen(client.encKeys(3, {}, { body: [1] })), ["POST", `${root}/3/enc_keys`, [1]]);
  assert.deepEqual(await seen(client.encKeys(3, {}, { body: "{}" })), ["POST", `${root}/3/enc_keys`, {}]);
  assert.deepEqual(await seen(client.decKeys(1, "x")), ["GET", `${root}/1/dec_keys?key_ID=x`, ""]);
  const ids = { key_IDs: [{ key_ID: "x" }, { key_ID: "y" }] };
  assert.deepEqual(await seen(client.decKeys(1, ["x", "y"])), ["POST", `${root}/1/dec_keys`, ids]);
  assert.deepEqual(await seen(client.decKeys(1, [])), ["POST", `${root}/1/dec_keys`, { key_IDs: [] }]);
  const typed = await client.encKeys(3, {}, { method: "POST" });
  assert.equal(typed.json.type, "application/json");
  assert.equal(typed.json.subject, "SAE one");
  const raw = await client.raw({ method: "PUT", path: "//teapot", headers: { "X-Extra": "1" }, body: "é" });
  assert.equal(raw.status, 418);
  assert.equal(raw.headers["content-type"], "application/json");
  const { method, url, extra, body } = raw.json;
  assert.deepEqual([method, url, extra, body], ["PUT", "//teapot", "1", "é"]);
});

Deno.test("SaeClient keeps its connection, and with agent: false makes one a request", async () => {
  await using server = await echoServer();
  using keeping = server.client();
  for (let i = 0; i < 3; i++) await keeping.status(1);
  assert.equal(server.connections.size, 1);
  using fresh = server.client({ agent: false });
  for (let i = 0; i < 3; i++) await fresh.status(1);
  assert.equal(server.connections.size, 4);
});

Deno.test("SaeClient rejects a server of another CA, and is rejected without a certificate", async () => {
  await using server = await echoServer();
  const other = await makeTestCa("another CA");
  using mistrusting = server.client({ ca: other.ca });
  await assert.rejects(mistrusting.status(1), /certificate|UnknownIssuer/i);
  using anonymous = server.client({ cert: undefined, key: undefined });
  await assert.rejects(anonymous.status(1));
  const expired = await server.ca.client({ notBefore: new Date(0), notAfter: new Date(86_400_000) });
  using late = server.client(expired);
  await assert.rejects(late.status(1));
});

Deno.test("an answer does not show its keys when printed, and its keys are compared without showing them", async () => {
  await using server = await echoServer();
  using client = server.client();
  const [one, same, other] = [
    await client.raw({ path: "/keys/SECRET" }),
    await client.raw({ path: "/keys/SECRET" }),
    await client.raw({ path: "/keys/OTHER" }),
  ];
  assert.ok(!Deno.inspect(one).includes("SECRET"));
  assert.ok(!JSON.stringify(one).includes("SECRET"));
  assert.deepEqual(keyIdsOf(one), ["a"]);
  assertSameKeys(one, same);
  assert.throws(() => assertSameKeys(one, other), (error: Error) => !/SECRET|OTHER/.test(error.message));
  const refused = await client.raw({ path: "/teapot" });
  assert.throws(() => keyIdsOf(refused), /418/);
});

Deno.test("a bare socket sends any bytes and returns what it receives until it is closed", async () => {
  await using server = await echoServer();
  using client = server.client();
  const socket = await client.openSocket();
  const rest = readToEnd(socket);
  socket.write("GET /teapot HTTP/1.1\r\nHost: x\r\n");
  socket.write("Connection: close\r\n\r\n");
  assert.match(await rest, /^HTTP\/1.1 418 [^]*"subject":"SAE one"/);

  const nonsense = await openTlsSocket({ port: server.port, ...server.sae });
  const closed = readToEnd(nonsense);
  nonsense.write("NONSENSE\r\n\r\n");
  assert.ok(!(await closed).includes("200 OK"));
});
