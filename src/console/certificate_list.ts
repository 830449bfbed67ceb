/** The certificates of a configuration and when they expire. */
import { type Certificate, formatSerial } from "../x509/certificate.ts";
import { parseCertificates, parsePkcs12 } from "../x509/certificate_files.ts";
import type { ClientCertificate, Config } from "../config/config.ts";
import { httpsInterfacesOf } from "../config/https_interfaces.ts";
import { isNeighbour } from "../domain/network.ts";
import { DAY_MS } from "../domain/time.ts";
import type { CertificateStatus } from "../metrics/kme_status.ts";

export type KnownCertificate = Omit<CertificateStatus, "daysLeft">;

/** All certificates that a configuration names, including intermediates, in its order. */
export function certificatesOf(
  { thisKme, otherKmes }: Pick<Config, "thisKme" | "otherKmes">,
): KnownCertificate[] {
  return [
    ...httpsInterfacesOf(thisKme).flatMap(({ member, material: { serverCert, clientCa } }) => [
      ...describe(`${member}.server_cert_path`, "server", inPem(serverCert)),
      ...describe(`${member}.ca_client_cert_path`, "client CA", inPem(clientCa)),
    ]),
    ...otherKmes.flatMap((kme, index) => {
      if (!isNeighbour(kme)) return [];
      const member = `other_kmes[${index}]`;
      return [
        ...describe(
          `${member}.https_client_authentication_certificate`,
          "client",
          inClientCertificate(kme.clientCertificate),
        ),
        ...describe(`${member}.inter_kme_ca_cert_path`, "server CA", inPem(kme.serverCa ?? "")),
        ...kme.device === undefined ? [] : [
          ...describe(
            `${member}.key_source.https_client_authentication_certificate`,
            "client",
            inClientCertificate(kme.device.clientCertificate),
          ),
          ...describe(`${member}.key_source.ca_cert_path`, "server CA", inPem(kme.device.serverCa ?? "")),
        ],
      ];
    }),
  ];
}

/** Whole days until a certificate expires; negative afterwards. */
export function daysLeft({ notAfter }: KnownCertificate, now: Date): number {
  return daysUntil(Date.parse(notAfter), now);
}

/** Whole days until a time in milliseconds since 1970; negative afterwards. */
export function daysUntil(end: number, now: Date): number {
  return Math.floor((end - now.getTime()) / DAY_MS);
}

function describe(
  member: string,
  use: CertificateStatus["use"],
  certificates: readonly Certificate[],
): KnownCertificate[] {
  return certificates.map((certificate) => ({
    member,
    use,
    subject: certificate.subjectText,
    serial: formatSerial(certificate.serial),
    notBefore: new Date(certificate.notBefore).toISOString(),
    notAfter: new Date(certificate.notAfter).toISOString(),
  }));
}

function inPem(pem: string): readonly Certificate[] {
  const parsed = parseCertificates(new TextEncoder().encode(pem));
  return "value" in parsed ? parsed.value.certificates : [];
}

function inClientCertificate(certificate: ClientCertificate): readonly Certificate[] {
  if (certificate.kind === "pem") return inPem(certificate.cert);
  const parsed = parsePkcs12(certificate.pfx, certificate.passphrase);
  return "value" in parsed ? parsed.value.certificates : [];
}
