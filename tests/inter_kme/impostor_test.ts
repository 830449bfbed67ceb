/**
 * Servers that are not the neighbour. The runtime's TLS accepts some certificates by the name of their issuer alone, and asks
 * for no proof of the key, so each of these is offered by a server that has neither the CA's key nor, where it matters, the
 * certificate's.
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { parseCertificate } from "../../src/x509/certificate.ts";
import { eventually } from "../harness/eventually.ts";
import { certificates, ok, openChannel, type Pem, TestPeer } from "./test_peer.ts";
import {
  altNames,
  basicConstraints,
  bytes,
  CLIENT,
  der,
  dns,
  extension,
  forge,
  ip,
  issuerOf,
  keyUsage,
  type Parts,
  sequence,
  SERVER,
  usage,
} from "../x509/forge.ts";

const ca = issuerOf(certificates.caPem);
/** The CA's name with a key that anyone can make. */
const impostor = issuerOf({ cert: certificates.ca, key: forge().pem.key });

const server = [basicConstraints(false), usage(SERVER), altNames(dns("localhost"), ip(127, 0, 0, 1))];
/** A key that is not the one in the certificate. */
const otherKey = forge().pem.key;

async function outcome(identity: Pem, hostname = "localhost") {
  await using peer = await TestPeer.start(ok, identity);
  using channel = openChannel({ port: peer.port, hostname, timeoutSeconds: 5 });
  const result = await channel.post("/keys/activate", "{}");
  assert.equal(peer.requests.length, result.kind === "answer" ? 1 : 0);
  return result;
}

async function refused(what: string, identity: Pem, reason: RegExp, hostname?: string) {
  const result = await outcome(identity, hostname);
  assert.equal(result.kind, "unreached", what);
  assert.match("reason" in result ? result.reason : "", reason, what);
}

Deno.test("a genuine certificate is accepted by name and by address", async () => {
  const { pem } = forge({ issuer: ca, extensions: server });
  assert.equal((await outcome(pem)).kind, "answer");
  assert.equal((await outcome(pem, "127.0.0.1")).kind, "answer");
});

Deno.test("version 1 by anyone, in the name of the CA", async () => {
  const parts: Parts = { issuer: impostor, version: null, extensions: null, commonName: "localhost" };
  await refused("version 1", forge(parts).pem, /version 1 certificate; issue it with version 3 extensions/);
  const genuine = forge({ ...parts, issuer: ca });
  await refused("of the CA", genuine.pem, /version 1 certificate/);
});

Deno.test("certificates that are badly encoded, by anyone and by the CA itself", async () => {
  const faults: Record<string, Parts> = {
    "text after the extensions": { trailing: [der(0x04, bytes(1))] },
    "a subject's unique identifier": { uniqueIds: [der(0x82, bytes(0, 1))] },
    "a version of two octets": { version: der(0x02, bytes(0, 2)) },
    "no extension in the list": { extensions: [] },
    "a boolean of 1": { extensions: [...server.slice(1), extension("2.5.29.19", sequence(), 0x01)] },
    "alternative names that are no DER": {
      extensions: [basicConstraints(false), usage(SERVER), extension("2.5.29.17", bytes(0xde, 0xad, 0xbe))],
    },
    "text after the alternative names": {
      extensions: [
        ...server.slice(0, 2),
        extension("2.5.29.17", Uint8Array.from([...sequence(dns("localhost")), 0])),
      ],
    },
    "a garbage extension": {
      extensions: [...server, sequence(bytes(0xff, 0xff, 0xff))],
    },
    "four parts in an extension": {
      extensions: [
        ...server,
        sequence(der(0x06, bytes(0x2a, 3)), der(0x01, bytes(0)), der(0x04), der(0x04)),
      ],
    },
    "an integer instead of the criticality": {
      extensions: [...server, sequence(der(0x06, bytes(0x2a, 3)), der(0x02, bytes(0)), der(0x04))],
    },
    "garbage where CRLs are named": { extensions: [...server, extension("2.5.29.31", bytes(0xff, 0xff))] },
  };
  for (const [what, parts] of Object.entries(faults)) {
    for (const issuer of [impostor, ca]) {
      const { cert } = forge({ extensions: server, ...parts, issuer }).pem;
      await refused(what, { cert, key: otherKey }, /badly encoded|reset|closed/);
    }
  }
});

