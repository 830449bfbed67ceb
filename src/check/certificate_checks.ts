/** Whether the certificates of a configuration do what they are there for. Pure but for the list of the system's CAs. */
import type { X509Certificate } from "node:crypto";
import { parsePkcs12 } from "../x509/pem.ts";
import type { ClientCertificate, Config, HttpsInterface, NeighbourKme } from "../config/config.ts";
import { isNeighbour } from "../domain/network.ts";
import { systemCa } from "../inter_kme/credentials.ts";
import { ClientVerifier } from "../x509/verifier.ts";
import {
  certificatesOf,
  type Chain,
  chainOf,
  fieldsOf,
  hostsOf,
  isFor,
  nameOf,
  serves,
  Usage,
} from "../x509/chain.ts";
import { type CheckLine, ok, warn, wrong } from "./check_line.ts";
import { isLoopback } from "../domain/address.ts";
import { errorMessage } from "../domain/text.ts";

/** Chains, uses and names of all certificates; dates are the loader's affair. */
export function checkCertificates(config: Config): CheckLine[] {
  const { thisKme } = config;
  const neighbours = config.otherKmes.map((kme, index) => ({ kme, member: `other_kmes[${index}]` }))
    .flatMap(({ kme, member }) => isNeighbour(kme) ? [{ kme, member }] : []);
  const authorities = [
    ...certificatesOf(thisKme.saesInterface.clientCa),
    ...certificatesOf(thisKme.kmesInterface.clientCa),
    ...neighbours.flatMap(({ kme }) => certificatesOf(kme.serverCa ?? "")),
  ];
  return [
    ...checkInterface("this_kme.saes_https_interface", thisKme.saesInterface, authorities),
    ...checkInterface("this_kme.kmes_https_interface", thisKme.kmesInterface, authorities),
    ...checkSeparation(config),
    ...neighbours.flatMap(({ kme, member }) => checkNeighbour(member, kme, authorities)),
  ];
}

function checkInterface(
  member: string,
  material: HttpsInterface,
  authorities: readonly X509Certificate[],
): CheckLine[] {
  const certificates = certificatesOf(material.serverCert);
  const server = certificates[0]!;
  return [
    checkClientCa(`${member}.ca_client_cert_path`, material.clientCa),
    checkServer(`${member}.server_cert_path`, certificates, authorities),
    checkNames(`${member}.server_cert_path`, server, material.listen.hostname),
  ];
}

function checkClientCa(member: string, pem: string): CheckLine {
  try {
    const { anchors } = new ClientVerifier(pem);
    return ok(
      member,
      `clients need a certificate of ${anchors.map((ca) => subjectOf(certificatesOf(ca))).join("; ")}`,
    );
  } catch (error) {
    return wrong(
      member,
      errorMessage(error),
      "put the certificate of the CA there that issues the clients' certificates",
    );
  }
}

function checkServer(
  member: string,
  certificates: readonly X509Certificate[],
  authorities: readonly X509Certificate[],
): CheckLine {
  const server = certificates[0]!;
  if (!serves(server, Usage.server)) {
    return wrong(
      member,
      "the certificate is not for TLS servers",
      "issue one with the extended key usage serverAuth",
    );
  }
  if (fieldsOf(server).isCa) {
    return warn(
      member,
      "the certificate is a CA's own, so the server's key can issue certificates",
      "issue one for the server alone",
    );
  }
  const chain = chainOf(certificates, [...authorities, ...systemAuthorities()]);
  return lineOfChain(
    member,
    chain,
    until(certificates),
    "clients have to trust it as it is",
    (issuer) =>
      warn(
        member,
        `issued by ${issuer}, which is in no CA file of this configuration`,
        "make sure that the clients have that CA's certificate",
      ),
  );
}

