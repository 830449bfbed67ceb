/** Certificate revocation lists (RFC 5280, clause 5) of the CAs of a network. */
import "reflect-metadata";
import * as asn1js from "asn1js";
import * as pkijs from "pkijs";
import * as x509 from "@peculiar/x509";
import { BACKDATED_MS, type Identity, MS_PER_DAY, signatureAlgorithm, subjectKeyId } from "./issue.ts";
import { serialFromHex } from "./random_serial.ts";

/** RFC 5280, clause 5.2.3. */
const CRL_NUMBER = "2.5.29.20";

/** A certificate that was revoked. */
export interface Revoked {
  /** Bytes of its serial number without sign padding. */
  readonly serial: Uint8Array;
  readonly date: Date;
}

export interface Crl {
  readonly number: number;
  readonly nextUpdate?: Date;
  readonly revoked: readonly Revoked[];
}

/**
 * PEM of a CRL. Made with pkijs: the generator of @peculiar/x509 2.2 gives each entry an empty
 * list of extensions, which RFC 5280 does not allow, and the PEM a label that openssl does not read.
 */
export async function issueCrl(
  ca: Identity,
  revoked: readonly Revoked[],
  number: number,
  now: Date,
  /** Days after which it has to be replaced. */
  days: number,
): Promise<string> {
  const time = (milliseconds: number) => {
    const value = new Date(milliseconds);
    // RFC 5280, clause 5.1.2.4: UTCTime through 2049, then GeneralizedTime.
    return new pkijs.Time({ type: value.getUTCFullYear() < 2050 ? 0 : 1, value });
  };
  const authority = new x509.AuthorityKeyIdentifierExtension(subjectKeyId(ca.certificate));
  const crl = new pkijs.CertificateRevocationList({
    version: 1,
    issuer: pkijs.Certificate.fromBER(ca.certificate.rawData).subject,
    thisUpdate: time(now.getTime() - BACKDATED_MS),
    nextUpdate: time(now.getTime() + days * MS_PER_DAY),
    revokedCertificates: revoked.length === 0
      ? undefined
      : revoked.map(({ serial, date }) =>
        new pkijs.RevokedCertificate({
          userCertificate: integer(serial),
          revocationDate: time(date.getTime()),
        })
      ),
    crlExtensions: new pkijs.Extensions({
      extensions: [
        new pkijs.Extension({ extnID: authority.type, extnValue: authority.value }),
        new pkijs.Extension({ extnID: CRL_NUMBER, extnValue: new asn1js.Integer({ value: number }).toBER() }),
      ],
    }),
  });
  const { hash } = signatureAlgorithm(ca.keys.privateKey);
  await crl.sign(ca.keys.privateKey, hash as string);
  return `${x509.PemConverter.encode(crl.toSchema(true).toBER(), "X509 CRL").trim()}\n`;
}

/** An INTEGER with this magnitude. */
function integer(magnitude: Uint8Array): asn1js.Integer {
  const valueHex = magnitude[0]! < 0x80 ? magnitude : Uint8Array.of(0, ...magnitude);
  return new asn1js.Integer({ valueHex: new Uint8Array(valueHex) });
}

/**
 * Reads a CRL of a CA.
 *
 * @throws Error when the text is not a CRL that this CA signed.
 */
export async function readCrl(pem: string, ca: x509.X509Certificate): Promise<Crl> {
  const crl = new x509.X509Crl(pem);
  if (crl.issuer !== ca.subject || !await crl.verify({ publicKey: ca.publicKey })) {
    throw new Error("the CRL was not signed by the CA");
  }
  const number = crl.getExtension(CRL_NUMBER);
  return {
    number: number === null ? 0 : (asn1js.fromBER(number.value).result as asn1js.Integer).valueBlock.valueDec,
    nextUpdate: crl.nextUpdate,
    revoked: crl.entries.map(({ serialNumber, revocationDate }) => ({
      serial: serialFromHex(serialNumber) ?? new Uint8Array(1),
      date: revocationDate,
    })),
  };
}
