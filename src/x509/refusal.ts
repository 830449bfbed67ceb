/** Why a certificate is not accepted. */

/** Of a bounded number, so that each can be counted. */
export type RefusalReason = keyof typeof REMEDIES;

const REMEDIES = {
  no_certificate: "set up the client with its certificate and key",
  unreadable: "issue a new certificate",
  version: "issue it with version 3 extensions (openssl x509 -req needs -extfile)",
  ca_certificate: "issue a certificate of its own for this use",
  unknown_ca: "have it issued by a CA that is trusted here, or add its CA to the CA file",
  expired: "renew it, or check the clock",
  not_yet_valid: "wait until then, or check the clock",
  wrong_usage: "issue it with the extended key usage for this use",
  wrong_host: "issue it with this host in subjectAltName",
  critical_extension: "issue it without that extension",
  tls_verification: "issue a new certificate, with an algorithm that TLS has here",
  name_constraints: "issue it within the name constraints of its CA",
  revoked: "issue a new one",
} as const;

export const REFUSAL_REASONS = Object.keys(REMEDIES) as RefusalReason[];

/** A certificate is not accepted. The message is one line that may be logged and told to the other end. */
export class CertificateRefused extends Error {
  override readonly name = "CertificateRefused";

  constructor(readonly reason: RefusalReason, message: string, options?: ErrorOptions) {
    super(message, options);
  }

  /** What to do about it. */
  get remedy(): string {
    return REMEDIES[this.reason];
  }
}
