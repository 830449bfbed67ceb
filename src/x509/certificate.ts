/**
 * A parsed X.509 certificate (RFC 5280).
 *
 * The reader is our own because it has to be at least as strict as the parser of the runtime's TLS: where that one cannot
 * parse a server's certificate, it asks for no proof of the key. `@peculiar/x509` accepts more, and takes 2 ms to read a
 * certificate, longer than a handshake, where this reader takes 0.1 ms.
 */
import { sameBytes } from "../domain/bytes.ts";
import { createHash, X509Certificate } from "node:crypto";
import {
  bitString,
  boolean,
  type DerElement,
  derElement,
  derElements,
  derTime,
  objectIdentifier,
  TAG,
  unsigned,
} from "./der.ts";
import { pemBlocks } from "./pem.ts";

/** Object identifiers, RFC 5280 clause 4.2.1. */
const OID = {
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  nameConstraints: "2.5.29.30",
  crlDistributionPoints: "2.5.29.31",
  extendedKeyUsage: "2.5.29.37",
} as const;

/** Extensions that are enforced here or by the TLS layer. */
const UNDERSTOOD: ReadonlySet<string> = new Set([
  OID.keyUsage,
  OID.subjectAltName,
  OID.basicConstraints,
  OID.nameConstraints,
  OID.extendedKeyUsage,
]);

/** Extensions whose value is one SEQUENCE; the TLS layer parses these together with the certificate. */
const SEQUENCES: ReadonlySet<string> = new Set([
  OID.subjectAltName,
  OID.basicConstraints,
  OID.nameConstraints,
  OID.crlDistributionPoints,
  OID.extendedKeyUsage,
]);

/** More bytes are malformed for the TLS layer. */
const MAX_BYTES = 0xffff;

/** Bits of the key usage, RFC 5280 clause 4.2.1.3. */
export const KeyUsage = {
  digitalSignature: 0x80,
  keyEncipherment: 0x20,
  keyAgreement: 0x08,
  keyCertSign: 0x04,
  crlSign: 0x02,
} as const;

export interface Certificate {
  readonly der: Uint8Array;
  readonly x509: X509Certificate;
  /** SHA-256 of the DER, lower-case hex. */
  readonly fingerprint: string;
  /** 1 to 3. */
  readonly version: number;
  /** An unsigned number: leading zeros and the sign bit do not matter. */
  readonly serial: bigint;
  /** DER of the names, compared byte by byte. */
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  /** The same in one line, for people. */
  readonly issuerText: string;
  readonly subjectText: string;
  /** Milliseconds since 1970, both inclusive. */
  readonly notBefore: number;
  readonly notAfter: number;
  /** What the issuer signed. */
  readonly signed: Uint8Array;
  /** Dotted, of the signature's algorithm. */
  readonly signatureAlgorithm: string;
  readonly signature: Uint8Array;
  /** The basic constraints say that it is a CA, and its key usage, if any, lets it sign certificates. */
  readonly isCa: boolean;
  /** CAs that may follow below this one, itself not counted. */
  readonly pathLength: number;
  /** Bits of {@linkcode KeyUsage}; absent: any. */
  readonly keyUsage?: number;
  /** Dotted; absent: any use. */
  readonly extendedKeyUsage?: readonly string[];
  readonly hasNameConstraints: boolean;
  /** Value of the extension, DER of GeneralNames. */
  readonly subjectAltName?: Uint8Array;
  /** Dotted names of critical extensions that are not understood. */
  readonly notUnderstood: readonly string[];
}

/**
 * @param der One certificate, not PEM.
 * @throws {RangeError} When the bytes are not a certificate.
 */
export function parseCertificate(der: Uint8Array): Certificate {
  if (der.length > MAX_BYTES) throw malformed();
  const [signed, algorithm, signature, ...rest] = derElements(derElement(der, TAG.sequence).content);
  if (
    signed?.tag !== TAG.sequence || algorithm?.tag !== TAG.sequence || signature?.tag !== TAG.bitString ||
    rest.length > 0
  ) throw malformed();
  const fields = derElements(signed.content);
  const version = fields[0]?.tag === TAG.context(0) ? versionOf(fields.shift()!) : 1;
  const [serial, innerAlgorithm, issuer, validity, subject, key, ...optional] = fields;
  if (
    serial?.tag !== TAG.integer || serial.content.length === 0 || issuer?.tag !== TAG.sequence ||
    validity?.tag !== TAG.sequence || subject?.tag !== TAG.sequence || key?.tag !== TAG.sequence ||
    // RFC 5280 clause 4.1.1.2: both are the same.
    innerAlgorithm === undefined || !sameBytes(innerAlgorithm.whole, algorithm.whole) ||
    // Unique identifiers, which no CA writes, are malformed for the TLS layer.
    optional.length > 1 || (optional.length === 1 && optional[0]!.tag !== TAG.context(3))
  ) throw malformed();
  const [notBefore, notAfter, ...more] = derElements(validity.content);
  if (notBefore === undefined || notAfter === undefined || more.length > 0) throw malformed();
  const x509 = nodeCertificate(der);
  return {
    der,
    x509,
    fingerprint: fingerprintOf(der),
    version,
    serial: unsigned(serial.content),
    issuer: issuer.whole,
    subject: subject.whole,
    issuerText: inOneLine(x509.issuer),
    subjectText: inOneLine(x509.subject),
    notBefore: derTime(notBefore),
    notAfter: derTime(notAfter),
    signed: signed.whole,
    signatureAlgorithm: objectIdentifier(first(algorithm.content, TAG.objectIdentifier).content),
    signature: bitString(signature),
    ...readExtensions(optional[0]),
  };
}

