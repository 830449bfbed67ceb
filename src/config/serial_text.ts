/** Parses certificate serial numbers in a configuration. */
import type { Parsed } from "../domain/parsed.ts";

const RIGHT = 'write its bytes as in [0x0a, 0xf1], or hexadecimal digits as in "0A:F1"';

/**
 * Parses a serial number: an array of its bytes, or hexadecimal digits in a string. Leading zeros do not matter
 * (RFC 5280, clause 4.1.2.2: positive, at most 20 octets; the length is not enforced).
 */
export function parseSerial(value: string | readonly unknown[]): Parsed<bigint> {
  const parsed = typeof value === "string" ? fromText(value) : fromBytes(value);
  if ("value" in parsed && parsed.value === 0n) {
    return { problem: `zero is not a valid serial number; ${RIGHT}` };
  }
  return parsed;
}

function fromBytes(bytes: readonly unknown[]): Parsed<bigint> {
  if (bytes.length === 0) return { problem: `the serial number is empty; ${RIGHT}` };
  let serial = 0n;
  for (const [index, byte] of bytes.entries()) {
    if (typeof byte !== "number" || !Number.isInteger(byte) || byte < 0 || byte > 255) {
      return { problem: `element ${index} is not a byte; write an integer from 0 to 255 (0xff)` };
    }
    serial = serial << 8n | BigInt(byte);
  }
  return { value: serial };
}

function fromText(text: string): Parsed<bigint> {
  if (text === "") return { problem: `the serial number is empty; ${RIGHT}` };
  const digits = text.replace(/^0x/i, "");
  // A byte after a colon needs both digits: "a:b" could mean 0x0a0b or 0xab.
  if (!/^[0-9a-f]+$/i.test(digits) && !/^[0-9a-f]{1,2}(:[0-9a-f]{2})+$/i.test(digits)) {
    return { problem: `the serial number is not hexadecimal; ${RIGHT}` };
  }
  return { value: BigInt(`0x${digits.replaceAll(":", "")}`) };
}
