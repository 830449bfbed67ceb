/** Certificates and trust of the client side of inter-KME TLS. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { Buffer } from "node:buffer";
import tls from "node:tls";
import type { ClientCertificate } from "../config/config.ts";
import { serverVerifier, systemCa } from "./server_trust.ts";
import type { ServerVerifier } from "../x509/verifier.ts";

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
  // Always set: without `ca`, any CA certificates inside a PKCS#12 file would be trusted for the peer's server certificate.
  const ca = serverCa ?? systemCa();
  if (certificate.kind === "pfx") {
    const pfx = Buffer.from(certificate.pfx);
    return tls.createSecureContext({ ca, minVersion, pfx, passphrase: certificate.passphrase });
  }
  // Fails here if the key cannot be decrypted; TLS would silently connect without a client certificate.
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

/** What is needed to verify a server. */
export interface ServerTrust {
  readonly secureContext: tls.SecureContext;
  readonly verifier: ServerVerifier;
}

/** The system's trust store, for a connection without a client certificate. */
export function systemTrust(): ServerTrust {
  return { secureContext: tls.createSecureContext({ ca: systemCa() }), verifier: serverVerifier(undefined) };
}
