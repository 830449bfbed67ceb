import assert from "node:assert/strict";
import { proxyFor } from "../../src/tls/proxy.ts";
import { startProxy } from "./test_forward_proxy.ts";
import { certificates, ok, openChannel, TestPeer } from "./test_peer.ts";

Deno.test("messages go through the proxy of the environment, over kept connections", async () => {
  await using proxy = await startProxy();
  await using peer = await TestPeer.start();
  const env = { HTTPS_PROXY: `http://us%20er:p%40ss@127.0.0.1:${proxy.port}` };
  using channel = openChannel({ port: peer.port, env });
  for (let i = 0; i < 3; i++) {
    assert.deepEqual(await channel.post("/", "{}"), { kind: "answer", status: 200, body: "OK" });
  }
  assert.deepEqual(proxy.seen, [{
    authority: `localhost:${peer.port}`,
    authorization: `Basic ${btoa("us er:p@ss")}`,
  }]);
  assert.equal(peer.requests[0]?.clientName, "test only caller");
});

Deno.test("through a proxy too the server's name is verified, and names are looked up by the proxy", async () => {
  await using proxy = await startProxy();
  await using peer = await TestPeer.start();
  const env = { ALL_PROXY: `127.0.0.1:${proxy.port}` };
  using channel = openChannel({ port: peer.port, hostname: "peer.example", env });
  const outcome = await channel.post("/", "{}");
  assert.ok(outcome.kind === "unreached");
  assert.match(outcome.reason, / is not for peer\.example;/);
  await using elsewhere = await TestPeer.start(ok, certificates.serverElsewhere);
  using byAddress = openChannel({ port: elsewhere.port, hostname: "127.0.0.1", env });
  assert.equal((await byAddress.post("/", "{}")).kind, "unreached");
  assert.equal(proxy.seen.length, 2);
  assert.equal(peer.requests.length + elsewhere.requests.length, 0);
});

Deno.test("ignoreSystemProxySettings and NO_PROXY bypass the proxy", async () => {
  await using proxy = await startProxy();
  await using peer = await TestPeer.start();
  const https_proxy = `http://127.0.0.1:${proxy.port}`;
  using ignoring = openChannel({ port: peer.port, env: { https_proxy }, ignoreSystemProxySettings: true });
  using exempt = openChannel({ port: peer.port, env: { https_proxy, NO_PROXY: "localhost" } });
  assert.equal((await ignoring.post("/", "{}")).kind, "answer");
  assert.equal((await exempt.post("/", "{}")).kind, "answer");
  assert.equal(proxy.seen.length, 0);
});

Deno.test("an https:// proxy that the system does not trust is refused, and not bypassed", async () => {
  await using proxy = await startProxy(undefined, false, certificates.server);
  await using peer = await TestPeer.start();
  using channel = openChannel({ port: peer.port, env: { HTTPS_PROXY: `https://localhost:${proxy.port}` } });
  const outcome = await channel.post("/", "{}");
  assert.ok(outcome.kind === "unreached");
  assert.match(outcome.reason, /^proxy localhost:\d+: .*not trusted/);
  assert.deepEqual(proxy.seen, []);
  assert.equal(peer.accepted, 0);
});

Deno.test("an answer of a proxy is never treated as the peer's answer", async () => {
  for (const status of [407, 502]) {
    await using proxy = await startProxy(status);
    await using peer = await TestPeer.start();
    const env = { HTTPS_PROXY: `http://user:geheim@127.0.0.1:${proxy.port}` };
    using channel = openChannel({ port: peer.port, env });
    assert.deepEqual(await channel.post("/", "{}"), {
      kind: "unreached",
      reason: `the proxy 127.0.0.1:${proxy.port} refused the connection with status ${status}`,
    });
    assert.equal(peer.accepted, 0);
  }
});

Deno.test("a proxy that is down or never answers is unreached", async () => {
  await using peer = await TestPeer.start();
  const gone = await startProxy();
  await gone[Symbol.asyncDispose]();
  using noProxy = openChannel({ port: peer.port, env: { HTTPS_PROXY: `http://127.0.0.1:${gone.port}` } });
  assert.deepEqual(await noProxy.post("/", "{}"), {
    kind: "unreached",
    reason: `proxy 127.0.0.1:${gone.port}: connection refused`,
  });

  await using silent = await startProxy(undefined, true);
  const env = { HTTPS_PROXY: `http://127.0.0.1:${silent.port}` };
  using channel = openChannel({ port: peer.port, env, timeoutSeconds: 0.2 });
  assert.equal((await channel.post("/", "{}")).kind, "unreached");
  const patient = openChannel({ port: peer.port, env });
  const outcome = patient.post("/", "{}");
  await silent.arrived;
  patient.close();
  assert.equal((await outcome).kind, "unreached");
});

Deno.test("an unsupported kind of proxy is reported, not bypassed", async () => {
  await using peer = await TestPeer.start();
  for (const HTTPS_PROXY of ["socks5://user:geheim@127.0.0.1:1080", "http://user:geheim@[bad"]) {
    using channel = openChannel({ port: peer.port, env: { HTTPS_PROXY } });
    const outcome = await channel.post("/", "{}");
    assert.ok(outcome.kind === "unreached");
    assert.match(outcome.reason, /^the system's proxy setting /);
    assert.doesNotMatch(outcome.reason, /geheim/);
  }
  assert.equal(peer.accepted, 0);
});

Deno.test("which proxy the environment names", () => {
  const through = (env: Record<string, string>, hostname = "kme.example.org", port = 8443) =>
    proxyFor({ hostname, port }, (name) => env[name])?.href;
  assert.equal(through({}), undefined);
  assert.equal(through({ HTTPS_PROXY: " ", https_proxy: "" }), undefined);
  assert.equal(through({ HTTP_PROXY: "http://p:1" }), undefined);
  assert.equal(through({ HTTPS_PROXY: "http://p:1", ALL_PROXY: "http://q:2" }), "http://p:1/");
  assert.equal(through({ all_proxy: "q:2" }), "http://q:2/");
  assert.equal(through({ https_proxy: "https://p" }), "https://p/");

  const exempt = (NO_PROXY: string, hostname?: string, port?: number) =>
    through({ HTTPS_PROXY: "http://p:1", NO_PROXY }, hostname, port) === undefined;
  for (
    const list of [
      "*",
      "kme.example.org",
      "KME.Example.org",
      "example.org",
      ".example.org",
      "*.example.org",
      "a.b, example.org",
      "a.b example.org",
      "kme.example.org:8443",
    ]
  ) assert.ok(exempt(list), list);
  for (
    const list of ["", ",", "ample.org", "other.kme.example.org", "kme.example.org:443", "10.0.0.0/8", "."]
  ) {
    assert.ok(!exempt(list), list);
  }
  assert.ok(exempt("10.0.0.0/8", "10.1.2.3"));
  assert.ok(!exempt("10.0.0.0/8", "11.1.2.3"));
  assert.ok(!exempt("10.0.0.0/99", "10.1.2.3"));
  assert.ok(exempt("10.1.2.3", "10.1.2.3"));
  assert.ok(exempt("10.1.2.3:8443", "10.1.2.3"));
  assert.ok(!exempt("2.3", "10.1.2.3"));
  assert.ok(exempt("fd00::/8", "fd00::1"));
  assert.ok(exempt("[fd00::1]:8443", "fd00::1"));
  assert.ok(exempt("fd00:0::1", "fd00::1"));
  assert.ok(!exempt("fd00::/8", "10.1.2.3"));
});
