/** Certificate revocation lists: what is read, what is in force, and what is wrong with them. */
import assert from "node:assert/strict";
import { parseCertificate } from "../../src/x509/certificate.ts";
import { CrlSet, parseCrl } from "../../src/x509/crl.ts";
import { revokedIn } from "../../src/x509/revocations.ts";
import { basicConstraints, bytes, crl, der, extension, forge, keyUsage, pemOf, sequence } from "./forge.ts";

const DAY = 86_400_000;
const now = Date.now();
const text = (value: string) => new TextEncoder().encode(value);

function makeCa(commonName: string, bits = 0x06) {
  const ca = forge({ commonName, extensions: [basicConstraints(true), keyUsage(bits)] });
  return { ...ca, certificate: parseCertificate(ca.der) };
}

const ca = makeCa("CA A (for tests)");
const otherCa = makeCa("CA B (for tests)");
const leaf = parseCertificate(forge({ issuer: ca, serial: bytes(0, 0xf1) }).der);
const sameSerial = parseCertificate(forge({ issuer: otherCa, serial: bytes(0xf1) }).der);
const authorities = [ca.certificate, otherCa.certificate];

function isRevoked(set: CrlSet, certificate = leaf, issuer = ca, trusted = authorities): boolean {
  return revokedIn([certificate, issuer.certificate], set.revocations(trusted)) === certificate;
}

const kinds = (set: CrlSet, trusted = authorities) => set.problems(trusted, now).map(({ kind }) => kind);

Deno.test("a serial number is revoked for its own CA only, whatever its octets, in PEM and DER", () => {
  const list = crl(ca, { serials: [bytes(5), bytes(0xf1)] });
  for (const file of [list, text(`text before\n${pemOf("X509 CRL", list)}`)]) {
    const set = new CrlSet();
    set.read(file);
    assert.ok(isRevoked(set));
    assert.ok(!isRevoked(set, sameSerial, otherCa));
    assert.deepEqual(set.problems(authorities, now), []);
    assert.equal(Math.round((set.nextUpdate(authorities)! - now) / DAY), 1);
  }
});

Deno.test("several CRLs in a file", () => {
  const set = new CrlSet();
  set.read(text(pemOf("X509 CRL", crl(ca)) + pemOf("X509 CRL", crl(otherCa, { serials: [bytes(0xf1)] }))));
  assert.ok(!isRevoked(set));
  assert.ok(isRevoked(set, sameSerial, otherCa));
  assert.deepEqual(kinds(set), []);
});

Deno.test("a CRL that the CA has not signed, or whose CA may not sign CRLs, revokes nothing and is a problem", () => {
  const forged = { subject: ca.subject, key: forge().key };
  const set = new CrlSet();
  set.read(crl(forged, { serials: [bytes(0xf1)] }));
  assert.ok(!isRevoked(set));
  assert.deepEqual(kinds(set), ["not_of_ca"]);
  const mute = makeCa("CA C (for tests)", 0x04);
  set.read(crl(mute));
  assert.deepEqual(kinds(set, [mute.certificate]), ["not_of_ca"]);
  const damaged = crl(ca, { serials: [bytes(0xf1)] });
  damaged[damaged.length - 1]! ^= 1;
  set.read(damaged);
  assert.deepEqual(kinds(set), ["not_of_ca"]);
});

Deno.test("the last usable CRL stays in force whatever comes after it", () => {
  const set = new CrlSet();
  set.read(crl(ca, { serials: [bytes(0xf1)] }));
  assert.ok(isRevoked(set));
  const forged = { subject: ca.subject, key: forge().key };
  const old = { thisUpdate: new Date(now - 9 * DAY), nextUpdate: new Date(now - 8 * DAY) };
  const files: Record<string, [Uint8Array, string]> = {
    "no CRL": [text("nothing here"), "unreadable"],
    empty: [new Uint8Array(), "unreadable"],
    "cut off": [crl(ca).subarray(0, 50), "unreadable"],
    "no base64": [text("-----BEGIN X509 CRL-----\n***\n-----END X509 CRL-----\n"), "unreadable"],
    "of another key": [crl(forged), "not_of_ca"],
    "out of date and older": [crl(ca, old), "older"],
  };
  for (const [what, [file, kind]] of Object.entries(files)) {
    set.read(file);
    assert.ok(isRevoked(set), what);
    assert.deepEqual(kinds(set), [kind], what);
  }
  set.unreadable("the file is gone");
  assert.ok(isRevoked(set));
  set.read(crl(otherCa));
  assert.ok(isRevoked(set), "the file has none of this CA any more");
  set.read(crl(ca));
  assert.ok(!isRevoked(set), "a new one counts");
  assert.deepEqual(kinds(set), []);
});

Deno.test("an expired CRL stays in force and is reported as a problem", () => {
  const set = new CrlSet();
  set.read(crl(ca, { serials: [bytes(0xf1)], nextUpdate: new Date(now - DAY / 2) }));
  assert.ok(isRevoked(set));
  assert.deepEqual(kinds(set), ["expired"]);
  set.read(crl(ca, { serials: [bytes(0xf1)], nextUpdate: null }));
  assert.deepEqual(kinds(set), []);
});

