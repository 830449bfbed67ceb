/** Names in certificates (RFC 5280), read from DER: the text forms of TLS libraries can be ambiguous. */
import { derElement, derElements, objectIdentifier, TAG } from "./der.ts";

const COMMON_NAME = "2.5.4.3";

/** Alternative names of the kinds that identify a client or a server. */
export interface AlternativeNames {
  readonly dns: readonly string[];
  readonly uri: readonly string[];
  readonly email: readonly string[];
  /** 4 or 16 octets each. */
  readonly ip: readonly Uint8Array[];
}

/**
 * The common names of a subject or issuer, in order. One of a kind of string that is not understood is empty, so that it
 * counts but is equal to no name.
 *
 * @param name DER of a Name.
 * @throws {RangeError} When the bytes are not a Name.
 */
export function commonNames(name: Uint8Array): string[] {
  return derElements(derElement(name, TAG.sequence).content)
    .flatMap((relative) => derElements(relative.content))
    .flatMap((attribute) => {
      const [type, value] = derElements(attribute.content);
      if (type?.tag !== TAG.objectIdentifier || value === undefined) {
        throw new RangeError("malformed certificate");
      }
      return objectIdentifier(type.content) === COMMON_NAME
        ? [directoryString(value.tag, value.content)]
        : [];
    });
}

/**
 * @param value value of the extension subjectAltName; absent: no names.
 * @throws {RangeError} When the bytes are not GeneralNames.
 */
export function alternativeNames(value: Uint8Array | undefined): AlternativeNames {
  const names = { dns: [] as string[], uri: [] as string[], email: [] as string[], ip: [] as Uint8Array[] };
  const lists: Record<number, string[]> = { 0x81: names.email, 0x82: names.dns, 0x86: names.uri };
  const elements = value === undefined ? [] : derElements(derElement(value, TAG.sequence).content);
  for (const { tag, content } of elements) {
    if (tag === 0x87 && (content.length === 4 || content.length === 16)) names.ip.push(content);
    const text = ascii(content);
    if (text !== "") lists[tag]?.push(text);
  }
  return names;
}

function directoryString(tag: number, content: Uint8Array): string {
  switch (tag) {
    case 0x0c: // UTF8String
      return decode("utf-8", content);
    case 0x13: // PrintableString
    case 0x16: // IA5String
    case 0x14: // TeletexString, which in practice is ASCII; other characters have no common reading
      return ascii(content);
    case 0x1e: // BMPString
      return decode("utf-16be", content);
    default:
      return "";
  }
}

function decode(encoding: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder(encoding, { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return "";
  }
}

function ascii(bytes: Uint8Array): string {
  return bytes.every((octet) => octet < 0x80) ? String.fromCharCode(...bytes) : "";
}
