/**
 * Verification of the certificates of clients and servers, on every connection, by this program itself. The TLS layer's is not
 * enough: it resumes a client's session under another listener's CA, compares no date again on a resumed session, and accepts
 * a server's certificate that it cannot parse by the name of its issuer.
 */
import { cutShort } from "../domain/text.ts";
import { verify as verifySignature } from "node:crypto";
import {
  type Certificate,
  certificatesInPem,
  fingerprintOf,
  KeyUsage,
  parseCertificate,
} from "./certificate.ts";
import { alternativeNames, commonNames } from "./certificate_names.ts";
import type { ClientIdentity } from "./client_identity.ts";
import { sameBytes } from "../domain/bytes.ts";
import { formatTime } from "../domain/time.ts";
import { isForHost } from "./host_name.ts";
import { formatPem } from "./pem.ts";
import { CertificateRefused } from "./refusal.ts";
import { type Revocations, revokedIn } from "./revocations.ts";

/** Extended key usages, RFC 5280 clause 4.2.1.12. */
export const Usage = { server: "1.3.6.1.5.5.7.3.1", client: "1.3.6.1.5.5.7.3.2" } as const;

/** What the key of a TLS client or server does; with `keyEncipherment` alone, as many instructions for OpenSSL have it. */
const TLS_KEY_USAGES = KeyUsage.digitalSignature | KeyUsage.keyEncipherment | KeyUsage.keyAgreement;

/** Signatures by their object identifiers: those that the TLS layer verifies in chains, too. */
const SIGNATURES: Readonly<Record<string, { readonly keys: string; readonly digest: string | null }>> = {
  "1.2.840.10045.4.3.2": { keys: "ec", digest: "sha256" },
  "1.2.840.10045.4.3.3": { keys: "ec", digest: "sha384" },
  "1.2.840.10045.4.3.4": { keys: "ec", digest: "sha512" },
  "1.2.840.113549.1.1.11": { keys: "rsa", digest: "sha256" },
  "1.2.840.113549.1.1.12": { keys: "rsa", digest: "sha384" },
  "1.2.840.113549.1.1.13": { keys: "rsa", digest: "sha512" },
  "1.3.101.112": { keys: "ed25519", digest: null },
};

const RSA_PSS = "1.2.840.113549.1.1.10";

/** CAs in one chain, and signatures checked for one certificate: more is an attempt to keep this process busy. */
const MAX_DEPTH = 5;
const MAX_SIGNATURES = 10;

/** Clients whose verification is remembered. */
const MAX_REMEMBERED = 4096;

/** What a TLS connection shows of its other end. */
export interface PresentedCertificates {
  /** DER of the end's own certificate. */
  readonly leaf: Uint8Array;
  /** DER of the certificates sent with it; called only when they are needed. */
  readonly others: () => readonly Uint8Array[];
  /** The TLS layer has verified the chain with the same CAs, in a full handshake: name constraints are enforced there. */
  readonly fullHandshake: boolean;
}

/** A certificate that was verified, and the time (ms since 1970) within which its whole chain is valid. */
interface Verified {
  /** The certificate, its issuer, and so on up to a trusted one. */
  readonly chain: readonly Certificate[];
  readonly notBefore: number;
  readonly notAfter: number;
}

/** A client that was verified. */
export interface VerifiedClient extends Verified {
  readonly identity: ClientIdentity;
}

/** Verifies clients against one listener's CAs, remembering whom it has verified. */
export class ClientVerifier {
  /** PEM of the certificates that are CAs. */
  readonly anchors: string[];
  /** The same, parsed. */
  readonly authorities: readonly Certificate[];
  /** Certificates that are refused though their chain is valid. */
  revocations: Revocations = [];
  readonly #verified = new Map<string, VerifiedClient>();

  /**
   * @param clientCa PEM, one or more CA certificates, root or intermediate.
   * @throws {Error} When there is no CA certificate in it, or one of them cannot be read.
   */
  constructor(clientCa: string) {
    const all = certificatesInPem(clientCa);
    this.authorities = all.filter(isUsableCa);
    this.anchors = this.authorities.map(({ der }) => formatPem("CERTIFICATE", der));
    if (this.authorities.length === 0) {
      const found = all.map(({ subjectText }) => subjectText).join("; ");
      throw new Error(`no CA certificate for clients${found ? `, only ${found}, which is not a CA` : ""}`);
    }
  }

