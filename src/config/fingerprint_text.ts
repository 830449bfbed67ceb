/** Parses certificate fingerprints in a configuration. */
import type { Parsed } from "../domain/parsed.ts";

/**
 * Parses the SHA-256 of a certificate: 64 hexadecimal digits, with or without colons between bytes. The value has lower-case
 * digits and no colons.
 */
export function parseFingerprint(text: string): Parsed<string> {
  const digits = text.replaceAll(":", "").toLowerCase();
  if (/^[0-9a-f]{64}$/.test(digits) && /^[^:]+$|^[^:]{2}(:[^:]{2}){31}$/.test(text)) return { value: digits };
  const what = /^[0-9a-f]{40}$/.test(digits) ? "is a SHA-1 fingerprint" : "is not a SHA-256 fingerprint";
  return { problem: `${what}; write the 64 hexadecimal digits of openssl x509 -noout -fingerprint -sha256` };
}
