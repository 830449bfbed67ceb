/**
 * Verification of client certificates by the listener itself. The TLS layer is not enough: the servers of one
 * process share their session-ticket key, so a session that was made under another listener's CA can be resumed
 * here and is reported as authorized, and a resumed session is never compared with the calendar again.
 */
import { createHash, verify as verifySignature, X509Certificate } from "node:crypto";
import { type CertificateFields, readCertificate, sameBytes } from "./certificate_fields.ts";
import { alternativeNames, commonNames } from "./certificate_names.ts";
import type { ClientIdentity } from "./client_identity.ts";

/** Extended key usage of a TLS client, RFC 5280 section 4.2.1.12. */
const CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";

/** ECDSA with SHA-256, -384, -512: for keys that `X509Certificate.verify` does not take (P-521). */
const ECDSA: Readonly<Record<string, string>> = {
  "1.2.840.10045.4.3.2": "sha256",
  "1.2.840.10045.4.3.3": "sha384",
  "1.2.840.10045.4.3.4": "sha512",
};

/** CAs in one chain, and signatures checked for one client: more is somebody wasting our time. */
const MAX_DEPTH = 5;
const MAX_SIGNATURES = 10;

/** Certificates whose verification is remembered. */
const MAX_REMEMBERED = 4096;

/** Why a client is not let in; the message is for the log. */
export class ClientRefused extends Error {
  override readonly name = "ClientRefused";
}

interface Certificate extends CertificateFields {
  readonly x509: X509Certificate;
  /** Milliseconds since the epoch, both inclusive. */
  readonly notBefore: number;
  readonly notAfter: number;
}

/** A client that was verified, and the time (ms since the epoch) within which its whole chain is valid. */
export interface VerifiedClient {
  readonly identity: ClientIdentity;
  readonly notBefore: number;
  readonly notAfter: number;
}

/** What a TLS connection shows of its client. */
export interface PresentedCertificates {
  /** DER of the client's own certificate. */
  readonly leaf: Uint8Array;
  /** DER of the certificates sent with it; called only when the client is not known yet. */
  readonly others: () => Uint8Array[];
  /** The handshake was a full one with this listener's CAs: the TLS layer has checked name constraints. */
  readonly fullHandshake: boolean;
}

/** Verifies clients against one listener's CAs, remembering whom it has verified. */
export class ClientVerifier {
  /** PEM of the certificates that are CAs. */
  readonly anchors: string[];
  readonly #anchors: Certificate[];
  readonly #verified = new Map<string, VerifiedClient>();

  /**
   * @param clientCa PEM, one or more CA certificates, root or intermediate.
   * @throws {Error} When there is no CA certificate in it, or one of them cannot be read.
   */
  constructor(clientCa: string) {
    const all = certificatesOf(clientCa);
    this.#anchors = all.filter((certificate) => certificate.isCa && certificate.version === 3);
    this.anchors = this.#anchors.map((certificate) => certificate.x509.toString());
    if (this.#anchors.length === 0) {
      const found = all.map((certificate) => subjectOf(certificate.x509)).join("; ");
      throw new Error(`no CA certificate for clients${found ? `, only ${found}, which is not a CA` : ""}`);
    }
  }

  /**
   * Who the client is.
   *
   * @param now Milliseconds since the epoch.
   * @throws {ClientRefused} When its certificate does not chain to this listener's CAs or is not in date.
   */
  verify(presented: PresentedCertificates, now: number): VerifiedClient {
    const fingerprint = createHash("sha256").update(presented.leaf).digest("hex");
    const known = this.#verified.get(fingerprint);
    if (known && inDate(known, now)) return known;
    const client = this.#verifyChain(presented, fingerprint, now);
    if (this.#verified.size >= MAX_REMEMBERED) {
      this.#verified.delete(this.#verified.keys().next().value!);
    }
    this.#verified.set(fingerprint, client);
    return client;
  }

