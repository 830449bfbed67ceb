/** The fields of an X.509 certificate (RFC 5280) on which the verification of clients rests. */
import { type DerElement, derElement, derElements, objectIdentifier, TAG, unsigned } from "./der.ts";

/** Object identifiers, RFC 5280 section 4.2.1. */
const OID = {
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  nameConstraints: "2.5.29.30",
  extendedKeyUsage: "2.5.29.37",
} as const;

/** Extensions whose rules are obeyed here, or do not bear on who a client is. */
const UNDERSTOOD: ReadonlySet<string> = new Set(Object.values(OID));

/** `keyCertSign` is bit 5 of the key usage, counted from the top. */
const KEY_CERT_SIGN = 0x04;

export interface CertificateFields {
  /** 1 to 3. */
  readonly version: number;
  readonly serial: bigint;
  /** DER of the names, compared byte by byte. */
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  /** What the issuer signed. */
  readonly signed: Uint8Array;
  /** Dotted, of the signature's algorithm. */
  readonly signatureAlgorithm: string;
  readonly signature: Uint8Array;
  /** The basic constraints say that it is a CA, and its key usage, if any, lets it sign certificates. */
  readonly isCa: boolean;
  /** CAs that may follow below this one, itself not counted. */
  readonly pathLength: number;
  /** Dotted; absent: any use. */
  readonly extendedKeyUsage?: readonly string[];
  readonly hasNameConstraints: boolean;
  /** Contents of the extension, DER of GeneralNames. */
  readonly subjectAltName?: Uint8Array;
  /** Dotted names of critical extensions that are not understood. */
  readonly notUnderstood: readonly string[];
}

/**
 * Reads a certificate.
 *
 * @param der One certificate, not PEM.
 * @throws {RangeError} When the bytes are not a certificate.
 */
export function readCertificate(der: Uint8Array): CertificateFields {
  const [signed, algorithm, signature, ...rest] = derElements(derElement(der, TAG.sequence).content);
  if (
    signed?.tag !== TAG.sequence || algorithm?.tag !== TAG.sequence || signature?.tag !== TAG.bitString ||
    signature.content[0] !== 0 || rest.length > 0
  ) throw new RangeError("malformed certificate");
  const fields = derElements(signed.content);
  const version = fields[0]?.tag === TAG.context(0)
    ? Number(unsigned(derElement(fields.shift()!.content, TAG.integer).content)) + 1
    : 1;
  const [serial, innerAlgorithm, issuer, _validity, subject, _key, ...optional] = fields;
  if (
    serial?.tag !== TAG.integer || serial.content.length === 0 || issuer?.tag !== TAG.sequence ||
    subject?.tag !== TAG.sequence ||
    // RFC 5280 section 4.1.1.2: both say the same.
    innerAlgorithm === undefined || !sameBytes(innerAlgorithm.whole, algorithm.whole)
  ) throw new RangeError("malformed certificate");
  const extensions = optional.find((element) => element.tag === TAG.context(3));
  return {
    version,
    serial: unsigned(serial.content),
    issuer: issuer.whole,
    subject: subject.whole,
    signed: signed.whole,
    signatureAlgorithm: objectIdentifier(first(algorithm.content, TAG.objectIdentifier).content),
    signature: signature.content.subarray(1),
    ...readExtensions(extensions),
  };
}

function readExtensions(extensions: DerElement | undefined) {
  let ca = false;
  let pathLength = Infinity;
  let mayCertify = true;
  let extendedKeyUsage: string[] | undefined;
  let subjectAltName: Uint8Array | undefined;
  const notUnderstood: string[] = [];
  const seen = new Set<string>();
  const list = extensions ? derElements(derElement(extensions.content, TAG.sequence).content) : [];
  for (const extension of list) {
    const parts = derElements(extension.content);
    const id = objectIdentifier(first(extension.content, TAG.objectIdentifier).content);
    const value = parts.at(-1)!;
    const critical = parts.length === 3 && parts[1]!.tag === TAG.boolean && parts[1]!.content[0] !== 0;
    if (parts.length > 3 || value.tag !== TAG.octetString || seen.has(id)) {
      throw new RangeError("malformed certificate");
    }
    seen.add(id);
    if (critical && !UNDERSTOOD.has(id)) notUnderstood.push(id);
    if (id === OID.basicConstraints) {
      const constraints = derElements(derElement(value.content, TAG.sequence).content);
      if (constraints[0]?.tag === TAG.boolean) ca = constraints.shift()!.content[0] !== 0;
      if (constraints[0]?.tag === TAG.integer) pathLength = Number(unsigned(constraints[0].content));
    } else if (id === OID.keyUsage) {
      const bits = derElement(value.content, TAG.bitString).content;
      mayCertify = ((bits[1] ?? 0) & KEY_CERT_SIGN) !== 0;
    } else if (id === OID.extendedKeyUsage) {
      extendedKeyUsage = derElements(derElement(value.content, TAG.sequence).content)
        .map((usage) => objectIdentifier(usage.content));
    } else if (id === OID.subjectAltName) {
      subjectAltName = value.content;
    }
  }
  return {
    isCa: ca && mayCertify,
    pathLength,
    extendedKeyUsage,
    subjectAltName,
    hasNameConstraints: seen.has(OID.nameConstraints),
    notUnderstood,
  };
}

/** The first element of several, which has to have this tag. */
function first(bytes: Uint8Array, tag: number): DerElement {
  const element = derElements(bytes)[0];
  if (element?.tag !== tag) throw new RangeError("malformed certificate");
  return element;
}

/** Whether two byte strings are equal; not for secrets. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((octet, i) => octet === b[i]);
}