  /**
   * Who the client is.
   *
   * @param now Milliseconds since 1970.
   * @throws {CertificateRefused} When its certificate does not chain to this listener's CAs, is not in date, or is revoked.
   */
  verify(presented: PresentedCertificates, now: number): VerifiedClient {
    const known = this.#verified.get(fingerprintOf(presented.leaf));
    if (known && inDate(known, now)) {
      refuseRevoked(known, this.revocations);
      return known;
    }
    const leaf = parse(presented.leaf);
    const verified = verifyChain(leaf, presented, this.authorities, "client", now);
    refuseRevoked(verified, this.revocations);
    const client = { ...verified, identity: identityOf(leaf, verified.chain[1]!) };
    if (this.#verified.size >= MAX_REMEMBERED) {
      this.#verified.delete(this.#verified.keys().next().value!);
    }
    this.#verified.set(leaf.fingerprint, client);
    return client;
  }
}

/** Verifies servers. */
export class ServerVerifier {
  /** Certificates that are refused though their chain is valid. */
  revocations: Revocations = [];
  readonly authorities: readonly Certificate[];
  readonly #trusted: readonly Certificate[];

  /** @param trusted CA certificates, or certificates of servers themselves. */
  constructor(trusted: readonly Certificate[]) {
    this.#trusted = trusted;
    this.authorities = this.#trusted.filter(isUsableCa);
  }

  /**
   * @param host name or address that was called; `undefined`: the certificate may be for any host.
   * @param now Milliseconds since 1970.
   * @returns the certificate, its issuer, and so on up to the trusted one.
   * @throws {CertificateRefused} When the certificate is not that of a server with this name.
   */
  verify(presented: PresentedCertificates, host: string | undefined, now: number): readonly Certificate[] {
    const leaf = parse(presented.leaf);
    const isTrusted = this.#trusted.some(({ fingerprint }) => fingerprint === leaf.fingerprint);
    const verified = isTrusted
      ? verifyTrusted(leaf, now)
      : verifyChain(leaf, presented, this.authorities, "server", now);
    refuseRevoked(verified, this.revocations);
    if (host !== undefined && !isForHost(leaf, host)) {
      throw new CertificateRefused(
        "wrong_host",
        `the certificate of ${cutShort(leaf.subjectText)} is not for ${host}`,
      );
    }
    return verified.chain;
  }
}

/** A server's certificate that is trusted by itself; it may be that of a CA. */
function verifyTrusted(leaf: Certificate, now: number): Verified {
  refuseVersion(leaf);
  refuseUnusable(leaf, "server", now);
  return { chain: [leaf], notBefore: leaf.notBefore, notAfter: leaf.notAfter };
}

function verifyChain(
  leaf: Certificate,
  presented: PresentedCertificates,
  anchors: readonly Certificate[],
  role: keyof typeof Usage,
  now: number,
): Verified {
  refuseVersion(leaf);
  if (leaf.isCa) {
    throw new CertificateRefused(
      "ca_certificate",
      `${cutShort(leaf.subjectText)}: a CA certificate instead of a ${role}'s`,
    );
  }
  refuseUnusable(leaf, role, now);
  const others = presented.others().slice(0, MAX_DEPTH).flatMap(parseIfReadable);
  const chain = findChain(leaf, anchors, others, role, now);
  for (const { notUnderstood, hasNameConstraints } of chain) {
    if (notUnderstood.length > 0) {
      const message = `critical extension ${notUnderstood[0]} is not understood`;
      throw new CertificateRefused("critical_extension", message);
    }
    if (hasNameConstraints && !presented.fullHandshake) {
      throw new CertificateRefused("name_constraints", "name constraints that were not verified");
    }
  }
  return {
    chain,
    notBefore: Math.max(...chain.map(({ notBefore }) => notBefore)),
    notAfter: Math.min(...chain.map(({ notAfter }) => notAfter)),
  };
}

/** A valid chain from the leaf to one of the anchors, both included. */
function findChain(
  leaf: Certificate,
  anchors: readonly Certificate[],
  others: readonly Certificate[],
  role: keyof typeof Usage,
  now: number,
): Certificate[] {
  let signatures = 0;
  let refusal = new CertificateRefused(
    "unknown_ca",
    `${cutShort(leaf.subjectText)}: issued by ${cutShort(leaf.issuerText)}, which is not trusted`,
  );
  const search = (chain: readonly Certificate[]): Certificate[] | undefined => {
    const subject = chain.at(-1)!;
    // CAs between the leaf and the issuer that is looked for.
    const below = chain.length - 1;
    for (const issuer of [...anchors, ...others]) {
      if (!sameBytes(subject.issuer, issuer.subject) || chain.includes(issuer)) continue;
      if (!isUsableCa(issuer) || issuer.pathLength < below) continue;
      if (signatures++ >= MAX_SIGNATURES || !issued(issuer, subject)) continue;
      const unusable = refusalOf(issuer, role, now);
      if (unusable) {
        refusal = unusable;
        continue;
      }
      const longer = [...chain, issuer];
      if (anchors.includes(issuer)) return longer;
      const found = longer.length <= MAX_DEPTH ? search(longer) : undefined;
      if (found) return found;
    }
  };
  const chain = search([leaf]);
  if (!chain) throw refusal;
  return chain;
}