  #verifyChain(presented: PresentedCertificates, fingerprint: string, now: number): VerifiedClient {
    const leaf = certificateOf(presented.leaf);
    // Version 1 has no way to say that a certificate is not a CA's, and the TLS layer does not know it.
    if (leaf.version !== 3) throw new ClientRefused(`certificate of version ${leaf.version}, not 3`);
    if (leaf.isCa) throw new ClientRefused("a CA certificate instead of a client's");
    const chain = this.#chain(leaf, presented.others().slice(0, MAX_DEPTH).map(certificateOf), now);
    for (const certificate of chain) {
      if (certificate.notUnderstood.length > 0) {
        throw new ClientRefused(`critical extension ${certificate.notUnderstood[0]} is not understood`);
      }
      if (certificate.hasNameConstraints && !presented.fullHandshake) {
        throw new ClientRefused("name constraints on a resumed session");
      }
    }
    return {
      identity: identityOf(leaf, fingerprint, chain[1]!),
      notBefore: Math.max(...chain.map((certificate) => certificate.notBefore)),
      notAfter: Math.min(...chain.map((certificate) => certificate.notAfter)),
    };
  }

  /** A valid chain from the client's certificate to one of the CAs, both included. */
  #chain(leaf: Certificate, others: Certificate[], now: number): Certificate[] {
    let signatures = 0;
    let reason = "issued by another CA";
    const usable = (certificate: Certificate) => {
      const usages = certificate.extendedKeyUsage;
      if (!inDate(certificate, now)) {
        reason = `${subjectOf(certificate.x509)} is ${
          now < certificate.notBefore ? "not yet valid" : "expired"
        }`;
      } else if (usages && !usages.includes(CLIENT_AUTH)) {
        reason = `${subjectOf(certificate.x509)} is not for TLS clients`;
      } else return true;
      return false;
    };
    const search = (chain: Certificate[]): Certificate[] | undefined => {
      const subject = chain.at(-1)!;
      // CAs between the client's certificate and the issuer that is looked for.
      const below = chain.length - 1;
      for (const issuer of [...this.#anchors, ...others]) {
        if (!sameBytes(subject.issuer, issuer.subject) || chain.includes(issuer)) continue;
        if (!issuer.isCa || issuer.version !== 3 || issuer.pathLength < below) continue;
        if (signatures++ >= MAX_SIGNATURES || !issued(issuer, subject) || !usable(issuer)) continue;
        const longer = [...chain, issuer];
        if (this.#anchors.includes(issuer)) return longer;
        const found = longer.length <= MAX_DEPTH ? search(longer) : undefined;
        if (found) return found;
      }
    };
    const chain = usable(leaf) ? search([leaf]) : undefined;
    if (!chain) throw new ClientRefused(reason);
    return chain;
  }
}

function identityOf(leaf: Certificate, fingerprint: string, issuer: Certificate): ClientIdentity {
  try {
    const { dns, uri, email } = alternativeNames(leaf.subjectAltName);
    return {
      serial: leaf.serial,
      fingerprint,
      subject: subjectOf(leaf.x509),
      notAfter: leaf.notAfter,
      subjectCns: commonNames(leaf.subject),
      sanDns: dns,
      sanUri: uri,
      sanEmail: email,
      issuer: subjectOf(issuer.x509),
      issuerCns: commonNames(leaf.issuer),
      issuerFingerprint: createHash("sha256").update(issuer.x509.raw).digest("hex"),
    };
  } catch (cause) {
    throw new ClientRefused("unreadable names", { cause });
  }
}

function inDate(range: { notBefore: number; notAfter: number }, now: number): boolean {
  return range.notBefore <= now && now <= range.notAfter;
}

/** Whether one certificate issued the other: names, signature, and that the issuer may issue. Dates do not matter. */
export function isIssuedBy(subject: X509Certificate, issuer: X509Certificate): boolean {
  const authority = certificateOf(issuer.raw);
  return authority.isCa && issued(authority, certificateOf(subject.raw));
}

/** Whether the issuer's key signed the certificate. */
function issued(issuer: Certificate, subject: Certificate): boolean {
  try {
    if (!subject.x509.checkIssued(issuer.x509)) return false;
    const key = issuer.x509.publicKey;
    if (key.asymmetricKeyType !== "ec") return subject.x509.verify(key);
    const digest = ECDSA[subject.signatureAlgorithm];
    return digest !== undefined && verifySignature(digest, subject.signed, key, subject.signature);
  } catch {
    return false;
  }
}

function certificateOf(der: Uint8Array): Certificate {
  try {
    const x509 = new X509Certificate(der);
    return {
      ...readCertificate(der),
      x509,
      notBefore: x509.validFromDate.getTime(),
      notAfter: x509.validToDate.getTime(),
    };
  } catch (cause) {
    throw new ClientRefused("unreadable certificate", { cause });
  }
}

function certificatesOf(pem: string): Certificate[] {
  const blocks = pem.match(/-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----[^-]+-----END [^-]+-----/g) ?? [];
  return blocks.map((block) => certificateOf(new X509Certificate(block).raw));
}

/** The subject in one line, for logs. */
function subjectOf(x509: X509Certificate): string {
  return x509.subject?.split("\n").join(", ") || "(no subject)";
}
