/** Certificates and private keys: whether they can be read, are in date, and belong together. Pure. */
import { Buffer } from "node:buffer";
import { createPrivateKey, type KeyObject } from "node:crypto";
import tls from "node:tls";
import type { Parsed } from "../domain/parsed.ts";
import { DAY_MS, formatTime } from "../domain/time.ts";
import { type Certificate, parseCertificate } from "./certificate.ts";
import { formatPem, pemBlocks, pemSections } from "./pem.ts";

/** Warn when a certificate expires within this time. */
const SOON = 30 * DAY_MS;

/** Curves that the TLS of this program has; others would fail at every handshake. */
const CURVES = ["prime256v1", "P-256", "secp384r1", "P-384", "secp521r1", "P-521"];
const MIN_RSA_BITS = 2048;

/** A certificate with its key. */
export interface Credentials {
  /** PEM, intermediates after it. */
  readonly cert: string;
  /** PEM, not encrypted. */
  readonly key: string;
  readonly certificates: readonly Certificate[];
}

/** Certificates of a PEM file, at least one. */
export interface Certificates {
  /** Only the certificates, without what else was in the file. */
  readonly pem: string;
  readonly certificates: readonly Certificate[];
}

/** Reads all certificates of a PEM file. */
export function parseCertificates(bytes: Uint8Array): Parsed<Certificates> {
  const text = new TextDecoder().decode(bytes);
  const sections = pemSections(text).filter(({ label }) => label === "CERTIFICATE");
  if (sections.length === 0) {
    const der = bytes[0] === 0x30
      ? "; it looks like DER, convert it to PEM"
      : "; a PEM file has -----BEGIN CERTIFICATE-----";
    return { problem: `the file holds no certificate in PEM${der}` };
  }
  const certificates: Certificate[] = [];
  for (const [index, section] of sections.entries()) {
    try {
      certificates.push(parseCertificate(pemBlocks(section.text, section.label)[0]!));
    } catch {
      return {
        problem: `${nameOf(index, sections.length)} cannot be read; put a whole X.509 certificate there`,
      };
    }
  }
  return {
    value: { pem: certificates.map(({ der }) => formatPem("CERTIFICATE", der)).join(""), certificates },
  };
}

/** What the dates of certificates say at a moment. */
export interface DateCheck {
  readonly problem?: string;
  readonly warning?: string;
}

/**
 * A server's or client's certificate with its intermediates: one that is out of date spoils the chain.
 */
export function checkChainDates(certificates: readonly Certificate[], now: Date): DateCheck {
  let warning: string | undefined;
  for (const [index, certificate] of certificates.entries()) {
    const state = dateState(certificate, now);
    const name = nameOf(index, certificates.length);
    if (state.outOfDate !== undefined) return { problem: `${name} ${state.outOfDate}` };
    if (state.soon !== undefined) warning ??= `${name} ${state.soon}`;
  }
  return { warning };
}

/** CA certificates. Any of them may verify a certificate, so it is a mistake only if none of them is valid now. */
export function checkCaDates(certificates: readonly Certificate[], now: Date): DateCheck {
  const states = certificates.map((certificate) => dateState(certificate, now));
  const bad = states.findIndex((state) => state.outOfDate !== undefined);
  if (bad >= 0) {
    const text = `${nameOf(bad, states.length)} ${states[bad]!.outOfDate}`;
    return states.every((state) => state.outOfDate !== undefined) ? { problem: text } : { warning: text };
  }
  const soon = states.findIndex((state) => state.soon !== undefined);
  return soon < 0 ? {} : { warning: `${nameOf(soon, states.length)} ${states[soon]!.soon}` };
}

function dateState(certificate: Certificate, now: Date): { outOfDate?: string; soon?: string } {
  const [from, to] = [new Date(certificate.notBefore), new Date(certificate.notAfter)];
  if (now < from) {
    return {
      outOfDate: `is not valid before ${
        formatTime(from.getTime())
      }; wait until then, check the clock, or put another one there`,
    };
  }
  if (now > to) return { outOfDate: `expired on ${formatTime(to.getTime())}; put a new one there` };
  const left = to.getTime() - now.getTime();
  if (left > SOON) return {};
  const days = Math.floor(left / DAY_MS);
  return { soon: `expires on ${formatTime(to.getTime())}, in ${days} day${days === 1 ? "" : "s"}` };
}

function nameOf(index: number, count: number): string {
  return count === 1 ? "the certificate" : `certificate ${index + 1} of ${count} in the file`;
}

/** A private key as it is in the file, and opened. */
export interface PrivateKey {
  /** PEM of the key alone, not encrypted. */
  readonly pem: string;
  readonly key: KeyObject;
}

/**
 * Reads the private key of a PEM file: PKCS#8, SEC1 or PKCS#1.
 *
 * @param password Opens an encrypted key; absent where the configuration has no place for one.
 */