Deno.test("a CA that is trusted later finds its CRL", () => {
  const set = new CrlSet();
  set.read(crl(ca, { serials: [bytes(0xf1)] }));
  assert.ok(!isRevoked(set, leaf, ca, [otherCa.certificate]));
  assert.deepEqual(kinds(set, [otherCa.certificate]), ["not_of_ca"]);
  assert.ok(isRevoked(set));
});

Deno.test("an older CRL never replaces a newer one, and is a problem", () => {
  const number = (value: number) => extension("2.5.29.20", der(0x02, bytes(value)));
  const thisUpdate = new Date(now - DAY);
  const newer = crl(ca, { serials: [bytes(0xf1)], thisUpdate, extensions: [number(7)] });
  const older: Record<string, Uint8Array> = {
    "an earlier date": crl(ca, { thisUpdate: new Date(now - 2 * DAY) }),
    "an earlier date and a higher number": crl(ca, {
      thisUpdate: new Date(now - 2 * DAY),
      extensions: [number(8)],
    }),
    "a lower number": crl(ca, { thisUpdate, extensions: [number(6)] }),
    "a lower number and a later date": crl(ca, { thisUpdate: new Date(now), extensions: [number(6)] }),
  };
  for (const [what, old] of Object.entries(older)) {
    const copiedBack = new CrlSet();
    copiedBack.read(newer);
    assert.ok(isRevoked(copiedBack));
    copiedBack.read(old);
    assert.ok(isRevoked(copiedBack), what);
    assert.deepEqual(kinds(copiedBack), ["older"], what);
    copiedBack.read(newer);
    assert.deepEqual(kinds(copiedBack), [], what);

    const both = new CrlSet();
    both.read(text(pemOf("X509 CRL", newer) + pemOf("X509 CRL", old)));
    assert.ok(isRevoked(both), `${what}, new and old in a file`);
    assert.deepEqual(kinds(both), ["older"], what);
  }
  const set = new CrlSet();
  set.read(newer);
  assert.ok(isRevoked(set));
  set.read(crl(ca, { thisUpdate, extensions: [number(8)] }));
  assert.ok(!isRevoked(set), "a newer one counts");
  assert.deepEqual(kinds(set), []);
});

Deno.test("a CRL of a limited or wider scope is not supported: the one in force stays, with a problem", () => {
  const set = new CrlSet();
  set.read(crl(ca, { serials: [bytes(0xf1)] }));
  assert.ok(isRevoked(set));
  const point = (tag: number, value: number[]) =>
    extension("2.5.29.28", sequence(der(tag, bytes(...value))), 0xff);
  const limits: Record<string, Uint8Array> = {
    onlyContainsUserCerts: point(0x81, [0xff]),
    onlyContainsCACerts: point(0x82, [0xff]),
    onlySomeReasons: point(0x83, [6, 0x40]),
    indirectCRL: point(0x84, [0xff]),
    deltaCRLIndicator: extension("2.5.29.27", der(0x02, bytes(1)), 0xff),
  };
  for (const [what, limit] of Object.entries(limits)) {
    set.read(crl(ca, { thisUpdate: new Date(now), extensions: [limit] }));
    assert.ok(isRevoked(set), what);
    const [problem, ...others] = set.problems(authorities, now);
    assert.equal(problem?.kind, "unsupported", what);
    assert.match(problem.message, new RegExp(`^the CRL is not supported: .*${what}`));
    assert.deepEqual(others, []);
  }
});

Deno.test("delta and indirect CRLs, and what is not a CRL, are not read", () => {
  const number = der(0x02, bytes(1));
  const direct = extension("2.5.29.28", sequence(der(0xa0)), 0xff);
  assert.equal(parseCrl(crl(ca, { extensions: [extension("2.5.29.20", number), direct] })).serials.size, 0);
  const indirect = extension("2.5.29.28", sequence(der(0x84, bytes(0xff))), 0xff);
  assert.throws(() => parseCrl(crl(ca, { extensions: [indirect] })), RangeError);
  assert.throws(() => parseCrl(crl(ca, { extensions: [extension("2.5.29.27", number, 0xff)] })), RangeError);
  assert.throws(() => parseCrl(leaf.der), RangeError);
});

Deno.test("a CRL that was in force before the start stays in force when the file has an older one, or none", () => {
  const newer = crl(ca, { serials: [bytes(0xf1)], thisUpdate: new Date(now - DAY) });
  const forged = crl({ subject: ca.subject, key: forge().key }, { thisUpdate: new Date(now) });
  const files: Record<string, [Uint8Array, string[]]> = {
    older: [crl(ca, { thisUpdate: new Date(now - 2 * DAY) }), ["older"]],
    none: [text("nothing here"), ["unreadable"]],
    "the same": [newer, []],
  };
  for (const [what, [file, problems]] of Object.entries(files)) {
    const set = new CrlSet([text("damaged"), forged, newer]);
    set.read(file);
    assert.ok(isRevoked(set), what);
    assert.deepEqual(kinds(set), problems, what);
  }
  const set = new CrlSet([newer]);
  set.read(crl(ca, { thisUpdate: new Date(now) }));
  assert.ok(!isRevoked(set), "a newer one counts");
  assert.deepEqual(kinds(set), []);
});
