/** Which certificates of a chain are revoked. */
import type { Certificate } from "./certificate.ts";

/** What one CA has revoked, from a CRL whose signature was verified. */
export interface RevokedByCa {
  /** Fingerprint of the CA certificate. */
  readonly issuerFingerprint: string;
  readonly serials: ReadonlySet<bigint>;
}

export type Revocations = readonly RevokedByCa[];

/** The first certificate of a chain that its issuer, the next in it, has revoked. */
export function revokedIn(chain: readonly Certificate[], revocations: Revocations): Certificate | undefined {
  return chain.find((certificate, i) =>
    revocations.some(({ issuerFingerprint, serials }) =>
      chain[i + 1]?.fingerprint === issuerFingerprint && serials.has(certificate.serial)
    )
  );
}
