/** X.509 certificates of a QKD network: CAs and what they issue, on WebCrypto. */
import "reflect-metadata";
import * as x509 from "@peculiar/x509";
import { isIP } from "node:net";
import { randomSerial, serialFromHex } from "./random_serial.ts";

export type KeyType = "P-256" | "P-384";

/** Whom a certificate names. */
export interface Subject {
  readonly commonName: string;
  readonly organization?: string;
}

/** A certificate together with the key it certifies. */
export interface Identity {
  readonly certificate: x509.X509Certificate;
  readonly keys: CryptoKeyPair;
}

/** What a certificate may be used for. */
export type Purpose =
  /** Server certificate; host names and IP addresses become subject alternative names. */
  | { readonly kind: "server"; readonly hosts: readonly string[] }
  | { readonly kind: "client" };

export interface Validity {
  readonly notBefore: Date;
  readonly notAfter: Date;
}

export const MS_PER_DAY = 86_400_000;
/** Clocks of a network's machines differ a little: a new certificate is valid on all of them. */
export const BACKDATED_MS = 3_600_000;
/** ub-common-name and ub-organization-name (RFC 5280, appendix A.1). */
const MAX_NAME_LENGTH = 64;

/** Until `days` after `now`; from `from`, or an hour before `now`. Whole seconds, as certificates have them. */
export function validity(days: number, now: Date, from?: Date): Validity {
  const seconds = (time: number) => new Date(Math.floor(time / 1000) * 1000);
  return {
    notBefore: from ?? seconds(now.getTime() - BACKDATED_MS),
    notAfter: seconds(now.getTime() + days * MS_PER_DAY),
  };
}

export function generateKeys(type: KeyType): Promise<CryptoKeyPair> {
  return crypto.subtle.generateKey({ name: "ECDSA", namedCurve: type }, true, ["sign", "verify"]);
}

/** Self-signed CA certificate that may issue certificates, but no further CA. */
export async function issueCa(
  subject: Subject,
  keys: CryptoKeyPair,
  lifetime: Validity,
  serial: Uint8Array = randomSerial(),
): Promise<Identity> {
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serial.toHex(),
    name: distinguishedName(subject),
    ...lifetime,
    keys,
    signingAlgorithm: signatureAlgorithm(keys.privateKey),
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate, keys };
}

/** Certificate of a server or a client, issued by `ca`; it never outlives the CA. */
export async function issueLeaf(
  ca: Identity,
  subject: Subject,
  purpose: Purpose,
  keys: CryptoKeyPair,
  lifetime: Validity,
  serial: Uint8Array = randomSerial(),
): Promise<Identity> {
  const server = purpose.kind === "server";
  const usage = server ? x509.ExtendedKeyUsage.serverAuth : x509.ExtendedKeyUsage.clientAuth;
  const extensions: x509.Extension[] = [
    new x509.BasicConstraintsExtension(false, undefined, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
    new x509.ExtendedKeyUsageExtension([usage]),
    await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    // Not computed from the key: the identifier must equal that of the CA certificate byte for byte.
    new x509.AuthorityKeyIdentifierExtension(subjectKeyId(ca.certificate)),
  ];
  if (server) {
    extensions.push(
      new x509.SubjectAlternativeNameExtension(
        purpose.hosts.map((host) => ({
          type: isIP(host) === 0 ? "dns" as const : "ip" as const,
          value: host,
        })),
      ),
    );
  }
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serial.toHex(),
    subject: distinguishedName(subject),
    issuer: ca.certificate.subjectName,
    notBefore: lifetime.notBefore,
    notAfter: new Date(Math.min(lifetime.notAfter.getTime(), ca.certificate.notAfter.getTime())),
    publicKey: keys.publicKey,
    signingKey: ca.keys.privateKey,
    signingAlgorithm: signatureAlgorithm(ca.keys.privateKey),
    extensions,
  });
  return { certificate, keys };
}