/** Version 1 has no way to say that a certificate is not a CA's, and the TLS layer does not verify it. */
function refuseVersion(leaf: Certificate): void {
  if (leaf.version === 3) return;
  throw new CertificateRefused(
    "version",
    `${cutShort(leaf.subjectText)}: version ${leaf.version} certificate`,
  );
}

function refuseUnusable(leaf: Certificate, role: keyof typeof Usage, now: number): void {
  const refusal = refusalOf(leaf, role, now);
  if (refusal) throw refusal;
  if (leaf.keyUsage !== undefined && (leaf.keyUsage & TLS_KEY_USAGES) === 0) {
    throw new CertificateRefused(
      "wrong_usage",
      `${cutShort(leaf.subjectText)}: the key usage does not allow TLS`,
    );
  }
}

/** Why a certificate of a chain, the leaf or a CA, cannot be used for this at this time. */
function refusalOf(
  certificate: Certificate,
  role: keyof typeof Usage,
  now: number,
): CertificateRefused | undefined {
  const { notBefore, notAfter, extendedKeyUsage } = certificate;
  const name = cutShort(certificate.subjectText);
  if (now < notBefore) {
    return new CertificateRefused(
      "not_yet_valid",
      `${name} is not yet valid, only from ${formatTime(notBefore)}`,
    );
  }
  if (now > notAfter) {
    return new CertificateRefused("expired", `${name} is expired since ${formatTime(notAfter)}`);
  }
  if (extendedKeyUsage !== undefined && !extendedKeyUsage.includes(Usage[role])) {
    return new CertificateRefused("wrong_usage", `${name} is not for TLS ${role}s`);
  }
}

function refuseRevoked({ chain }: Verified, revocations: Revocations): void {
  const revoked = revokedIn(chain, revocations);
  if (revoked) throw new CertificateRefused("revoked", `${cutShort(revoked.subjectText)} is revoked`);
}

function identityOf(leaf: Certificate, issuer: Certificate): ClientIdentity {
  try {
    const { dns, uri, email } = alternativeNames(leaf.subjectAltName);
    return {
      serial: leaf.serial,
      fingerprint: leaf.fingerprint,
      subject: leaf.subjectText,
      notAfter: leaf.notAfter,
      subjectCns: commonNames(leaf.subject),
      sanDns: dns,
      sanUri: uri,
      sanEmail: email,
      issuer: issuer.subjectText,
      issuerCns: commonNames(leaf.issuer),
      issuerFingerprint: issuer.fingerprint,
    };
  } catch (cause) {
    throw new CertificateRefused("unreadable", "unreadable names", { cause });
  }
}

function isUsableCa({ isCa, version }: Certificate): boolean {
  return isCa && version === 3;
}

function inDate({ notBefore, notAfter }: { notBefore: number; notAfter: number }, now: number): boolean {
  return notBefore <= now && now <= notAfter;
}

/** Whether one certificate issued the other: names, signature, and that the issuer may issue. Dates do not matter. */
export function isIssuedBy(subject: Certificate, issuer: Certificate): boolean {
  return issuer.isCa && issued(issuer, subject);
}

/** Whether the issuer's name is right and its key signed the certificate. */
function issued(issuer: Certificate, subject: Certificate): boolean {
  try {
    if (!subject.x509.checkIssued(issuer.x509)) return false;
    // RSA-PSS has parameters, which the runtime reads.
    return subject.signatureAlgorithm === RSA_PSS
      ? subject.x509.verify(issuer.x509.publicKey)
      : isSignedBy(subject, issuer);
  } catch {
    return false;
  }
}

/** Whether a CA's key signed a certificate or a CRL. */
export function isSignedBy(
  { signed, signatureAlgorithm, signature }: Pick<Certificate, "signed" | "signatureAlgorithm" | "signature">,
  issuer: Certificate,
): boolean {
  const algorithm = SIGNATURES[signatureAlgorithm];
  const { publicKey } = issuer.x509;
  return algorithm !== undefined && algorithm.keys === publicKey.asymmetricKeyType &&
    verifySignature(algorithm.digest, signed, publicKey, signature);
}

/** Certificates that came with another one need not be read: a chain without them may do. */
function parseIfReadable(der: Uint8Array): Certificate[] {
  try {
    return [parseCertificate(der)];
  } catch {
    return [];
  }
}

function parse(der: Uint8Array): Certificate {
  try {
    return parseCertificate(der);
  } catch (cause) {
    throw new CertificateRefused("unreadable", "badly encoded certificate", { cause });
  }
}
