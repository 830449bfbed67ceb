import assert from "node:assert/strict";
import { once } from "node:events";
import net, { type AddressInfo, type Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { MAX_ANSWER_BYTES, MAX_SOCKETS } from "../../src/inter_kme/channel.ts";
import { eventually } from "../harness/eventually.ts";
import { freePort } from "../harness/free_port.ts";
import { findProgram, testWith } from "../harness/installed.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { answer, certificates, ok, openChannel, recordLog, TestPeer } from "./test_peer.ts";

/** A TCP listener whose connections the test handles. */
async function listen(onConnection: (socket: Socket) => void) {
  const sockets = new Set<Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    onConnection(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    sockets,
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

Deno.test("a message is a POST whose answer comes back", async () => {
  await using peer = await TestPeer.start(answer(404, "Not found"));
  using channel = openChannel({ port: peer.port });
  assert.deepEqual(channel.health, { up: undefined });
  const outcome = await channel.post("/keys/activate", `{"ä":1}`);
  assert.deepEqual(outcome, { kind: "answer", status: 404, body: "Not found" });
  assert.deepEqual(peer.requests, [{
    method: "POST",
    path: "/keys/activate",
    headers: [
      "host",
      `localhost:${peer.port}`,
      "content-type",
      "application/json",
      "content-length",
      "8",
      "Connection",
      "keep-alive",
    ],
    body: `{"ä":1}`,
    clientName: "test only caller",
  }]);
  assert.equal(channel.health.up, true);
});

for (
  const [name, certificate] of [
    ["PEM", certificates.caller],
    ["PKCS#12", certificates.callerPfx],
    ["PKCS#12 without a password", certificates.callerPfxNoPassword],
  ] as const
) {
  Deno.test(`the client certificate can be ${name}`, async () => {
    await using peer = await TestPeer.start();
    using channel = openChannel({ port: peer.port, clientCertificate: certificate });
    assert.deepEqual(await channel.post("/", "{}"), { kind: "answer", status: 200, body: "OK" });
    assert.equal(peer.requests[0]?.clientName, "test only caller");
  });
}

Deno.test("a client certificate that cannot be used is found when the channel is made", () => {
  const wrongPassword = { ...certificates.callerPfx, passphrase: "geheim" };
  const wrongKey = { ...certificates.caller, key: certificates.server.key };
  for (const clientCertificate of [wrongPassword, wrongKey]) {
    assert.throws(() => openChannel({ port: 1, clientCertificate }), (error: Error) => {
      assert.match(error.message, /^the client certificate for KME 2 cannot be used: /);
      assert.doesNotMatch(error.message, /geheim/);
      return true;
    });
  }
});

Deno.test("connections are kept: messages one after the other share one", async () => {
  await using peer = await TestPeer.start();
  using channel = openChannel({ port: peer.port });
  for (let i = 0; i < 5; i++) assert.equal((await channel.post("/", "{}")).kind, "answer");
  assert.equal(peer.requests.length, 5);
  assert.equal(peer.accepted, 1);
});

Deno.test("connections are bounded", async () => {
  const { promise: full, resolve: filled } = Promise.withResolvers<void>();
  const waiting: (() => void)[] = [];
  await using peer = await TestPeer.start((_request, response) => {
    waiting.push(() => response.end("OK"));
    if (waiting.length === MAX_SOCKETS) filled();
  });
  using channel = openChannel({ port: peer.port });
  const outcomes = Promise.all(Array.from({ length: 50 }, () => channel.post("/", "{}")));
  await full;
  peer.handler = ok;
  for (const go of waiting) go();
  assert.ok((await outcomes).every((outcome) => outcome.kind === "answer"));
  assert.equal(peer.accepted, MAX_SOCKETS);
});

Deno.test("two channels to the same address keep their identities apart", async () => {
  await using peer = await TestPeer.start();
  using first = openChannel({ port: peer.port });
  using second = openChannel({ port: peer.port, clientCertificate: certificates.secondCaller });
  using third = openChannel({ port: peer.port, serverCa: certificates.otherCa });
  await first.post("/", "{}");
  await second.post("/", "{}");
  assert.equal((await third.post("/", "{}")).kind, "unreached");
  assert.deepEqual(peer.requests.map((r) => r.clientName), ["test only caller", "test only second caller"]);
});

Deno.test("a refused connection is unreached; the log reports the change, not each message", async () => {
  await using recorded = await recordLog();
  const gone = await TestPeer.start();
  const { port } = gone;
  await gone[Symbol.asyncDispose]();
  using channel = openChannel({ port });
  for (let i = 0; i < 3; i++) {
    assert.deepEqual(await channel.post("/", "{}"), { kind: "unreached", reason: "connection refused" });
  }
  assert.equal(channel.health.up, false);
  assert.equal(channel.health.lastError, "connection refused");
  assert.ok(channel.health.since instanceof Date);
  await using _back = await TestPeer.start(ok, certificates.server, port);
  for (let i = 0; i < 3; i++) assert.equal((await channel.post("/", "{}")).kind, "answer");
  assert.equal(channel.health.up, true);
  assert.deepEqual(recorded.lines, [
    "warning: KME 2 is unreachable: connection refused",
    "info: KME 2 is reachable again",
  ]);
});

Deno.test("a host name that does not exist is unreached", async () => {
  using channel = openChannel({ port: 1, hostname: "no-such-host.invalid" });
  assert.equal((await channel.post("/", "{}")).kind, "unreached");
});

Deno.test("a listener that never starts TLS is unreached after the time limit", async () => {
  await using silent = await listen(() => {});
  using channel = openChannel({ port: silent.port, timeoutSeconds: 0.2 });
  assert.deepEqual(await channel.post("/", "{}"), {
    kind: "unreached",
    reason: "no connection within 0.2 s",
  });
});

Deno.test("a connection closed or garbage during the handshake is unreached", async () => {
  for (const act of [(s: Socket) => s.destroy(), (s: Socket) => s.end("HTTP/1.1 400 Bad Request\r\n\r\n")]) {
    await using rude = await listen((socket) => socket.once("data", () => act(socket)));
    using channel = openChannel({ port: rude.port });
    assert.equal((await channel.post("/", "{}")).kind, "unreached");
  }
});

Deno.test("a missing answer is unknown after the time limit", async () => {
  await using peer = await TestPeer.start(() => {});
  using channel = openChannel({ port: peer.port, timeoutSeconds: 1 });
  assert.deepEqual(await channel.post("/", "{}"), { kind: "unknown", reason: "no answer within 1 s" });
  assert.equal(peer.requests.length, 1);
  assert.equal(channel.health.up, false);
});

Deno.test("a peer that does not answer gets a message over a kept connection only once", async () => {
  await using peer = await TestPeer.start();
  using channel = openChannel({ port: peer.port, timeoutSeconds: 1 });
  await channel.post("/", "1");
  const closed = Promise.withResolvers<void>();
  peer.handler = (_request, _response, socket) => void socket.on("close", closed.resolve);
  assert.equal((await channel.post("/", "2")).kind, "unknown");
  await closed.promise;
  peer.handler = ok;
  assert.equal((await channel.post("/", "3")).kind, "answer");
  // "{}" is the probe.
  assert.deepEqual(peer.requests.map((request) => request.body), ["1", "2", "{}", "3"]);
});

Deno.test("an answer that ends with its connection is an answer", async () => {
  await using peer = await TestPeer.start((_request, _response, socket) => {
    socket.end("HTTP/1.1 400 Bad Request\r\n\r\nCannot activate key");
  });
  using channel = openChannel({ port: peer.port });
  for (let i = 0; i < 2; i++) {
    assert.deepEqual(await channel.post("/", "{}"), {
      kind: "answer",
      status: 400,
      body: "Cannot activate key",
    });
  }
  assert.equal(peer.accepted, 2);
});

Deno.test("an answer that stops half-way is unknown", async () => {
  await using peer = await TestPeer.start((_request, response, socket) => {
    response.writeHead(200, { "content-length": "100" });
    response.write("half", () => socket.destroy());
  });
  using channel = openChannel({ port: peer.port });
  assert.equal((await channel.post("/", "{}")).kind, "unknown");
  assert.equal(peer.requests.length, 1);
});

Deno.test("a new connection that breaks before the answer is unknown, and not tried again", async () => {
  await using peer = await TestPeer.start((_request, _response, socket) => socket.destroy());
  using channel = openChannel({ port: peer.port });
  assert.equal((await channel.post("/", "{}")).kind, "unknown");
  assert.equal(peer.requests.length, 1);
});

Deno.test("an answer that is not HTTP is unknown", async () => {
  await using peer = await TestPeer.start((_request, _response, socket) => {
    socket.end("SSH-2.0-something\r\n");
  });
  using channel = openChannel({ port: peer.port });
  assert.equal((await channel.post("/", "{}")).kind, "unknown");
});

Deno.test("a kept connection that breaks before the answer is replaced once", async () => {
  await using recorded = await recordLog();
  await using peer = await TestPeer.start();
  using channel = openChannel({ port: peer.port });
  let used: TLSSocket | undefined;
  peer.handler = (_request, response, socket) => {
    used = socket;
    response.end("OK");
  };
  await channel.post("/", "1");
  peer.handler = (_request, response, socket) => {
    if (socket === used) socket.destroy();
    else response.end("OK again");
  };
  assert.deepEqual(await channel.post("/", "2"), { kind: "answer", status: 200, body: "OK again" });
  assert.deepEqual(peer.requests.map((request) => request.body), ["1", "2", "2"]);
  assert.equal(peer.accepted, 2);
  assert.deepEqual(recorded.lines, []);
});

Deno.test("all kept connections stale at once: every message is answered", async () => {
  const together = 8;
  const waiting: (() => void)[] = [];
  await using peer = await TestPeer.start((_request, response) => {
    waiting.push(() => response.end("OK"));
    if (waiting.length === together) { for (const go of waiting) go(); }
  });
  using channel = openChannel({ port: peer.port });
  const burst = () => Promise.all(Array.from({ length: together }, () => channel.post("/", "{}")));
  assert.ok((await burst()).every((outcome) => outcome.kind === "answer"));
  assert.equal(peer.accepted, together);
  peer.handler = ok;
  // The client has not yet seen that they are closed.
  peer.server.closeAllConnections();
  assert.ok((await burst()).every((outcome) => outcome.kind === "answer"));
});

Deno.test("a message whose second connection breaks too is unknown", async () => {
  await using peer = await TestPeer.start();
  using channel = openChannel({ port: peer.port });
  await channel.post("/", "1");
  peer.handler = (_request, _response, socket) => socket.destroy();
  assert.equal((await channel.post("/", "2")).kind, "unknown");
  assert.deepEqual(peer.requests.map((request) => request.body), ["1", "2", "2"]);
});

Deno.test("a peer that stops while it has a message leaves it unknown, not unreached", async () => {
  await using peer = await TestPeer.start();
  using channel = openChannel({ port: peer.port });
  await channel.post("/", "1");
  peer.handler = (_request, _response, socket) => {
    peer.server.close();
    socket.destroy();
  };
  const outcome = await channel.post("/", "2");
  assert.deepEqual(outcome, { kind: "unknown", reason: "connection refused" });
});

Deno.test("a long answer is cut off", async () => {
  await using peer = await TestPeer.start(answer(200, "x".repeat(MAX_ANSWER_BYTES + 100_000)));
  using channel = openChannel({ port: peer.port });
  const outcome = await channel.post("/", "{}");
  assert.ok(outcome.kind === "answer" && outcome.status === 200);
  assert.equal(outcome.body.length, MAX_ANSWER_BYTES);
});

Deno.test("a server of another CA is unreached and gets no message", async () => {
  await using peer = await TestPeer.start();
  using channel = openChannel({ port: peer.port, serverCa: certificates.otherCa });
  assert.equal((await channel.post("/", "{}")).kind, "unreached");
  assert.equal(peer.requests.length, 0);
});

for (const hostname of ["localhost", "127.0.0.1"]) {
  Deno.test(`the server's name is verified: ${hostname}`, async () => {
    await using right = await TestPeer.start();
    using reached = openChannel({ port: right.port, hostname });
    assert.equal((await reached.post("/", "{}")).kind, "answer");

    await using wrong = await TestPeer.start(ok, certificates.serverElsewhere);
    using channel = openChannel({ port: wrong.port, hostname });
    const outcome = await channel.post("/", "{}");
    assert.ok(outcome.kind === "unreached");
    assert.match(outcome.reason, / is not for (localhost|127\.0\.0\.1);/);
    assert.equal(wrong.requests.length, 0);
  });
}

Deno.test("without a CA the system's trust store decides", async () => {
  await using peer = await TestPeer.start();
  using channel = openChannel({ port: peer.port, serverCa: null });
  assert.equal((await channel.post("/", "{}")).kind, "unreached");
  assert.equal(peer.requests.length, 0);
});

Deno.test("QKD_KME_SERVER_DANGER_INTER_KME_IGNORE_CERT=Y accepts any server and logs a warning", async () => {
  await using recorded = await recordLog();
  await using peer = await TestPeer.start(ok, certificates.serverElsewhere);
  const options = { port: peer.port, serverCa: certificates.otherCa };
  using dangerous = openChannel({ ...options, env: { QKD_KME_SERVER_DANGER_INTER_KME_IGNORE_CERT: "Y" } });
  assert.equal((await dangerous.post("/", "{}")).kind, "answer");
  assert.equal(peer.requests[0]?.clientName, "test only caller");
  assert.equal(recorded.lines.length, 1);
  assert.match(recorded.lines[0]!, /^warning: DANGER: the server certificate of KME 2 is NOT verified/);
  using careful = openChannel({ ...options, env: { QKD_KME_SERVER_DANGER_INTER_KME_IGNORE_CERT: "N" } });
  assert.equal((await careful.post("/", "{}")).kind, "unreached");
});

Deno.test("a peer that closes connections without an answer gets no message until it answers a probe", async () => {
  await using peer = await TestPeer.start((_request, _response, socket) => socket.destroy());
  using channel = openChannel({ port: peer.port });
  assert.equal((await channel.post("/keys/activate", "1")).kind, "unknown");
  const both = await Promise.all([channel.post("/keys/activate", "2"), channel.post("/keys/activate", "3")]);
  assert.deepEqual(both.map((outcome) => outcome.kind), ["unreached", "unreached"]);
  assert.deepEqual(peer.requests.map((request) => `${request.path} ${request.body}`), [
    "/keys/activate 1",
    "/ {}",
  ]);
  peer.handler = answer(404, "Not found");
  assert.equal((await channel.post("/keys/activate", "4")).kind, "answer");
  assert.equal((await channel.post("/keys/activate", "5")).kind, "answer");
  assert.deepEqual(peer.requests.slice(2).map((request) => request.body), ["{}", "4", "5"]);
});

Deno.test("messages for a peer that was down and does not answer a probe do not wait for the whole time limit", async () => {
  await using peer = await TestPeer.start((_request, _response, socket) => socket.destroy());
  using channel = openChannel({ port: peer.port, timeoutSeconds: 600 });
  assert.equal((await channel.post("/keys/activate", "1")).kind, "unknown");
  const held = Promise.withResolvers<() => void>();
  peer.handler = (_request, response) => held.resolve(() => response.end("OK"));
  for (const message of ["2", "3"]) {
    assert.deepEqual(await channel.post("/keys/activate", message), {
      kind: "unreached",
      reason: "no answer to a probe within 2 s",
    });
  }
  assert.deepEqual(peer.requests.map(({ body }) => body), ["1", "{}"], "one probe for all messages");
  peer.handler = ok;
  (await held.promise)();
  await eventually(() => channel.health.up);
  assert.equal((await channel.post("/keys/activate", "4")).kind, "answer");
});

Deno.test("a peer that refuses our certificate gets no message", async () => {
  await using peer = await TestPeer.start();
  using channel = openChannel({ port: peer.port, clientCertificate: certificates.unknownCa });
  // In TLS 1.3 the refusal arrives after the message was written: the outcome is unknown until a probe has failed.
  const burst = await Promise.all([channel.post("/", "1"), channel.post("/", "2")]);
  assert.deepEqual(burst.map((outcome) => outcome.kind), ["unknown", "unknown"]);
  assert.equal((await channel.post("/", "3")).kind, "unreached");
  assert.equal(peer.requests.length, 0);
});

testWith(
  findProgram("/usr/bin/openssl", "/usr/local/bin/openssl", "/opt/homebrew/bin/openssl"),
  "openssl is not installed",
  "an alert about our certificate that comes after the message was written leaves it unknown",
  async (openssl) => {
    // A server that sends an alert with the reason; node:https servers only close the connection here.
    await using dir = await makeTempDir();
    const file = async (name: string, text: string) => {
      await Deno.writeTextFile(`${dir.path}/${name}`, text);
      return `${dir.path}/${name}`;
    };
    const { cert, key } = certificates.server;
    const port = freePort();
    const files = {
      "-cert": await file("cert.pem", cert),
      "-key": await file("key.pem", key),
      "-CAfile": await file("ca.pem", certificates.ca),
    };
    const options = ["-Verify", "1", "-verify_return_error", "-tls1_3", "-www"];
    await using _server = new Deno.Command(openssl, {
      args: ["s_server", "-accept", `127.0.0.1:${port}`, ...options, ...Object.entries(files).flat()],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    await eventually(
      () => Deno.connect({ hostname: "127.0.0.1", port }).then((c) => (c.close(), true), () => false),
      { what: "the server" },
    );
    // The connection stays open after the alert: the alert could get lost with its end.
    await using relay = await listen((socket) => {
      const onward = net.connect(port, "127.0.0.1").on("error", () => {});
      onward.on("data", (chunk) => socket.write(chunk));
      socket.on("data", (chunk) => onward.write(chunk)).on("close", () => onward.destroy());
    });
    using channel = openChannel({ port: relay.port, clientCertificate: certificates.unknownCa });
    const outcome = await channel.post("/", "1");
    assert.ok(outcome.kind === "unknown", outcome.kind);
    assert.match(outcome.reason, /alert/);
    const next = await channel.post("/", "2");
    assert.ok(next.kind === "unreached", next.kind);
    assert.match(next.reason, /alert/);
  },
);

Deno.test("closing ends messages under way, connecting or sent, refuses later ones, and says nothing of the peer's health", async () => {
  const arrived = Promise.withResolvers<void>();
  await using silent = await listen(() => arrived.resolve());
  const connecting = openChannel({ port: silent.port });
  const first = connecting.post("/", "{}");
  await arrived.promise;
  connecting.close();
  assert.equal((await first).kind, "unreached");
  assert.equal(connecting.health.up, undefined);

  const received = Promise.withResolvers<void>();
  await using peer = await TestPeer.start(() => received.resolve());
  const waiting = openChannel({ port: peer.port });
  const second = waiting.post("/", "{}");
  await received.promise;
  waiting.close();
  assert.equal((await second).kind, "unknown");
  assert.equal(waiting.health.up, undefined);
  assert.equal((await waiting.post("/", "{}")).kind, "unreached");
});
