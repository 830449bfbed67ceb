/**
 * The part of DER (ITU-T X.690) that certificates and CRLs need. It refuses what it does not understand: a certificate that
 * two parsers read differently must not be accepted.
 */

/** One element; the byte ranges are views, nothing is copied. */
export interface DerElement {
  /** The identifier octet. */
  readonly tag: number;
  /** The contents. */
  readonly content: Uint8Array;
  /** Identifier, length and contents. */
  readonly whole: Uint8Array;
}

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectIdentifier: 0x06,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  /** `[n] EXPLICIT` or another constructed context tag. */
  context: (n: number) => 0xa0 | n,
} as const;

/** @throws {RangeError} When the bytes are not definite-length DER. */
function readElement(bytes: Uint8Array, offset: number): DerElement {
  const tag = bytes[offset];
  const first = bytes[offset + 1];
  if (tag === undefined || first === undefined || (tag & 0x1f) === 0x1f) {
    throw new RangeError("malformed DER");
  }
  let length = first;
  let start = offset + 2;
  if (first >= 0x80) {
    const octets = first & 0x7f;
    // 0x80 is BER's indefinite length; more than four octets is more than a certificate can hold.
    if (octets === 0 || octets > 4) throw new RangeError("malformed DER");
    length = 0;
    for (let i = 0; i < octets; i++) length = length * 256 + (bytes[start + i] ?? NaN);
    if (!(length >= 0x80) || bytes[start] === 0) throw new RangeError("malformed DER");
    start += octets;
  }
  if (start + length > bytes.length) throw new RangeError("malformed DER");
  return {
    tag,
    content: bytes.subarray(start, start + length),
    whole: bytes.subarray(offset, start + length),
  };
}

/**
 * The elements that follow each other in these bytes, to the last byte.
 *
 * @throws {RangeError} When the bytes are not DER.
 */
export function derElements(bytes: Uint8Array): DerElement[] {
  const elements: DerElement[] = [];
  for (let offset = 0; offset < bytes.length;) {
    const element = readElement(bytes, offset);
    elements.push(element);
    offset += element.whole.length;
  }
  return elements;
}

/**
 * The one element these bytes are.
 *
 * @throws {RangeError} When they are not DER, have another tag, or something follows.
 */
export function derElement(bytes: Uint8Array, tag: number): DerElement {
  const element = readElement(bytes, 0);
  if (element.tag !== tag || element.whole.length !== bytes.length) throw new RangeError("malformed DER");
  return element;
}

/** @throws {RangeError} When the element is not a BOOLEAN of DER, which has two values only. */
export function boolean({ tag, content }: DerElement): boolean {
  if (tag !== TAG.boolean || content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff)) {
    throw new RangeError("malformed DER");
  }
  return content[0] === 0xff;
}

/** @throws {RangeError} When the element is not a BIT STRING of whole octets. */
export function bitString({ tag, content }: DerElement): Uint8Array {
  if (tag !== TAG.bitString || content[0] !== 0) throw new RangeError("malformed DER");
  return content.subarray(1);
}

/**
 * Milliseconds since 1970 of a UTCTime or GeneralizedTime, in the forms of RFC 5280 clause 4.1.2.5.
 *
 * @throws {RangeError} When the element is neither.
 */
export function derTime({ tag, content }: DerElement): number {
  const text = String.fromCharCode(...content);
  const match = /^(\d\d|\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text);
  const [, year = "", month, day, hour, minute, second] = match ?? [];
  if (tag !== TAG.utcTime && tag !== TAG.generalizedTime || year.length !== (tag === TAG.utcTime ? 2 : 4)) {
    throw new RangeError("malformed DER");
  }
  const century = year.length === 4 ? "" : Number(year) < 50 ? "20" : "19";
  const date = Date.parse(`${century}${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  if (Number.isNaN(date)) throw new RangeError("malformed DER");
  return date;
}

/** Unsigned value of an INTEGER's contents: a sign octet does not count, a set top bit is magnitude. */
export function unsigned(content: Uint8Array): bigint {
  let value = 0n;
  for (const octet of content) value = value << 8n | BigInt(octet);
  return value;
}

/**
 * An OBJECT IDENTIFIER's contents in dotted form.
 *
 * @throws {RangeError} When they end within a number.
 */
export function objectIdentifier(content: Uint8Array): string {
  const numbers: bigint[] = [];
  let value = 0n;
  for (const octet of content) {
    value = value << 7n | BigInt(octet & 0x7f);
    if (octet < 0x80) {
      numbers.push(value);
      value = 0n;
    }
  }
  const first = numbers.shift();
  if (first === undefined || content[content.length - 1]! >= 0x80) throw new RangeError("malformed DER");
  const root = first < 80n ? first / 40n : 2n;
  return [root, first - root * 40n, ...numbers].join(".");
}
