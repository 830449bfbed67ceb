/** Who is on the other end of a verified mTLS connection. */

/** The client of a connection. */
export interface ConnectedClient {
  readonly identity: ClientIdentity;
  /** `address:port`; absent when the connection was closed before it was asked for. */
  readonly address?: string;
}

/** Facts of a client certificate that was verified against the listener's own CA. Names are as the certificate has them. */
export interface ClientIdentity {
  /** Serial number as an unsigned number, so that leading zeros and the sign bit do not matter. */
  readonly serial: bigint;
  /** SHA-256 of the certificate's DER, lower-case hex. */
  readonly fingerprint: string;
  /** Whole subject in one line, for logs. */
  readonly subject: string;
  /** Common names of the subject. */
  readonly subjectCns: readonly string[];
  /** Alternative names. */
  readonly sanDns: readonly string[];
  readonly sanUri: readonly string[];
  readonly sanEmail: readonly string[];
  /** Whole issuer in one line, for logs. */
  readonly issuer: string;
  /** Common names of the issuer. */
  readonly issuerCns: readonly string[];
  /** SHA-256 of the DER of the CA certificate that issued the certificate, lower-case hex. */
  readonly issuerFingerprint: string;
  /** Milliseconds since 1970 at which the certificate expires. */
  readonly notAfter: number;
}