Deno.test("names, uses and dates", async () => {
  const with_ = (...extensions: Uint8Array[]) => forge({ issuer: ca, extensions }).pem;
  const [constraints, serverUse] = [basicConstraints(false), usage(SERVER)];
  const names = altNames(dns("localhost"), ip(127, 0, 0, 1));
  await refused("another name", with_(constraints, serverUse, altNames(dns("other.example"))), /localhost/);
  const common = forge({ issuer: ca, commonName: "localhost", extensions: [constraints, serverUse] });
  await refused("a common name is no host name", common.pem, /localhost/);
  const inName = with_(constraints, serverUse, altNames(dns("127.0.0.1")));
  await refused("an address as a DNS name", inName, /127\.0\.0\.1/, "127.0.0.1");
  await refused(
    "another address",
    with_(constraints, serverUse, altNames(ip(127, 0, 0, 2))),
    /127/,
    "127.0.0.1",
  );
  await refused(
    "a client's",
    with_(constraints, usage(CLIENT), names),
    /not for TLS servers/,
  );
  await refused("a CA's", with_(basicConstraints(true), serverUse, names), /a CA certificate instead/);
  await refused("only for CRLs", with_(constraints, keyUsage(0x02), serverUse, names), /key usage/);
  const past = { notBefore: new Date(2020, 1), notAfter: new Date(2021, 1) };
  await refused("expired", forge({ issuer: ca, extensions: server, ...past }).pem, /expired/);
  await refused("of another CA", forge({ issuer: impostor, extensions: server }).pem, /not trusted/);
});

Deno.test("a server without the certificate's key", async () => {
  const { cert } = forge({ issuer: ca, extensions: server }).pem;
  await refused("genuine certificate, another key", { cert, key: otherKey }, /./);
});

Deno.test("a kept connection is not used after the server's certificate has expired", async () => {
  // Certificates have whole seconds.
  const notAfter = new Date(Math.ceil(Date.now() / 1000) * 1000 + 3000);
  await using peer = await TestPeer.start(ok, forge({ issuer: ca, notAfter, extensions: server }).pem);
  using channel = openChannel({ port: peer.port });
  for (let i = 0; i < 2; i++) assert.equal((await channel.post("/", "{}")).kind, "answer");
  assert.equal(peer.accepted, 1);
  await eventually(() => Date.now() > notAfter.getTime(), { what: "the certificate has expired" });
  const result = await channel.post("/", "{}");
  assert.ok(result.kind === "unreached" && /is expired since/.test(result.reason), JSON.stringify(result));
  assert.equal(peer.requests.length, 2);
});

Deno.test("a server whose certificate is revoked: its connections are closed and no new one is made", async () => {
  const issuer = parseCertificate(new X509Certificate(certificates.ca).raw);
  const identity = forge({ issuer: ca, serial: bytes(0x5e), extensions: server }).pem;
  await using peer = await TestPeer.start(ok, identity);
  using channel = openChannel({ port: peer.port });
  let serials = new Set<bigint>();
  channel.useRevocations((authorities) => {
    assert.deepEqual(authorities.map(({ fingerprint }) => fingerprint), [issuer.fingerprint]);
    return [{ issuerFingerprint: issuer.fingerprint, serials }];
  });
  for (let i = 0; i < 2; i++) assert.equal((await channel.post("/", "{}")).kind, "answer");
  assert.equal(peer.accepted, 1);
  serials = new Set([0x5en]);
  channel.revocationsChanged();
  const result = await channel.post("/", "{}");
  assert.ok(result.kind === "unreached" && /is revoked/.test(result.reason), JSON.stringify(result));
  assert.equal(peer.requests.length, 2);
  channel.renew({ clientCertificate: certificates.caller, serverCa: certificates.ca });
  assert.equal((await channel.post("/", "{}")).kind, "unreached", "after a reload, too");
});

Deno.test("IGNORE_CERT=Y accepts any server, and says so", async () => {
  const identity = forge({ issuer: impostor, version: null, extensions: null }).pem;
  await using peer = await TestPeer.start(ok, identity);
  using channel = openChannel({
    port: peer.port,
    env: { QKD_KME_SERVER_DANGER_INTER_KME_IGNORE_CERT: "Y" },
  });
  assert.equal((await channel.post("/keys/activate", "{}")).kind, "answer");
});
