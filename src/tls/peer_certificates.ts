/** The certificates of the other end of a TLS connection. */
import type { DetailedPeerCertificate, PeerCertificate, TLSSocket } from "node:tls";
import { CertificateRefused } from "../x509/refusal.ts";
import type { PresentedCertificates, ServerVerifier } from "../x509/verifier.ts";
import type { Certificate } from "../x509/certificate.ts";

/** Maximum certificates of a chain that are read. */
const MAX_OTHERS = 8;

/** The certificates that the other end presented; `undefined` if it has none. */
export function presentedBy(socket: TLSSocket): PresentedCertificates | undefined {
  const leaf = socket.getPeerX509Certificate()?.raw;
  return leaf && {
    leaf,
    others: () => othersOf(socket.getPeerCertificate(true)),
    fullHandshake: socket.authorized && socket.isSessionReused() === false,
  };
}

/**
 * Verifies the server of a connection after the handshake; nothing may be sent to the server before. The verification of the
 * TLS layer is not enough: it accepts a certificate that it cannot parse, such as one of version 1, by the name of its issuer
 * alone and without proof that the server has its key.
 *
 * @param host name or address that was called; `undefined`: the certificate may be for any host.
 * @returns the chain, from the server's certificate to the trusted one.
 * @throws {CertificateRefused} When it is not a valid server certificate for this name.
 */
export function verifyServer(
  socket: TLSSocket,
  verifier: ServerVerifier,
  host: string | undefined,
): readonly Certificate[] {
  const presented = presentedBy(socket);
  if (!presented) throw new CertificateRefused("no_certificate", "the server has no certificate");
  return verifier.verify(presented, host, Date.now());
}

/**
 * The same verification as an option of `tls.connect`, for libraries that open TLS connections themselves. They must keep
 * `rejectUnauthorized` on and must not resume sessions.
 *
 * @param anyHost whether the certificate may be for any host.
 */
export function checkServerIdentity(
  verifier: ServerVerifier,
  anyHost = false,
): (host: string, certificate: PeerCertificate) => Error | undefined {
  return (host, certificate) => {
    const presented = {
      leaf: certificate.raw,
      others: () => othersOf(certificate as DetailedPeerCertificate),
      // The TLS layer calls this only after its own verification, in a full handshake.
      fullHandshake: true,
    };
    try {
      verifier.verify(presented, anyHost ? undefined : host, Date.now());
    } catch (error) {
      return error as Error;
    }
  };
}

/** DER of the certificates that the other end sent after its own. */
function othersOf(leaf: DetailedPeerCertificate): Uint8Array[] {
  const others: Uint8Array[] = [];
  let certificate = leaf;
  // A self-signed certificate is its own issuer.
  while (
    certificate?.issuerCertificate && certificate.issuerCertificate !== certificate &&
    others.length < MAX_OTHERS
  ) {
    certificate = certificate.issuerCertificate;
    if (certificate.raw) others.push(certificate.raw);
  }
  return others;
}
