/** Who is on the other end of a verified mTLS connection. */

/** Facts of a client certificate that was verified against the listener's own CA. */
export interface ClientIdentity {
  /** Serial number as an unsigned number, so that leading zeros and the sign bit do not matter. */
  readonly serial: bigint;
  /** SHA-256 of the certificate's DER, lower-case hex. */
  readonly fingerprint: string;
  /** Common name or whole subject, for logs. */
  readonly subject: string;
  /** Milliseconds since 1970 at which the certificate expires. */
  readonly notAfter: number;
}