export function parsePrivateKey(bytes: Uint8Array, password?: string): Parsed<PrivateKey> {
  const text = new TextDecoder().decode(bytes);
  const block = pemSections(text).find(({ label }) => /^([A-Z]+ )?PRIVATE KEY$/.test(label))?.text;
  if (block === undefined) {
    return { problem: "the file holds no private key in PEM; put one there, as PKCS#8, SEC1 or PKCS#1" };
  }
  const encrypted = /^-----BEGIN ENCRYPTED |^Proc-Type: 4,ENCRYPTED/m.test(block);
  if (encrypted && !password) {
    const right = password === undefined
      ? "decrypt it and protect the file by its mode (0600)"
      : "write its password, or decrypt the key";
    return { problem: `the private key is encrypted; ${right}` };
  }
  let key: KeyObject;
  try {
    key = createPrivateKey(encrypted ? { key: block, passphrase: password } : block);
  } catch {
    return {
      problem: encrypted
        ? "the private key cannot be decrypted with the password; write the right one"
        : "the private key cannot be read; put a whole key there, as PKCS#8, SEC1 or PKCS#1",
    };
  }
  const problem = problemOfKind(key);
  if (problem !== undefined) return { problem };
  const pem = encrypted ? key.export({ type: "pkcs8", format: "pem" }) as string : `${block}\n`;
  return { value: { pem, key } };
}

function problemOfKind(key: KeyObject): string | undefined {
  const type = key.asymmetricKeyType;
  const { namedCurve, modulusLength } = key.asymmetricKeyDetails ?? {};
  const right = "use P-256, P-384, P-521, Ed25519, or RSA of 2048 bits or more";
  if (type === "ec") {
    if (namedCurve === undefined || CURVES.includes(namedCurve)) return undefined;
    return `the key is on the curve ${namedCurve}, which TLS does not take here; ${right}`;
  }
  if (type === "rsa") {
    if (modulusLength === undefined || modulusLength >= MIN_RSA_BITS) return undefined;
    return `the RSA key of ${modulusLength} bits is too short; ${right}`;
  }
  return type === "ed25519" ? undefined : `TLS does not take a key of type ${type} here; ${right}`;
}

/** Whether the first certificate is that of the key. */
export function belongTogether(certificates: readonly Certificate[], key: KeyObject): boolean {
  try {
    return certificates[0]!.x509.checkPrivateKey(key);
  } catch {
    return false;
  }
}

/** Reads a certificate and its key from one PEM file. */
export function parsePemCredentials(bytes: Uint8Array, password: string): Parsed<Credentials> {
  const certificates = parseCertificates(bytes);
  if ("problem" in certificates) return certificates;
  const key = parsePrivateKey(bytes, password);
  if ("problem" in key) return key;
  return together({
    cert: certificates.value.pem,
    key: key.value.pem,
    certificates: certificates.value.certificates,
  }, key.value.key);
}

/** Reads a certificate and its key from a PKCS#12 file. */
export function parsePkcs12(bytes: Uint8Array, password: string): Parsed<Credentials> {
  const start = new TextDecoder().decode(bytes.subarray(0, 64));
  if (start.includes("-----BEGIN")) {
    return {
      problem: "the file is PEM, not PKCS#12; name it .pem if it holds the certificate and its key",
    };
  }
  let opened: { cert?: unknown; key?: unknown };
  try {
    const secure = tls.createSecureContext({ pfx: Buffer.from(bytes), passphrase: password });
    opened = (secure as { context?: object }).context ?? {};
  } catch (error) {
    return { problem: pkcs12Problem(error instanceof Error ? error.message : "", password) };
  }
  const cert = typeof opened.cert === "string" ? opened.cert : "";
  const certificates = parseCertificates(new TextEncoder().encode(cert));
  if ("problem" in certificates) {
    return { problem: "the PKCS#12 file holds no certificate; put it there too" };
  }
  const key = parsePrivateKey(new TextEncoder().encode(typeof opened.key === "string" ? opened.key : ""));
  if ("problem" in key) return key;
  return together({ cert, key: key.value.pem, certificates: certificates.value.certificates }, key.value.key);
}

/** What the TLS library says differs with what it stumbled over; the words are not passed on. */
function pkcs12Problem(message: string, password: string): string {
  if (/\bmac\b|decrypt|password|passphrase/i.test(message)) {
    return password === ""
      ? "the PKCS#12 file cannot be opened without a password; write it"
      : "the PKCS#12 file cannot be opened with the password; write the right one (or the file is damaged)";
  }
  if (/private key/i.test(message)) return "the PKCS#12 file holds no private key; put it there too";
  if (/certificate/i.test(message)) return "the PKCS#12 file holds no certificate; put it there too";
  return "the file cannot be read as PKCS#12; put a whole .pfx or .p12 file there";
}

function together(credentials: Credentials, key: KeyObject): Parsed<Credentials> {
  return belongTogether(credentials.certificates, key) ? { value: credentials } : {
    problem:
      "the private key does not belong to the (first) certificate in the file; put those that do there",
  };
}
