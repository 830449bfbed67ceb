/** The order in which a CA has issued its certificate revocation lists. */

export interface CrlVersion {
  /** Milliseconds since 1970. */
  readonly thisUpdate: number;
  /** The CRL number (RFC 5280 clause 5.2.3), which grows with each CRL of a CA. */
  readonly number?: bigint;
}

/** Whether a CRL was issued before another one of its CA. */
export function isOlder(crl: CrlVersion, other: CrlVersion): boolean {
  if (crl.thisUpdate < other.thisUpdate) return true;
  return crl.number !== undefined && other.number !== undefined && crl.number < other.number;
}
