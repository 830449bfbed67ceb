/** Whom this program trusts to vouch for servers that it calls. */
import tls from "node:tls";
import { type Certificate, certificatesInPem } from "../x509/certificate.ts";
import { ServerVerifier } from "../x509/verifier.ts";

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

/** The system's trust store, or the list of the runtime if the system has none. */
export function systemCa(): string[] {
  const system = tls.getCACertificates("system");
  return [...(system.length > 0 ? system : tls.rootCertificates), ...tls.getCACertificates("extra")];
}

/** Trust stores of operating systems contain certificates that cannot be parsed; these are left out. */
function readableCertificates(pems: readonly string[]): Certificate[] {
  return pems.flatMap((pem) => {
    try {
      return certificatesInPem(pem);
    } catch {
      return [];
    }
  });
}
