/** Chains of certificates, as far as the certificates at hand show them. Pure. */
import { X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { type CertificateFields, readCertificate, sameBytes } from "./certificate_fields.ts";
import { isIssuedBy } from "./verifier.ts";

/** Extended key usages, RFC 5280 clause 4.2.1.12. */
export const Usage = { server: "1.3.6.1.5.5.7.3.1", client: "1.3.6.1.5.5.7.3.2" } as const;

export type Chain =
  /** Every signature up to a CA at hand is right; `issuer` is its subject. */
  | { readonly kind: "complete"; readonly issuer: string }
  | { readonly kind: "selfSigned" }
  /** The certificate at this place of the file, counted from 1, is not issued by the next. */
  | { readonly kind: "disorder"; readonly place: number }
  /** A CA at hand has the issuer's name, but not the key that signed. */
  | { readonly kind: "otherKey"; readonly issuer: string }
  | { readonly kind: "unknownIssuer"; readonly issuer: string };

/** Certificates of a PEM text, in order. */
export function certificatesOf(pem: string): X509Certificate[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  return blocks.map((block) => new X509Certificate(block));
}

/**
 * @param certificates of a file: the certificate in question, its issuer, that one's issuer and so on.
 * @param authorities all CA certificates at hand.
 */
export function chainOf(
  certificates: readonly X509Certificate[],
  authorities: readonly X509Certificate[],
): Chain {
  for (const [index, certificate] of certificates.slice(0, -1).entries()) {
    if (!isIssuedBy(certificate, certificates[index + 1]!)) return { kind: "disorder", place: index + 1 };
  }
  const last = certificates.at(-1)!;
  const fields = readCertificate(last.raw);
  if (sameBytes(fields.issuer, fields.subject)) {
    return certificates.length === 1
      ? { kind: "selfSigned" }
      : { kind: "complete", issuer: nameOf(last.subject) };
  }
  const issuer = nameOf(last.issuer);
  const namesakes = authorities.filter((authority) =>
    sameBytes(readCertificate(authority.raw).subject, fields.issuer)
  );
  if (namesakes.some((authority) => isIssuedBy(last, authority))) return { kind: "complete", issuer };
  return { kind: namesakes.length > 0 ? "otherKey" : "unknownIssuer", issuer };
}

/** Whether a certificate may be used so; one that names no use may be used for all. */
export function serves(certificate: X509Certificate, usage: string): boolean {
  const { extendedKeyUsage } = fieldsOf(certificate);
  return extendedKeyUsage === undefined || extendedKeyUsage.includes(usage);
}

export function fieldsOf(certificate: X509Certificate): CertificateFields {
  return readCertificate(certificate.raw);
}

/** Whether a TLS client that calls this host accepts the certificate's names. */
export function isFor(certificate: X509Certificate, host: string): boolean {
  const found = isIP(host) === 0 ? certificate.checkHost(host) : certificate.checkIP(host);
  return found !== undefined;
}

/** Host names and addresses of a server's certificate. */
export function hostsOf(certificate: X509Certificate): string[] {
  const text = certificate.subjectAltName ?? "";
  return text.split(", ").flatMap((name) => /^(?:DNS|IP Address):(.+)$/.exec(name)?.[1] ?? []);
}

/** The CA certificates of a PEM text, each once. */
export function issuersOf(pem: string): X509Certificate[] {
  const issuers = certificatesOf(pem).filter((certificate) => fieldsOf(certificate).isCa);
  return [...new Map(issuers.map((issuer) => [issuer.fingerprint256, issuer])).values()];
}

/** SHA-256 of a certificate's DER, lower-case hex. */
export function fingerprintOf(certificate: X509Certificate): string {
  return certificate.fingerprint256.replaceAll(":", "").toLowerCase();
}

/** A subject or issuer in one line. */
export function nameOf(name: string): string {
  return name.split("\n").join(", ") || "(no name)";
}
