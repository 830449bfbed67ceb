/** What the client side of the inter-KME TLS presents and whom it trusts. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { Buffer } from "node:buffer";
import tls from "node:tls";
import type { ClientCertificate } from "../config/config.ts";
import { type Certificate, certificatesInPem } from "../x509/certificate.ts";
import { ServerVerifier } from "../x509/verifier.ts";

/**
 * The TLS context for calls to one peer.
 *
 * @param serverCa PEM; absent: the system's trust store.
 * @throws Error when the certificate or its key cannot be read. The message holds no secret.
 */
export function clientContext(
  certificate: ClientCertificate,
  serverCa: string | undefined,
  minVersion: tls.SecureVersion = "TLSv1.2",
): tls.SecureContext {
  // Always explicit: without `ca`, CA certificates that happen to be inside a PKCS#12 file would be trusted to vouch
  // for the peer's server.
  const ca = serverCa ?? systemCa();
  if (certificate.kind === "pfx") {
    const pfx = Buffer.from(certificate.pfx);
    return tls.createSecureContext({ ca, minVersion, pfx, passphrase: certificate.passphrase });
  }
  // A key that cannot be decrypted would silently mean calls without any client certificate: find out here.
  const key = createPrivateKey(
    certificate.passphrase === ""
      ? { key: certificate.key }
      : { key: certificate.key, passphrase: certificate.passphrase },
  );
  if (!new X509Certificate(certificate.cert).checkPrivateKey(key)) {
    throw new Error("the key does not belong to the certificate");
  }
  return tls.createSecureContext({
    ca,
    minVersion,
    cert: certificate.cert,
    key: certificate.key,
    passphrase: certificate.passphrase,
  });
}

/** What a server is verified with. */
export interface ServerTrust {
  readonly secureContext: tls.SecureContext;
  readonly verifier: ServerVerifier;
}

/** The system's trust store, for a connection without a client certificate. */
export function systemTrust(): ServerTrust {
  return { secureContext: tls.createSecureContext({ ca: systemCa() }), verifier: serverVerifier(undefined) };
}

let ofSystem: readonly Certificate[] | undefined;

/**
 * Verifies servers.
 *
 * @param serverCa PEM; absent: the system's trust store.
 */
export function serverVerifier(serverCa: string | undefined): ServerVerifier {
  return new ServerVerifier(
    serverCa === undefined ? ofSystem ??= readableCertificates(systemCa()) : certificatesInPem(serverCa),
  );
}

/** The system's trust store; the list that comes with the runtime where the system has none. */
export function systemCa(): string[] {
  const system = tls.getCACertificates("system");
  return [...(system.length > 0 ? system : tls.rootCertificates), ...tls.getCACertificates("extra")];
}

/** Stores of operating systems have certificates that cannot be read; these are left out. */
function readableCertificates(pems: readonly string[]): Certificate[] {
  return pems.flatMap((pem) => {
    try {
      return certificatesInPem(pem);
    } catch {
      return [];
    }
  });
}
