/** Checks the certificates of a configuration. Pure but for the list of the system's CAs. */
import { parsePkcs12 } from "../x509/certificate_files.ts";
import type { ClientCertificate, Config, HttpsInterface, NeighbourKme } from "../config/config.ts";
import { httpsInterfacesOf } from "../config/https_interfaces.ts";
import { isNeighbour } from "../domain/network.ts";
import { systemCa } from "../tls/server_trust.ts";
import { type Certificate, certificatesInPem } from "../x509/certificate.ts";
import { type Chain, chainOf, serves } from "../x509/chain.ts";
import { hostsOf, isForHost } from "../x509/host_name.ts";
import { Usage } from "../x509/verifier.ts";
import { type CheckLine, configError, ok, warn } from "./check_line.ts";
import { isLoopback } from "../domain/address.ts";

/** Checks chains, key usage and names of all certificates. The loader of the configuration has checked the dates. */
export function checkCertificates(config: Config): CheckLine[] {
  const { thisKme } = config;
  const neighbours = config.otherKmes.map((kme, index) => ({ kme, member: `other_kmes[${index}]` }))
    .flatMap(({ kme, member }) => isNeighbour(kme) ? [{ kme, member }] : []);
  const authorities = [
    ...httpsInterfacesOf(thisKme).flatMap(({ material }) => certificatesInPem(material.clientCa)),
    ...neighbours.flatMap(({ kme }) => certificatesInPem(kme.serverCa ?? "")),
  ];
  return [
    ...httpsInterfacesOf(thisKme).flatMap(({ member, material }) =>
      checkInterface(member, material, authorities)
    ),
    ...neighbours.flatMap(({ kme, member }) => checkNeighbour(member, kme, authorities)),
  ];
}

function checkInterface(
  member: string,
  material: HttpsInterface,
  authorities: readonly Certificate[],
): CheckLine[] {
  const certificates = certificatesInPem(material.serverCert);
  const server = certificates[0]!;
  return [
    ok(
      `${member}.ca_client_cert_path`,
      `clients need a certificate of ${subjectOf(certificatesInPem(material.clientCa))}`,
    ),
    checkServer(`${member}.server_cert_path`, certificates, authorities),
    checkNames(`${member}.server_cert_path`, server, material.listen.hostname),
  ];
}

function checkServer(
  member: string,
  certificates: readonly Certificate[],
  authorities: readonly Certificate[],
): CheckLine {
  const server = certificates[0]!;
  if (!serves(server, Usage.server)) {
    return configError(
      member,
      "the certificate is not for TLS servers",
      "issue one with the extended key usage serverAuth",
    );
  }
  if (server.isCa) {
    return warn(
      member,
      "the certificate is a CA certificate, so the server's key can issue certificates",
      "issue a server certificate that is not a CA certificate",
    );
  }
  const chain = chainOf(certificates, [...authorities, ...systemAuthorities()]);
  return lineOfChain(
    member,
    chain,
    until(certificates),
    "clients have to trust this very certificate",
    (issuer) =>
      warn(
        member,
        `issued by ${issuer}, which is in no CA file of this configuration`,
        "make sure that the clients trust that CA",
      ),
  );
}

/** Clients compare the host that they call with the names in the certificate. */
function checkNames(member: string, server: Certificate, host: string): CheckLine {
  const hosts = hostsOf(server);
  if (hosts.length === 0) {
    return warn(
      member,
      "the certificate names no host or address (subjectAltName), so most clients refuse it",
      "issue one with the names and addresses under which clients call",
    );
  }
  const names = `the certificate is for ${hosts.join(", ")}`;
  if (host === "0.0.0.0" || host === "::") {
    if (!hosts.every(isLoopback)) return ok(member, `${names}; clients have to use one of these names`);
    return warn(
      member,
      `${names} only, but the listener is open to other machines`,
      "issue one with the names and addresses under which clients call, or listen on loopback",
    );
  }
  if (isForHost(server, host)) return ok(member, names);
  return warn(
    member,
    `${names}, not for ${host} of listen_address: clients that call ${host} refuse it`,
    "issue one for the names and addresses under which clients call",
  );
}

function checkNeighbour(
  member: string,
  kme: NeighbourKme,
  authorities: readonly Certificate[],
): CheckLine[] {
  const certificateMember = `${member}.https_client_authentication_certificate`;
  const certificates = clientCertificates(kme.clientCertificate);
  const client = certificates[0]!;
  const lines: CheckLine[] = [];
  if (!serves(client, Usage.client)) {
    lines.push(configError(
      certificateMember,
      "the certificate is not for TLS clients",
      "issue one with the extended key usage clientAuth",
    ));
  } else {
    const chain = chainOf(certificates, authorities);
    const unknown = (issuer: string) =>
      ok(certificateMember, `issued by ${issuer}; use --peers to see whether KME ${kme.id.text} accepts it`);
    const trust = `KME ${kme.id.text} has to trust this very certificate`;
    lines.push(lineOfChain(certificateMember, chain, until(certificates), trust, unknown));
  }
  if (kme.serverCa !== undefined) {
    const cas = certificatesInPem(kme.serverCa);
    const caMember = `${member}.inter_kme_ca_cert_path`;
    // Not checked for being a CA: the server's own certificate may be trusted directly.
    lines.push(ok(caMember, `KME ${kme.id.text} needs a certificate of ${subjectOf(cas)}`));
  }
  return lines;
}

function lineOfChain(
  member: string,
  chain: Chain,
  until: string,
  trust: string,
  unknown: (issuer: string) => CheckLine,
): CheckLine {
  switch (chain.kind) {
    case "complete":
      return ok(member, `issued by ${chain.issuer}, ${until}`);
    case "selfSigned":
      return warn(member, `the certificate is self-signed: ${trust}`, "have it issued by a CA");
    case "disorder":
      return configError(
        member,
        `certificate ${chain.place + 1} in the file did not issue certificate ${chain.place}`,
        "put the certificate first, then its issuer's, and so on",
      );
    case "otherKey":
      return configError(
        member,
        `the certificate names ${chain.issuer} as its issuer, but the CA of that name here has another key`,
        "issue the certificate again with that CA, or put the right CA certificate into the CA file",
      );
    case "unknownIssuer":
      return unknown(chain.issuer);
  }
}

/** The certificate with which a neighbour is called, and its issuers after it. */
export function clientCertificates(certificate: ClientCertificate): Certificate[] {
  if (certificate.kind === "pem") return certificatesInPem(certificate.cert);
  const parsed = parsePkcs12(certificate.pfx, certificate.passphrase);
  // The loader of the configuration has opened it before.
  if ("problem" in parsed) throw new Error(parsed.problem);
  return [...parsed.value.certificates];
}

function until(certificates: readonly Certificate[]): string {
  const first = Math.min(...certificates.map(({ notAfter }) => notAfter));
  return `valid until ${new Date(first).toISOString().slice(0, 10)}`;
}

function subjectOf(certificates: readonly Certificate[]): string {
  return certificates.map(({ subjectText }) => subjectText).join("; ");
}

let systemCertificates: Certificate[] | undefined;

function systemAuthorities(): Certificate[] {
  return systemCertificates ??= systemCa().flatMap((pem) => {
    try {
      return certificatesInPem(pem);
    } catch {
      return []; // the system's own certificates are not checked
    }
  });
}
