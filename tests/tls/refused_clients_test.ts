/** Refused clients get the reason, are logged and counted, and reach no handler. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createPrivateKey } from "node:crypto";
import type { RefusedClient } from "../../src/tls/client_refusal.ts";
import type { FrontHandler, FrontOptions } from "../../src/tls/front.ts";
import { findProgram, testWith } from "../harness/installed.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { recordLog } from "../inter_kme/test_peer.ts";
import {
  basicConstraints,
  bytes,
  CLIENT,
  der,
  forge,
  issuerOf,
  pemOf,
  SERVER,
  usage,
} from "../x509/forge.ts";
import { client, issue, type TestCertificate } from "./authority.ts";
import {
  alice,
  ask,
  bob,
  ca,
  get,
  otherCa,
  resumingClient,
  secure,
  serverCertificate,
  tcp,
  tls,
  until,
  whoAmI,
  withFront,
} from "./front_harness.ts";

const DAY = 86_400_000;
const GET = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/** Options of a front that records refusals and requests. */
function recording(options: Partial<FrontOptions> = {}) {
  const refused: RefusedClient[] = [];
  let handled = 0;
  const handler: FrontHandler = (request, connection) => {
    handled++;
    return (options.handler ?? whoAmI)(request, connection);
  };
  return {
    refused,
    get handled() {
      return handled;
    },
    options: { ...options, handler, onRefused: (client: RefusedClient) => void refused.push(client) },
  };
}

const past = { notBefore: new Date(Date.now() - 3 * DAY), notAfter: new Date(Date.now() - 2 * DAY) };
const issuer = issuerOf(ca);

const faults: Record<string, readonly [Pick<TestCertificate, "cert" | "key"> | undefined, string, RegExp]> = {
  "no certificate": [undefined, "no_certificate", /^no client certificate; set up the client/],
  "of another CA": [
    await client(otherCa),
    "unknown_ca",
    /issued by CN=CA B \(for tests\), which is not trusted/,
  ],
  expired: [await client(ca, past), "expired", /^CN=client \(for tests\) is expired since .*; renew it/],
  "not yet valid": [
    await client(ca, { notBefore: new Date(Date.now() + DAY / 2) }),
    "not_yet_valid",
    /is not yet valid, only from /,
  ],
  "a server's": [
    await client(ca, { usages: [SERVER] }),
    "wrong_usage",
    /is not for TLS clients/,
  ],
  "a CA's": [await client(ca, { isCa: true }), "ca_certificate", /a CA certificate instead of a client's/],
  "self-signed": [await issue(undefined, { name: "alice" }), "unknown_ca", /not trusted/],
};

for (const maxVersion of ["TLSv1.2", "TLSv1.3"] as const) {
  Deno.test(`${maxVersion}: each refused client gets 401 with the reason, and is counted by it`, async () => {
    const record = recording({ maxVersion });
    await withFront(record.options, async (front, port) => {
      for (const [what, [certificate, reason, message]] of Object.entries(faults)) {
        record.refused.length = 0;
        const answer = await ask(port, certificate);
        assert.equal(answer?.status, 401, what);
        assert.match(JSON.parse(answer!.body).message, message, what);
        assert.ok(answer!.body.endsWith("}\n"), what);
        assert.deepEqual(record.refused.map((client) => client.reason), [reason], what);
        assert.match(record.refused[0]!.message, /^client 127\.0\.0\.1:\d+: /);
      }
      assert.equal(record.handled, 0);
      await until(() => front.connections === 0, "nothing is left");
      assert.equal(await get(port, alice), "a11ce");
    });
  });
}

Deno.test("the log has who, why and what to do, a few lines a minute", async () => {
  await using log = await recordLog();
  const eve = await client(otherCa, { name: "eve", serial: "0e0e" });
  await withFront({ name: "SAE" }, async (_front, port) => {
    for (let i = 0; i < 20; i++) await ask(port, eve);
    await ask(port, undefined);
  });
  const lines = log.lines.filter((line) => line.startsWith("warning: SAE: client 127.0.0.1:"));
  assert.ok(lines.length <= 6, lines.join("\n"));
  assert.match(
    lines[0]!,
    /refused: CN=eve.*issued by CN=CA B.*not trusted; have it issued.*issuer CN=CA B.*serial 0e0e\)$/s,
  );
  assert.ok(lines.some((line) => line.includes("no client certificate")), "another reason has its own limit");
});

