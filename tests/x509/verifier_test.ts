/** The front's own verification, without the TLS layer in front of it. */
import assert from "node:assert/strict";
import "reflect-metadata";
import * as x509 from "@peculiar/x509";
import { X509Certificate } from "node:crypto";
import { parseCertificate } from "../../src/x509/certificate.ts";
import { CertificateRefused } from "../../src/x509/refusal.ts";
import { ClientVerifier } from "../../src/x509/verifier.ts";
import { authority, client, issue, type TestCertificate } from "../tls/authority.ts";

const DAY = 86_400_000;
const root = await authority("root");
const der = (certificate: TestCertificate) => new Uint8Array(certificate.certificate.rawData);

function verify(
  verifier: ClientVerifier,
  leaf: TestCertificate | Uint8Array,
  options: { others?: TestCertificate[]; now?: number; fullHandshake?: boolean } = {},
) {
  return verifier.verify({
    leaf: leaf instanceof Uint8Array ? leaf : der(leaf),
    others: () => (options.others ?? []).map(der),
    fullHandshake: options.fullHandshake ?? false,
  }, options.now ?? Date.now());
}

function refuses(reason: RegExp, ...args: Parameters<typeof verify>) {
  assert.throws(
    () => verify(...args),
    (error) => error instanceof CertificateRefused && reason.test(error.message),
  );
}

Deno.test("an identity: serial, fingerprint, subject", async () => {
  const leaf = await client(root, { name: "alice", serial: "00f0112233" });
  const { identity } = verify(new ClientVerifier(root.cert), leaf);
  assert.equal(identity.serial, 0xf0112233n);
  assert.equal(
    identity.fingerprint,
    new X509Certificate(leaf.cert).fingerprint256.replaceAll(":", "").toLowerCase(),
  );
  assert.equal(identity.subject, "CN=alice (for tests)");
});

Deno.test("another CA, a forged issuer, another key's signature", async () => {
  const verifier = new ClientVerifier(root.cert);
  refuses(/not trusted/, verifier, await client(await authority("other root")));
  refuses(/not trusted/, verifier, await client(await authority("root")));
  refuses(/not trusted/, verifier, await issue(undefined, { name: "alice" }));
  const forger = await authority("root");
  refuses(/not trusted/, verifier, await client(forger), { others: [forger] });
  const leaf = der(await client(root));
  leaf[leaf.length - 1]! ^= 1;
  refuses(/not trusted|badly encoded/, verifier, leaf);
  refuses(/badly encoded/, verifier, leaf.subarray(0, 100));
});

Deno.test("dates are checked each time, those of the CAs too", async () => {
  const now = Date.now();
  const shortLived = await authority("short-lived", { notAfter: new Date(now + DAY / 2) });
  const intermediate = await issue(root, { name: "middle", isCa: true, notAfter: new Date(now + DAY / 4) });
  const verifier = new ClientVerifier(root.cert + "\n" + shortLived.cert);
  const [direct, ofShortLived, ofMiddle] = [
    await client(root),
    await client(shortLived),
    await client(intermediate),
  ];
  const others = [intermediate];
  verify(verifier, direct);
  verify(verifier, ofShortLived);
  verify(verifier, ofMiddle, { others });
  refuses(/middle.* is expired/, verifier, ofMiddle, { others, now: now + DAY / 3 });
  verify(verifier, ofShortLived, { now: now + DAY / 3 });
  refuses(/short-lived.* is expired/, verifier, ofShortLived, { now: now + DAY * 0.75 });
  verify(verifier, direct, { now: now + DAY * 0.75 });
  refuses(/client.* is expired/, verifier, direct, { now: now + 2 * DAY });
  refuses(/client.* is not yet valid/, verifier, direct, { now: now - 2 * DAY });
});

Deno.test("only CAs issue, and only as deep as they may", async () => {
  const verifier = new ClientVerifier(root.cert);
  const leaf = await client(root);
  refuses(/not trusted/, verifier, await client(leaf), { others: [leaf] });
  const middle = await issue(root, { name: "middle", isCa: true, pathLength: 0 });
  const deep = await issue(middle, { name: "deep", isCa: true });
  verify(verifier, await client(middle), { others: [middle] });
  refuses(/not trusted/, verifier, await client(middle));
  refuses(/not trusted/, verifier, await client(deep), { others: [deep, middle] });
  const mute = await issue(undefined, {
    name: "mute",
    extensions: [new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true)],
  });
  assert.throws(() => new ClientVerifier(mute.cert), /not a CA/);
});

Deno.test("certificates for servers, of CAs, with unknown critical extensions", async () => {
  const verifier = new ClientVerifier(root.cert);
  refuses(
    /not for TLS clients/,
    verifier,
    await client(root, { usages: [x509.ExtendedKeyUsage.serverAuth] }),
  );
  verify(verifier, await client(root, { usages: undefined }));
  refuses(/a CA certificate/, verifier, await client(root, { isCa: true }));
  const extension = (critical: boolean) => [new x509.Extension("1.2.3.4", critical, new Uint8Array([5, 0]))];
  refuses(/1\.2\.3\.4 is not understood/, verifier, await client(root, { extensions: extension(true) }));
  verify(verifier, await client(root, { extensions: extension(false) }));
});

Deno.test("name constraints are the TLS layer's: refused on a resumed session", async () => {
  // permittedSubtrees: dNSName "example.org"
  const constraint = new TextEncoder().encode("example.org");
  const value = new Uint8Array([0x30, 17, 0xa0, 15, 0x30, 13, 0x82, 11, ...constraint]);
  const middle = await issue(root, {
    name: "constrained",
    isCa: true,
    extensions: [new x509.Extension("2.5.29.30", true, value)],
  });
  const leaf = await client(middle);
  const verifier = new ClientVerifier(root.cert);
  refuses(/name constraints/, verifier, leaf, { others: [middle] });
  verify(verifier, leaf, { others: [middle], fullHandshake: true });
  verify(verifier, leaf);
});

Deno.test("serials from DER", async () => {
  const serials: [string, bigint][] = [
    ["00f0112233", 0xf0112233n],
    ["f0112233", 0xf0112233n],
    ["0001", 1n],
    ["00" + "ff".repeat(19), 2n ** 152n - 1n],
  ];
  for (const [octets, serial] of serials) {
    const certificate = await issue(undefined, { serial: octets });
    assert.equal(parseCertificate(der(certificate)).serial, serial, octets);
  }
  assert.throws(() => parseCertificate(new Uint8Array([0x30, 0x80, 0, 0])), RangeError);
  assert.throws(() => parseCertificate(new Uint8Array()), RangeError);
});
