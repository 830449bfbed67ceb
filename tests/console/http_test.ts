/** What the operator's listener answers over plain HTTP. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import http from "node:http";
import { connect } from "node:net";
import { kmeStatusSchema } from "../../src/metrics/kme_status.ts";
import { eventually } from "../harness/eventually.ts";
import { first, follow, serve } from "./served.ts";

/** A request with headers that `fetch` would not send. */
function ask(
  origin: string,
  path: string,
  options: { method?: string; headers?: Record<string, string> } = {},
): Promise<{ status: number; headers: http.IncomingHttpHeaders; text: string }> {
  return new Promise((resolve, reject) => {
    const request = http.request(`${origin}${path}`, { agent: false, ...options }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("end", () =>
        resolve({
          status: response.statusCode!,
          headers: response.headers,
          text: Buffer.concat(chunks).toString(),
        }));
      response.on("error", reject);
    });
    request.on("error", reject);
    request.end();
  });
}

Deno.test("/messages has the recent events, oldest first, and no more than a thousand", async () => {
  await using served = await serve();
  const { origin, events } = served;
  assert.deepEqual(await (await fetch(`${origin}/messages`)).json(), []);
  const before = Date.now();
  events.publish(() => ({ text: "SAE 1 requested a key to communicate with 3" }));
  events.publish(() => ({ text: "SAE 3 requested key x (from 1)" }));
  const response = await fetch(`${origin}/messages`);
  assert.equal(response.headers.get("content-type"), "application/json");
  const messages = await response.json();
  assert.deepEqual(messages.map(({ message }: { message: string }) => message), [
    "[Alice] SAE 1 requested a key to communicate with 3",
    "[Alice] SAE 3 requested key x (from 1)",
  ]);
  for (const message of messages) {
    assert.deepEqual(Object.keys(message), ["message", "datetime"]);
    assert.match(message.datetime, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    assert.ok(Math.abs(Date.parse(message.datetime) - before) < 10_000);
  }
  for (let i = 0; i < 2500; i++) events.publish(() => ({ text: `event ${i}` }));
  const kept = await (await fetch(`${origin}/messages`)).json();
  assert.equal(kept.length, 1000);
  assert.equal(kept[0].message, "[Alice] event 1500");
  assert.equal(kept.at(-1).message, "[Alice] event 2499");
});

Deno.test("/status has the documented form", async () => {
  await using served = await serve();
  const { origin, world, watch } = served;
  watch.counts.ingestion.get("2")!.last = { at: new Date(1_700_000_000_000), file: "a.cor" };
  world.health = { up: false, since: new Date(1_700_000_001_000), lastError: "connection refused" };
  const status = kmeStatusSchema.strict().parse(await (await fetch(`${origin}/status`)).json());
  const { uptime, version, certificates, since, delivery, ...rest } = status;
  assert.ok(Math.abs(Date.parse(since) - Date.now()) < 10_000);
  assert.equal(delivery.links, "some");
  assert.deepEqual(delivery.problems.map(({ severity, link, what }) => [severity, link, what]).slice(0, 1), [
    ["error", "2", "KME 2 does not answer: connection refused"],
  ]);
  assert.ok(uptime >= 0 && uptime < 60);
  assert.match(version, /^\d+\.\d+\.\d+/);
  assert.deepEqual(rest, {
    kme: "1",
    nickname: "Alice",
    ready: true,
    reason: null,
    links: [
      { kme: "1", free: 10, max: 1_000_000, used: true, servedAgain: 0, lastIngestion: null, files: [] },
      {
        kme: "2",
        free: 20,
        max: 1_000_000,
        used: true,
        servedAgain: 0,
        lastIngestion: { at: "2023-11-14T22:13:20.000Z", file: "a.cor" },
        files: [],
      },
    ],
    relayed: [],
    saes: [{ sae: "1", lastSeen: null, certificateDaysLeft: null }],
    audit: { chain: 1, sequence: 7, head: "5".repeat(64), failure: null, dropped: 0 },
    burnt: 0,
    keysWaiting: 3,
    peers: [{ kme: "2", up: false, since: "2023-11-14T22:13:21.000Z", lastError: "connection refused" }],
    storeEncrypted: false,
    entropy: 7.5,
  });
  assert.deepEqual(certificates.map(({ member, use, daysLeft }) => [member, use, daysLeft > 1000]), [
    ["this_kme.saes_https_interface.server_cert_path", "server", false],
    ["this_kme.saes_https_interface.ca_client_cert_path", "client CA", true],
    ["this_kme.kmes_https_interface.server_cert_path", "server", false],
    ["this_kme.kmes_https_interface.ca_client_cert_path", "client CA", true],
    ["other_kmes[0].https_client_authentication_certificate", "client", false],
    ["other_kmes[0].inter_kme_ca_cert_path", "server CA", true],
  ]);
  // Certificates of tests are valid for two days.
  for (const { daysLeft, use } of certificates) if (!use.endsWith("CA")) assert.equal(daysLeft, 1);
});

Deno.test("the certificates are those of the configuration now", async () => {
  await using served = await serve();
  const { facts, world } = served;
  const before = (await facts.get()).certificates;
  const other = await serve();
  world.config = other.world.config;
  await other.console.close();
  const after = (await facts.get()).certificates;
  assert.equal(after.length, before.length);
  assert.notEqual(after[0]!.serial, before[0]!.serial);
});

Deno.test("ready needs a running program and a database that answers and records", async () => {
  await using served = await serve();
  const { origin, world } = served;
  const ready = async () => {
    const response = await fetch(`${origin}/health/ready`);
    return [response.status, await response.json()];
  };
  assert.deepEqual(await ready(), [200, { ready: true, reason: null }]);
  world.phase = "starting";
  assert.deepEqual(await ready(), [503, { ready: false, reason: "starting" }]);
  world.phase = "stopping";
  assert.deepEqual(await ready(), [503, { ready: false, reason: "stopping" }]);
  world.phase = "running";
  world.database = "fails";
  assert.deepEqual(await ready(), [503, { ready: false, reason: "the database does not answer" }]);
  world.database = "answers";
  assert.deepEqual(await ready(), [200, { ready: true, reason: null }]);
  world.obstacle = "the database does not record";
  assert.deepEqual(await ready(), [503, { ready: false, reason: "the database does not record" }]);
  world.obstacle = undefined;
  world.database = "hangs";
  assert.deepEqual(await ready(), [503, { ready: false, reason: "the database does not answer" }]);
  const live = await fetch(`${origin}/health/live`);
  assert.deepEqual([live.status, await live.json()], [200, { live: true }]);
  const { links, entropy } = await (await fetch(`${origin}/status`)).json();
  assert.deepEqual([links[0].free, entropy], [null, null]);
});

Deno.test("every answer has a policy that lets nothing but the console's own files run", async () => {
  await using served = await serve();
  const { origin } = served;
  for (const path of ["/", "/console.js", "/messages", "/metrics", "/nothing"]) {
    const response = await fetch(`${origin}${path}`);
    await response.body?.cancel();
    const policy = response.headers.get("content-security-policy")!;
    assert.match(policy, /default-src 'none'.*script-src 'self'.*frame-ancestors 'none'/, path);
    assert.doesNotMatch(policy, /unsafe|\*|https?:|data:/);
    assert.equal(response.headers.get("x-content-type-options"), "nosniff");
    assert.equal(response.headers.get("cache-control"), "no-store");
    assert.equal(response.headers.get("access-control-allow-origin"), null);
  }
});

Deno.test("the page's files are all there, and name no other host", async () => {
  await using served = await serve();
  const { origin } = served;
  const html = await (await fetch(`${origin}/`)).text();
  assert.match(html, /^<!doctype html>/i);
  assert.doesNotMatch(html, /<script(?![^>]*src=)|\son\w+=|style=/);
  const wanted = [...html.matchAll(/(?:src|href)="([a-z.]+)"/g)].map(([, path]) => `/${path}`);
  assert.ok(wanted.length >= 3);
  const seen = new Set<string>();
  while (wanted.length > 0) {
    const path = wanted.pop()!;
    if (seen.has(path)) continue;
    seen.add(path);
    const response = await fetch(`${origin}${path}`);
    assert.equal(response.status, 200, path);
    const text = await response.text();
    if (path.endsWith(".js")) {
      assert.match(response.headers.get("content-type")!, /^text\/javascript/);
      for (const [, imported] of text.matchAll(/from "\.\/([a-z]+\.js)"/g)) wanted.push(`/${imported}`);
      assert.doesNotMatch(
        text,
        /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function/,
      );
    }
    assert.doesNotMatch(text.replaceAll("http://www.w3.org/2000/svg", ""), /https?:\/\//, path);
  }
  assert.ok(seen.has("/chart.js"), [...seen].join());
});

Deno.test("the listener is read-only", async () => {
  await using served = await serve();
  const { origin } = served;
  for (const method of ["POST", "PUT", "DELETE", "OPTIONS"]) {
    const { status, headers } = await ask(origin, "/status", { method });
    assert.deepEqual([status, headers.allow], [405, "GET, HEAD"], method);
  }
  for (const path of ["/", "/status", "/health/live"]) {
    const get = await ask(origin, path);
    const head = await ask(origin, path, { method: "HEAD" });
    assert.equal(head.status, 200);
    assert.equal(head.text, "");
    assert.equal(head.headers["content-type"], get.headers["content-type"]);
    if (path !== "/status") assert.equal(head.headers["content-length"], get.headers["content-length"]);
  }
  assert.equal(
    (await ask(origin, "/events", { method: "HEAD" })).headers["content-type"],
    "text/event-stream",
  );
  assert.equal(served.console.clients, 0);
});

Deno.test("of a body little is read, and the connection is closed", async () => {
  await using served = await serve();
  const size = 200 * 2 ** 20;
  for (const [method, status] of [["POST", 405], ["GET", 200], ["HEAD", 200]] as const) {
    const { hostname, port } = new URL(served.origin);
    const socket = connect({ host: hostname, port: Number(port) });
    let text = "";
    let sent = 0;
    const chunk = new Uint8Array(2 ** 18);
    const pump = () => {
      while (sent < size && !socket.destroyed) {
        sent += chunk.length;
        if (!socket.write(chunk)) return void socket.once("drain", pump);
      }
    };
    socket.setEncoding("latin1").on("data", (part: string) => text += part).on("error", () => {});
    socket.write(`${method} /health/live HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${size}\r\n\r\n`);
    pump();
    await new Promise((resolve) => socket.once("close", resolve));
    assert.match(text, new RegExp(`^HTTP/1\\.1 ${status} .*\r\nconnection: close\r\n`, "is"));
    // What is on the way in the buffers of both ends comes on top of a megabyte.
    assert.ok(sent < 24 * 2 ** 20, `${method}: ${sent / 2 ** 20} MiB were sent`);
  }
});

Deno.test("it is not the SAE interface", async () => {
  await using served = await serve();
  for (const path of ["/api/v1/keys/3/status", "/api/v1/keys/3/enc_keys", "/keys/activate"]) {
    assert.equal((await ask(served.origin, path)).status, 404);
  }
});

Deno.test("on a loopback address only its own names are answered", async () => {
  await using served = await serve();
  const { origin } = served;
  const status = async (host: string) => (await ask(origin, "/status", { headers: { host } })).status;
  for (
    const host of ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "127.1.2.3", "[::1]:80", "localhost:65535"]
  ) {
    assert.equal(await status(host), 200, host);
  }
  const others = [
    "attacker.example",
    "localhost.attacker.example",
    "127.0.0.1.attacker.example",
    "10.0.0.1",
  ];
  for (const host of [...others, "attacker.example@localhost", "localhost/x", "[::2]", "0.0.0.0"]) {
    assert.equal(await status(host), 403, host);
  }
});

Deno.test("on another address its names are not known, and any is answered", async () => {
  await using served = await serve({ listen: { hostname: "0.0.0.0", port: 0 } });
  const { status } = await ask(served.origin, "/health/live", { headers: { host: "kme-1.example:8080" } });
  assert.equal(status, 200);
});

Deno.test("requests of another site's page are refused, a link from there works", async () => {
  await using served = await serve();
  const status = async (site: string, mode: string, path = "/events") => {
    const headers = { "sec-fetch-site": site, "sec-fetch-mode": mode };
    return (await ask(served.origin, path, { headers, method: "HEAD" })).status;
  };
  assert.equal(await status("cross-site", "no-cors"), 403);
  assert.equal(await status("same-site", "cors"), 403);
  assert.equal(await status("same-origin", "cors"), 200);
  assert.equal(await status("none", "navigate", "/"), 200);
  assert.equal(await status("cross-site", "navigate", "/"), 200);
});

Deno.test("a stream starts with all that is known, and continues with changes", async () => {
  await using served = await serve();
  const { origin, events, world, watch } = served;
  events.publish(() => ({ text: "before" }));
  const stop = new AbortController();
  const stream = follow(origin, stop.signal);
  const begin = (await stream.next()).value!;
  assert.equal(begin.name, "begin");
  assert.equal(begin.data.from, 0);
  assert.deepEqual(begin.data.messages.map(({ message }: { message: string }) => message), [
    "[Alice] before",
  ]);
  kmeStatusSchema.parse(begin.data.status);

  events.publish(() => ({ text: "after" }));
  const told = await first(stream, ({ name }) => name === "messages");
  assert.ok(told.data.messages.some(({ message }: { message: string }) => message === "[Alice] after"));
  assert.equal(told.data.from + told.data.messages.length, 2);

  const again = follow(origin, stop.signal);
  world.free["2"] = 7;
  watch.keys.delivered("2", 100);
  const changed = await first(again, ({ name, data }) => name === "status" && data.live.delivered > 0);
  assert.equal(changed.data.status.links[1].free, 7);
  const point = await first(again, ({ data }) => data.fine !== undefined && data.fine.free["2"] === 7);
  assert.deepEqual(point.data.fine.free, { 1: 10, 2: 7 });
  stop.abort();
  await eventually(() => served.console.clients === 0, { what: "no clients" });
});

Deno.test("of a flood of events a page gets the newest, and knows how many it missed", async () => {
  await using served = await serve();
  const { origin, events } = served;
  const stop = new AbortController();
  const stream = follow(origin, stop.signal);
  await stream.next();
  for (let i = 0; i < 5000; i++) events.publish(() => ({ text: `event ${i}` }));
  const { data } = await first(stream, ({ name }) => name === "messages");
  assert.equal(data.messages.length, 200);
  assert.equal(data.from, 4800);
  assert.equal(data.messages.at(-1).message, "[Alice] event 4999");
  stop.abort();
});

Deno.test("pages are bounded in number", async () => {
  await using served = await serve({ maxClients: 2 });
  const { origin } = served;
  const stop = new AbortController();
  await follow(origin, stop.signal).next();
  await follow(origin, stop.signal).next();
  const refused = await fetch(`${origin}/events`);
  assert.equal(refused.status, 503);
  assert.equal(refused.headers.get("retry-after"), "10");
  await refused.body?.cancel();
  stop.abort();
  await eventually(() => served.console.clients === 0, { what: "room again" });
  const again = new AbortController();
  await follow(origin, again.signal).next();
  again.abort();
});

Deno.test("streams end at once when the KME stops, the rest is still answered", async () => {
  await using served = await serve();
  const { origin, world } = served;
  const stream = follow(origin);
  await stream.next();
  world.phase = "stopping";
  served.console.endStreams();
  for await (const _ of stream) { /* what was on its way */ }
  assert.equal((await fetch(`${origin}/events`).then((r) => (r.body?.cancel(), r))).status, 503);
  assert.equal((await fetch(`${origin}/health/ready`).then((r) => (r.body?.cancel(), r))).status, 503);
  assert.equal((await fetch(`${origin}/health/live`).then((r) => (r.body?.cancel(), r))).status, 200);
});

Deno.test("a client that does not read is disconnected, and does not delay the others", async () => {
  await using served = await serve({ tickMs: 5 });
  const { origin, console, events } = served;
  const slow = await Deno.connect({ hostname: "127.0.0.1", port: console.address.port });
  await slow.write(new TextEncoder().encode("GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n"));
  await eventually(() => console.clients === 1);
  const stop = new AbortController();
  const quick = follow(origin, stop.signal);
  await quick.next();
  let read = 0;
  const reading = (async () => {
    for await (const _ of quick) read++;
  })().catch(() => {});
  const long = "x".repeat(4000);
  await eventually(() => {
    for (let i = 0; i < 50; i++) events.publish(() => ({ text: long }));
    return console.clients === 1;
  }, { timeout: 60_000, what: "the slow client is gone" });
  const before = read;
  await eventually(() => read > before, { what: "the other is still served" });
  stop.abort();
  await reading;
  slow.close();
});

Deno.test("a port in use is reported in one line", async () => {
  await using served = await serve();
  const { port } = served.console.address;
  await assert.rejects(serve({ listen: { hostname: "127.0.0.1", port } }), (error: Error) => {
    assert.match(error.message, new RegExp(`^console: cannot listen on 127\\.0\\.0\\.1:${port}: [^\\n]+$`));
    return true;
  });
});