Deno.test("long names in a refused certificate are cut in the log", async () => {
  await using log = await recordLog();
  const long = forge({ commonName: "x".repeat(5000) });
  await withFront({ name: "SAE" }, async (_front, port) => void await ask(port, long.pem));
  const line = log.lines.find((line) => line.startsWith("warning: SAE: client 127.0.0.1:"))!;
  assert.match(line, /certificate CN=x{196}…, issuer CN=x{196}…, serial/);
  assert.ok(line.length < 1200, line);
});

Deno.test("a refused client gets one answer, whatever it sends", async () => {
  const record = recording();
  await withFront(record.options, async (front, port) => {
    const eve = await client(otherCa);
    const pipelining = await secure(port, eve);
    pipelining.send(GET + GET + GET);
    await pipelining.whenClosed;
    assert.equal(pipelining.text.match(/HTTP\/1\.1 401 Unauthorized/g)?.length, 1);
    assert.match(pipelining.text, /connection: close/);
    const head = await secure(port, eve);
    head.send("HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    await head.whenClosed;
    assert.match(head.text, /401 Unauthorized[^{]*\r\n\r\n$/);
    const endless = await secure(port, eve);
    endless.send(`POST / HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n`);
    const chunk = "x".repeat(65_536);
    let sent = 0;
    const timer = setInterval(() => {
      endless.send(chunk);
      sent += chunk.length;
    }, 1);
    await endless.whenClosed;
    clearInterval(timer);
    assert.match(endless.text, /^HTTP\/1\.1 401 /);
    assert.ok(sent < 64 * 2 ** 20, `${sent}`);
    assert.equal(record.handled, 0);
    await until(() => front.connections === 0, "nothing is left");
  });
});

Deno.test("a session of a refused client opens nothing when it is resumed", () => {
  const record = recording();
  return withFront(record.options, async (_front, port) => {
    const eve = await client(otherCa);
    using resuming = resumingClient(eve);
    for (let i = 0; i < 3; i++) assert.equal(await resuming.get(port), undefined);
    assert.deepEqual(record.refused.map(({ reason }) => reason), ["unknown_ca", "unknown_ca", "unknown_ca"]);
    assert.equal(record.handled, 0);
  });
});

Deno.test("refused clients in any number do not keep others from connecting", () =>
  withFront({ maxHandshakes: 20 }, async (front, port) => {
    const eve = await client(otherCa);
    const wires = await Promise.all(Array.from({ length: 250 }, () => secure(port, eve)));
    assert.ok(front.connections <= 220, `${front.connections}`);
    assert.equal(await get(port, alice), "a11ce");
    for (const wire of wires) wire.socket.destroy();
    await until(() => front.connections === 0, "nothing is left");
  }));

Deno.test("a certificate that expires while its connection is busy: the next request gets 401", async () => {
  let now = Date.now();
  const record = recording({ date: () => now, lingerTimeout: 60_000 });
  await withFront(record.options, async (front, port) => {
    const wire = await secure(port, alice);
    for (let i = 0; i < 3; i++) {
      wire.text = "";
      wire.send(GET);
      await wire.expect(/a11ce/);
    }
    wire.text = "";
    now += 2 * DAY;
    wire.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nok");
    await wire.expect(/is expired since/);
    assert.match(wire.text, /^HTTP\/1\.1 401 .*connection: close/s);
    assert.equal(record.handled, 3);
    assert.deepEqual(record.refused.map(({ reason }) => reason), ["expired"]);
    wire.socket.end();
    await wire.whenClosed;
    await until(() => front.connections === 0, "nothing is left");
  });
});

Deno.test("reload: connections of clients whose CA is gone are closed, others stay", () => {
  const record = recording({ clientCa: `${ca.cert}\n${otherCa.cert}` });
  return withFront(record.options, async (front, port) => {
    const eve = await client(otherCa, { serial: "0e0e" });
    const idle = await secure(port, eve);
    const stays = await secure(port, bob);
    idle.send(GET);
    stays.send(GET);
    await Promise.all([idle.expect(/e0e/), stays.expect(/b0b/)]);
    const material = { serverCert: serverCertificate.cert, serverKey: serverCertificate.key };
    front.reload({ ...material, clientCa: ca.cert });
    await idle.whenClosed;
    assert.equal(stays.closed, false);
    stays.text = "";
    stays.send(GET);
    await stays.expect(/b0b/);
    assert.deepEqual(record.refused.map(({ reason }) => reason), ["unknown_ca"]);
    stays.socket.destroy();
  });
});

Deno.test("a client that hangs up during the handshake is not counted as refused; one that does not trust the server is", () => {
  const record = recording();
  return withFront(record.options, async (front, port) => {
    const gone = await tcp(port);
    gone.socket.write(bytes(0x16, 0x03, 0x01, 0x02, 0x00));
    await until(() => front.handshakes === 1, "it is there");
    gone.reset();
    await until(() => front.connections === 0, "it is gone");
    assert.deepEqual(record.refused, []);
    const distrusting = tls(port, alice, { ca: otherCa.cert });
    await distrusting.whenClosed;
    await until(() => front.connections === 0, "it is gone");
    assert.deepEqual(record.refused.map(({ reason }) => reason), ["handshake"]);
  });
});

Deno.test("a handshake that fails is reported with the client's address", () => {
  const record = recording();
  return withFront(record.options, async (_front, port) => {
    const plain = await tcp(port);
    const { localPort } = plain.socket;
    plain.socket.write(GET);
    await until(() => record.refused.length === 1, "it is refused");
    assert.ok(record.refused[0]!.message.startsWith(`TLS handshake with 127.0.0.1:${localPort}: `));
    plain.socket.destroy();
  });
});

const curl = findProgram("/usr/bin/curl", "/usr/local/bin/curl");

/** What curl, which takes any certificate, gets from a port. */
async function askWithCurl(program: string, port: number, { cert, key }: { cert: string; key: string }) {
  await using directory = await makeTempDir();
  const write = async (name: string, text: string) => {
    await Deno.writeTextFile(`${directory.path}/${name}`, `${text}\n`);
    return `${directory.path}/${name}`;
  };
  const files = ["--cacert", await write("ca", ca.cert), "--cert", await write("cert", cert)];
  const { code, stdout } = await new Deno.Command(program, {
    args: ["-sS", ...files, "--key", await write("key", key), `https://localhost:${port}/`],
    stdout: "piped",
    stderr: "piped",
  }).output();
  return { code, body: new TextDecoder().decode(stdout) };
}

const unparsable: typeof faults = {
  "version 1": [
    forge({ issuer, version: null, extensions: null }).pem,
    "version",
    /version 1 certificate; issue it with version 3 extensions/,
  ],
  "badly encoded": [
    forge({
      issuer,
      extensions: [basicConstraints(false), usage(CLIENT)],
      uniqueIds: [der(0x82, bytes(0, 1))],
    }).pem,
    "unreadable",
    /^badly encoded certificate/,
  ],
};

testWith(curl, "curl is not installed", "certificates that TLS itself cannot parse", async (program) => {
  for (const maxVersion of ["TLSv1.2", "TLSv1.3"] as const) {
    for (const [what, [certificate, reason, message]] of Object.entries(unparsable)) {
      const record = recording({ maxVersion });
      await withFront(record.options, async (_front, port) => {
        const { body } = await askWithCurl(program, port, certificate!);
        // Where the runtime ends the handshake there is no answer.
        if (body !== "") assert.match(JSON.parse(body).message, message, what);
        assert.equal(record.refused.length, 1, what);
        assert.match(record.refused[0]!.reason, new RegExp(`^(${reason}|handshake)$`), what);
        if (what === "version 1") assert.notEqual(body, "");
        assert.equal(record.handled, 0);
      });
    }
  }
});

testWith(
  curl,
  "curl is not installed",
  "a certificate whose key the client does not have fails in the handshake",
  async (program) => {
    // OpenSSL compares the public halves only: this key has Alice's and signs with Bob's private one.
    const [own, other] = [alice, bob].map(({ key }) => createPrivateKey(key).export({ format: "jwk" }));
    const octets = (text: string | undefined) => Buffer.from(text!, "base64url");
    const point = Buffer.concat([bytes(0, 4), octets(own!.x), octets(own!.y)]);
    const key = der(
      0x30,
      der(0x02, bytes(1)),
      der(0x04, octets(other!.d)),
      der(0xa0, der(0x06, bytes(0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7))),
      der(0xa1, der(0x03, point)),
    );
    for (const maxVersion of ["TLSv1.2", "TLSv1.3"] as const) {
      const record = recording({ maxVersion });
      await withFront(record.options, async (_front, port) => {
        const forged = { cert: alice.cert, key: pemOf("EC PRIVATE KEY", key) };
        const { code, body } = await askWithCurl(program, port, forged);
        assert.notEqual(code, 0);
        assert.equal(body, "");
        assert.equal(record.handled, 0);
        assert.deepEqual(record.refused.map(({ reason }) => reason), ["handshake"]);
      });
    }
  },
);
