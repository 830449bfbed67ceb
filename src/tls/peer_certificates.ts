/** The certificates of the other end of a TLS connection. */
import type { DetailedPeerCertificate, TLSSocket } from "node:tls";
import { CertificateRefused } from "../x509/refusal.ts";
import type { PresentedCertificates, ServerVerifier } from "../x509/verifier.ts";
import type { Certificate } from "../x509/certificate.ts";

/** Certificates of a chain that are read. */
const MAX_OTHERS = 8;

/** What the other end has shown; `undefined`: it has no certificate. */
export function presentedBy(socket: TLSSocket): PresentedCertificates | undefined {
  const leaf = socket.getPeerX509Certificate()?.raw;
  return leaf && {
    leaf,
    others: () => othersOf(socket.getPeerCertificate(true)),
    fullHandshake: socket.authorized && socket.isSessionReused() === false,
  };
}

/**
 * Verifies the server of a connection whose handshake is done; nothing may be sent to it before. The TLS layer's own
 * verification is not enough: it accepts a certificate that it cannot parse, such as one of version 1, by the name of its issuer,
 * and without a proof of its key.
 *
 * @param host name or address that was called.
 * @returns the certificate, its issuer, and so on up to the trusted one.
 * @throws {CertificateRefused} When it is not that of a server with this name.
 */
export function verifyServer(
  socket: TLSSocket,
  verifier: ServerVerifier,
  host: string,
): readonly Certificate[] {
  const presented = presentedBy(socket);
  if (!presented) throw new CertificateRefused("no_certificate", "the server has no certificate");
  return verifier.verify(presented, host, Date.now());
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
