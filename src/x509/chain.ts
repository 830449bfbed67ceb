/** Chains of certificates, as far as the certificates at hand show them. Pure. */
import { type Certificate, certificatesInPem } from "./certificate.ts";
import { sameBytes } from "../domain/bytes.ts";
import { isIssuedBy } from "./verifier.ts";

export type Chain =
  /** Every signature up to a CA at hand is right; `issuer` is its subject. */
  | { readonly kind: "complete"; readonly issuer: string }
  | { readonly kind: "selfSigned" }
  /** The certificate at this place of the file, counted from 1, is not issued by the next. */
  | { readonly kind: "disorder"; readonly place: number }
  /** A CA at hand has the issuer's name, but not the key that signed. */
  | { readonly kind: "otherKey"; readonly issuer: string }
  | { readonly kind: "unknownIssuer"; readonly issuer: string };

/**
 * @param certificates of a file: the certificate in question, its issuer, that one's issuer and so on.
 * @param authorities all CA certificates at hand.
 */
export function chainOf(
  certificates: readonly Certificate[],
  authorities: readonly Certificate[],
): Chain {
  for (const [index, certificate] of certificates.slice(0, -1).entries()) {
    if (!isIssuedBy(certificate, certificates[index + 1]!)) return { kind: "disorder", place: index + 1 };
  }
  const last = certificates.at(-1)!;
  if (sameBytes(last.issuer, last.subject)) {
    return certificates.length === 1
      ? { kind: "selfSigned" }
      : { kind: "complete", issuer: last.subjectText };
  }
  const issuer = last.issuerText;
  const namesakes = authorities.filter((authority) => sameBytes(authority.subject, last.issuer));
  if (namesakes.some((authority) => isIssuedBy(last, authority))) return { kind: "complete", issuer };
  return { kind: namesakes.length > 0 ? "otherKey" : "unknownIssuer", issuer };
}

/** Whether a certificate may be used so; one that names no use may be used for all. */
export function serves({ extendedKeyUsage }: Certificate, usage: string): boolean {
  return extendedKeyUsage === undefined || extendedKeyUsage.includes(usage);
}

/** The CA certificates of a PEM text, each once. */
export function issuersOf(pem: string): Certificate[] {
  const issuers = certificatesInPem(pem).filter(({ isCa }) => isCa);
  return [...new Map(issuers.map((issuer) => [issuer.fingerprint, issuer])).values()];
}