/** Clients compare the name they call with the names in the certificate. */
function checkNames(member: string, server: X509Certificate, host: string): CheckLine {
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
    if (!hosts.every(isLoopback)) return ok(member, `${names}; clients have to call one of these`);
    return warn(
      member,
      `${names} only, but the listener is open to other machines`,
      "issue one with the names and addresses under which clients call, or listen on loopback",
    );
  }
  if (isFor(server, host)) return ok(member, names);
  return warn(
    member,
    `${names}, not for ${host} of listen_address: clients that call ${host} refuse it`,
    "issue one for the names and addresses under which clients call",
  );
}

/** With one CA for both, an SAE's certificate would be accepted from a KME. */
function checkSeparation({ thisKme }: Config): CheckLine[] {
  const member = "this_kme.kmes_https_interface.ca_client_cert_path";
  const ofSaes = new Set(certificatesOf(thisKme.saesInterface.clientCa).map((ca) => ca.fingerprint256));
  if (!certificatesOf(thisKme.kmesInterface.clientCa).some((ca) => ofSaes.has(ca.fingerprint256))) return [];
  return [warn(
    member,
    "the CA of the SAEs is also a CA for other KMEs, so an SAE can pass for a KME",
    "use a CA of its own for KMEs",
  )];
}

function checkNeighbour(
  member: string,
  kme: NeighbourKme,
  authorities: readonly X509Certificate[],
): CheckLine[] {
  const certificateMember = `${member}.https_client_authentication_certificate`;
  const certificates = clientCertificates(kme.clientCertificate);
  const client = certificates[0]!;
  const lines: CheckLine[] = [];
  if (!serves(client, Usage.client)) {
    lines.push(wrong(
      certificateMember,
      "the certificate is not for TLS clients",
      "issue one with the extended key usage clientAuth",
    ));
  } else {
    const chain = chainOf(certificates, authorities);
    const unknown = (issuer: string) =>
      ok(certificateMember, `issued by ${issuer}; whether KME ${kme.id.text} takes it, --peers tells`);
    const trust = `KME ${kme.id.text} has to trust it as it is`;
    lines.push(lineOfChain(certificateMember, chain, until(certificates), trust, unknown));
  }
  if (kme.serverCa !== undefined) {
    const cas = certificatesOf(kme.serverCa);
    const caMember = `${member}.inter_kme_ca_cert_path`;
    // A server's own certificate may be trusted by itself.
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
      return wrong(
        member,
        `certificate ${chain.place + 1} in the file did not issue certificate ${chain.place}`,
        "put the certificate first, then its issuer's, then that one's issuer's",
      );
    case "otherKey":
      return wrong(
        member,
        `the certificate names ${chain.issuer} as its issuer, but the CA of that name here has another key`,
        "issue the certificate anew with that CA, or put the right CA's certificate there",
      );
    case "unknownIssuer":
      return unknown(chain.issuer);
  }
}

/** Of a file with a certificate and its issuers. */
export function clientCertificates(certificate: ClientCertificate): X509Certificate[] {
  if (certificate.kind === "pem") return certificatesOf(certificate.cert);
  const parsed = parsePkcs12(certificate.pfx, certificate.passphrase);
  // The loader has opened it already.
  if ("complaint" in parsed) throw new Error(parsed.complaint);
  return [...parsed.value.certificates];
}

function until(certificates: readonly X509Certificate[]): string {
  const first = Math.min(...certificates.map(({ validTo }) => new Date(validTo).getTime()));
  return `valid until ${new Date(first).toISOString().slice(0, 10)}`;
}

function subjectOf(certificates: readonly X509Certificate[]): string {
  return certificates.map(({ subject }) => nameOf(subject)).join("; ");
}

let systemCertificates: X509Certificate[] | undefined;

function systemAuthorities(): X509Certificate[] {
  return systemCertificates ??= systemCa().flatMap((pem) => {
    try {
      return certificatesOf(pem);
    } catch {
      return []; // not ours to judge
    }
  });
}
