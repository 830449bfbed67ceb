/** Selectors: what a configuration says about a certificate by which an SAE or a KME is identified. */
import type { ClientIdentity } from "./client_identity.ts";

/** A certificate matches if it matches every member that is there. At least one of the first six members is set. */
export interface CertificateSelector {
  /** Common name; a subject with several common names does not match. */
  readonly subjectCn?: string;
  /** Alternative name, in lower case. */
  readonly sanDns?: string;
  /** Alternative name. */
  readonly sanUri?: string;
  /** Alternative name. */
  readonly sanEmail?: string;
  /** SHA-256 of the certificate's DER, lower-case hex. */
  readonly fingerprint?: string;
  /** Serial number, which is unique only among the certificates of one issuer. */
  readonly serial?: bigint;
  /** Common name of the issuer. */
  readonly issuerCn?: string;
  /** SHA-256 of the DER of the issuer's certificate, lower-case hex. */
  readonly issuerFingerprint?: string;
}

/** Whether a verified certificate matches all members of a selector. */
export function selects(selector: CertificateSelector, identity: ClientIdentity): boolean {
  const { subjectCn, sanDns, sanUri, sanEmail, fingerprint, serial, issuerCn, issuerFingerprint } = selector;
  const matches = [
    subjectCn === undefined || isOnly(identity.subjectCns, subjectCn),
    sanDns === undefined || identity.sanDns.some((name) => name.toLowerCase() === sanDns),
    sanUri === undefined || identity.sanUri.includes(sanUri),
    sanEmail === undefined || identity.sanEmail.includes(sanEmail),
    fingerprint === undefined || identity.fingerprint === fingerprint,
    serial === undefined || identity.serial === serial,
    issuerCn === undefined || isOnly(identity.issuerCns, issuerCn),
    issuerFingerprint === undefined || identity.issuerFingerprint === issuerFingerprint,
  ];
  return identifies(selector) && matches.every(Boolean);
}

/** Whether a selector has a member besides those of the issuer: a CA is not an identity. */
export function identifies(
  { issuerCn: _, issuerFingerprint: __, ...members }: CertificateSelector,
): boolean {
  return Object.values(members).some((value) => value !== undefined);
}

/** Whether a selector has a serial number, which is unique only among the certificates of one issuer, but no issuer. */
export function lacksIssuer({ serial, issuerCn, issuerFingerprint }: CertificateSelector): boolean {
  return serial !== undefined && issuerCn === undefined && issuerFingerprint === undefined;
}

/**
 * A serial number without an issuer means a certificate that the only CA of the listener issued itself.
 *
 * @param authorities fingerprints of the listener's CA certificates.
 * @returns `undefined` for a serial number without an issuer where there are several CA certificates.
 */
export function withIssuer(
  selector: CertificateSelector,
  authorities: readonly string[],
): CertificateSelector | undefined {
  if (!lacksIssuer(selector)) return selector;
  return authorities.length === 1 ? { ...selector, issuerFingerprint: authorities[0] } : undefined;
}

/** A text that is equal for equal selectors. */
export function selectorKey(selector: CertificateSelector): string {
  const { subjectCn, sanDns, sanUri, sanEmail, fingerprint, serial, issuerCn, issuerFingerprint } = selector;
  return JSON.stringify([
    subjectCn ?? null,
    sanDns ?? null,
    sanUri ?? null,
    sanEmail ?? null,
    fingerprint ?? null,
    serial === undefined ? null : `0x${serial.toString(16)}`,
    issuerCn ?? null,
    issuerFingerprint ?? null,
  ]);
}

function isOnly(names: readonly string[], name: string): boolean {
  return names.length === 1 && names[0] === name;
}