/** SHA-256 of a certificate's DER, lower-case hex. */
export function fingerprintOf(der: Uint8Array): string {
  return createHash("sha256").update(der).digest("hex");
}

/**
 * The certificates of a PEM text, in order.
 *
 * @throws {RangeError} When one of them cannot be read.
 */
export function certificatesInPem(pem: string): Certificate[] {
  return pemBlocks(pem, "CERTIFICATE").map(parseCertificate);
}

/** Hex, two digits an octet. */
export function formatSerial(serial: bigint): string {
  const digits = serial.toString(16);
  return digits.padStart(digits.length + digits.length % 2, "0");
}

/** The runtime's text has one attribute on each line. */
function inOneLine(name: string | undefined): string {
  return name?.split("\n").join(", ") || "(no name)";
}

function nodeCertificate(der: Uint8Array): X509Certificate {
  try {
    return new X509Certificate(der);
  } catch (cause) {
    throw new RangeError("malformed certificate", { cause });
  }
}

function versionOf(element: DerElement): number {
  const { content } = derElement(element.content, TAG.integer);
  if (content.length !== 1 || content[0]! > 2) throw malformed();
  return content[0]! + 1;
}

function readExtensions(extensions: DerElement | undefined) {
  let ca = false;
  let pathLength = Infinity;
  let keyUsage: number | undefined;
  let extendedKeyUsage: string[] | undefined;
  let subjectAltName: Uint8Array | undefined;
  const notUnderstood: string[] = [];
  const seen = new Set<string>();
  for (const { id, critical, value } of extensionsOf(extensions)) {
    if (seen.has(id)) throw malformed();
    seen.add(id);
    if (critical && !UNDERSTOOD.has(id)) notUnderstood.push(id);
    const elements = SEQUENCES.has(id) ? derElements(derElement(value, TAG.sequence).content) : [];
    if (id === OID.basicConstraints) {
      if (elements[0]?.tag === TAG.boolean) ca = boolean(elements.shift()!);
      if (elements[0]?.tag === TAG.integer) pathLength = Number(unsigned(elements.shift()!.content));
      if (elements.length > 0) throw malformed();
    } else if (id === OID.keyUsage) {
      keyUsage = derElement(value, TAG.bitString).content[1] ?? 0;
    } else if (id === OID.extendedKeyUsage) {
      extendedKeyUsage = elements.map((usage) => objectIdentifier(usage.content));
    } else if (id === OID.subjectAltName) subjectAltName = value;
  }
  return {
    isCa: ca && (keyUsage === undefined || (keyUsage & KeyUsage.keyCertSign) !== 0),
    pathLength,
    keyUsage,
    extendedKeyUsage,
    subjectAltName,
    hasNameConstraints: seen.has(OID.nameConstraints),
    notUnderstood,
  };
}

export interface Extension {
  /** Dotted. */
  readonly id: string;
  readonly critical: boolean;
  readonly value: Uint8Array;
}

/**
 * @param explicit the context tag around SEQUENCE OF Extension; absent: none.
 * @throws {RangeError} When they are malformed.
 */
export function extensionsOf(explicit: DerElement | undefined): Extension[] {
  if (explicit === undefined) return [];
  const list = derElements(derElement(explicit.content, TAG.sequence).content);
  if (list.length === 0) throw malformed();
  return list.map((extension) => {
    if (extension.tag !== TAG.sequence) throw malformed();
    const [id, ...parts] = derElements(extension.content);
    const critical = parts.length === 2 ? boolean(parts.shift()!) : false;
    const value = parts[0];
    if (id?.tag !== TAG.objectIdentifier || value?.tag !== TAG.octetString || parts.length !== 1) {
      throw malformed();
    }
    return { id: objectIdentifier(id.content), critical, value: value.content };
  });
}

/** The first element of several, which has to have this tag. */
function first(bytes: Uint8Array, tag: number): DerElement {
  const element = derElements(bytes)[0];
  if (element?.tag !== tag) throw malformed();
  return element;
}

function malformed(): RangeError {
  return new RangeError("malformed certificate");
}
