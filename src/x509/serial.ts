/** Certificate serial numbers as numbers, so that zeros in front and the sign bit never matter. */
import type { X509Certificate } from "node:crypto";
import { readCertificate } from "./certificate_fields.ts";

/**
 * Serial number of a certificate, read from its DER. The text forms of TLS libraries lose zeros in front or the
 * sign octet. A serial of octets `F0 ..` (negative, strictly) and one of `00 F0 ..` are the same number here.
 *
 * @throws {RangeError} When the bytes are not a certificate.
 */
export function certificateSerial(certificate: Uint8Array | X509Certificate): bigint {
  return readCertificate(certificate instanceof Uint8Array ? certificate : certificate.raw).serial;
}
