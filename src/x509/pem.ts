/** PEM (RFC 7468): texts between BEGIN and END lines. */

export interface PemSection {
  /** Like `CERTIFICATE` or `EC PRIVATE KEY`. */
  readonly label: string;
  /** From the BEGIN line to the END line. */
  readonly text: string;
}

/** The sections of a text, in order; what is between them is left out. */
export function pemSections(text: string): PemSection[] {
  const sections = text.matchAll(/-----BEGIN ([A-Z0-9 ]+)-----[^-]*-----END \1-----/g);
  // Headers like `DEK-Info: AES-256-CBC` hold a hyphen.
  const encrypted = text.matchAll(/-----BEGIN ([A-Z0-9 ]+)-----\s+Proc-Type:[\s\S]*?-----END \1-----/g);
  return [...sections, ...encrypted]
    .sort((a, b) => a.index - b.index)
    .map(([section, label]) => ({ label: label!.replace(/^X509 (?=CERTIFICATE$)/, ""), text: section }));
}

/**
 * DER of the sections with a label, in order.
 *
 * @throws {RangeError} When one of them is not base64.
 */
export function pemBlocks(text: string, label: string): Uint8Array[] {
  return pemSections(text).filter((section) => section.label === label).map(({ text }) => {
    const base64 = text.replace(/-----[^-]+-----/g, "").replace(/\s/g, "");
    try {
      return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    } catch (cause) {
      throw new RangeError("malformed PEM", { cause });
    }
  });
}

/** A section of PEM, with a line end. */
export function formatPem(label: string, der: Uint8Array): string {
  const lines = btoa(Array.from(der, (octet) => String.fromCharCode(octet)).join(""));
  return `-----BEGIN ${label}-----\n${lines.replace(/.{64}(?=.)/g, "$&\n")}\n-----END ${label}-----\n`;
}