/** PEM of a certificate, with a line end. */
export function certificateToPem(certificate: x509.X509Certificate): string {
  return `${certificate.toString("pem").trim()}\n`;
}

/** PEM (PKCS#8) of a private key, with a line end. */
export async function privateKeyToPem(key: CryptoKey): Promise<string> {
  const der = await crypto.subtle.exportKey("pkcs8", key);
  return `${x509.PemConverter.encode(der, "PRIVATE KEY").trim()}\n`;
}

/** @throws {Error} when the text holds no certificate. */
export function certificateFromPem(pem: string): x509.X509Certificate {
  return new x509.X509Certificate(pem);
}

/**
 * Private and public key of a PKCS#8 PEM on P-256 or P-384.
 * @throws {Error} when the text holds no such key.
 */
export async function keysFromPem(pem: string): Promise<CryptoKeyPair> {
  const der = x509.PemConverter.decodeFirst(pem);
  for (const namedCurve of ["P-256", "P-384"]) {
    const algorithm = { name: "ECDSA", namedCurve };
    try {
      const privateKey = await crypto.subtle.importKey("pkcs8", der, algorithm, true, ["sign"]);
      const { d: _private, key_ops: _ops, ...jwk } = await crypto.subtle.exportKey("jwk", privateKey);
      const publicKey = await crypto.subtle.importKey("jwk", jwk, algorithm, true, ["verify"]);
      return { privateKey, publicKey };
    } catch {
      // The other curve, or no key at all.
    }
  }
  throw new Error("not a PKCS#8 private key on P-256 or P-384");
}

/** Whether the certificate is that of this key. */
export async function certifies(certificate: x509.X509Certificate, keys: CryptoKeyPair): Promise<boolean> {
  const spki = new Uint8Array(await crypto.subtle.exportKey("spki", keys.publicKey));
  const certified = new Uint8Array(certificate.publicKey.rawData);
  return spki.length === certified.length && spki.every((byte, i) => byte === certified[i]);
}

/** Whether `ca` issued the certificate; dates are not checked. */
export async function isIssuedBy(
  certificate: x509.X509Certificate,
  ca: x509.X509Certificate,
): Promise<boolean> {
  return certificate.issuer === ca.subject &&
    await certificate.verify({ publicKey: ca, signatureOnly: true });
}

/** The subject's name as a certificate's `subject` and `issuer` have it. */
export function nameOf(subject: Subject): string {
  return distinguishedName(subject).toString();
}

/** Host names and IP addresses in the certificate's subject alternative names, in their order. */
export function hostsOf(certificate: x509.X509Certificate): string[] {
  const names = certificate.getExtension(x509.SubjectAlternativeNameExtension);
  return names === null ? [] : names.names.items.map((name) => name.value);
}

/** Bytes of the certificate's serial number without sign padding. */
export function serialOf(certificate: x509.X509Certificate): Uint8Array {
  return serialFromHex(certificate.serialNumber) ?? new Uint8Array(1);
}

function distinguishedName(subject: Subject): x509.Name {
  // As objects: the library unescapes plain strings, and names in a network file may hold quotes.
  const parts: x509.JsonNameParams = [{ CN: [{ utf8String: cut(subject.commonName) }] }];
  if (subject.organization !== undefined) parts.push({ O: [{ utf8String: cut(subject.organization) }] });
  return new x509.Name(parts);
}

function cut(name: string): string {
  return Array.from(name).slice(0, MAX_NAME_LENGTH).join("");
}

export function subjectKeyId(certificate: x509.X509Certificate): string {
  const extension = certificate.getExtension(x509.SubjectKeyIdentifierExtension);
  if (extension === null) throw new Error(`${certificate.subject} has no subject key identifier`);
  return extension.keyId;
}

export function signatureAlgorithm(key: CryptoKey): EcdsaParams {
  const { namedCurve } = key.algorithm as EcKeyAlgorithm;
  return { name: "ECDSA", hash: namedCurve === "P-384" ? "SHA-384" : "SHA-256" };
}
