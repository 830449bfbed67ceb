/**
 * Serial numbers of certificates as this tool writes them: the magnitude of a positive number, without the zero
 * byte that DER puts before a top bit (RFC 5280, clause 4.1.2.2).
 */

/** Longest serial number in octets of its DER encoding (RFC 5280, clause 4.1.2.2). */
const MAX_DER_OCTETS = 20;

/** 20 random bytes, the first between 0x40 and 0x7f: positive, and of the same length however it is printed. */
export function randomSerial(): Uint8Array {
  const serial = crypto.getRandomValues(new Uint8Array(MAX_DER_OCTETS));
  serial[0] = (serial[0]! & 0x3f) | 0x40;
  return serial;
}

/**
 * Bytes of a serial number written in hex, as in `0a:f1` or `00AF1`; leading zeros are dropped.
 * Undefined when it is not hex, zero, or longer than 20 octets in DER.
 */
export function serialFromHex(text: string): Uint8Array | undefined {
  const digits = text.replaceAll(/[:\s]/g, "").replace(/^0x/i, "").replace(/^0+/, "");
  if (!/^[0-9a-f]+$/i.test(digits)) return undefined;
  const even = digits.length % 2 === 0 ? digits : `0${digits}`;
  const serial = Uint8Array.from(even.match(/../g)!, (byte) => parseInt(byte, 16));
  const signPadding = serial[0]! >= 0x80 ? 1 : 0;
  return serial.length + signPadding > MAX_DER_OCTETS ? undefined : serial;
}
