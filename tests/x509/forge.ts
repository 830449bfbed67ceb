/**
 * Certificates and CRLs built byte by byte, so that tests can have any fault in them. Every certificate says that it is for
 * tests.
 */
import { Buffer } from "node:buffer";
import { createPrivateKey, generateKeyPairSync, type KeyObject, sign, X509Certificate } from "node:crypto";

/** One DER element. */
export function der(tag: number, ...contents: readonly Uint8Array[]): Uint8Array {
  const content = Buffer.concat(contents);
  const { length } = content;
  const header = length < 0x80
    ? [length]
    : length < 0x100
    ? [0x81, length]
    : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Uint8Array.of(tag, ...header), content]);
}

export const sequence = (...contents: Uint8Array[]) => der(0x30, ...contents);
export const bytes = (...octets: number[]) => Uint8Array.from(octets);
const text = (value: string) => new TextEncoder().encode(value);

export function oid(dotted: string): Uint8Array {
  const [a, b, ...rest] = dotted.split(".").map(Number) as [number, number, ...number[]];
  const octets = [a * 40 + b, ...rest].flatMap((n) => {
    const groups = [n & 0x7f];
    for (let left = n >> 7; left > 0; left >>= 7) groups.unshift(left & 0x7f | 0x80);
    return groups;
  });
  return der(0x06, Uint8Array.from(octets));
}

/** A name with one common name. */
export function name(commonName: string): Uint8Array {
  return sequence(der(0x31, sequence(oid("2.5.4.3"), der(0x0c, text(commonName)))));
}

export function time(date: Date): Uint8Array {
  return der(0x18, text(date.toISOString().replace(/[-:T]|\.\d+/g, "")));
}

/** An extension; `critical` is written as this octet. */
export function extension(id: string, value: Uint8Array, critical?: number): Uint8Array {
  return sequence(
    oid(id),
    ...critical === undefined ? [] : [der(0x01, bytes(critical))],
    der(0x04, value),
  );
}

export const basicConstraints = (ca: boolean) =>
  extension("2.5.29.19", sequence(...ca ? [der(0x01, bytes(0xff))] : []), 0xff);
export const keyUsage = (bits: number) => extension("2.5.29.15", der(0x03, bytes(0, bits)), 0xff);
export const usage = (...ids: string[]) => extension("2.5.29.37", sequence(...ids.map(oid)));
export const altNames = (...names: Uint8Array[]) => extension("2.5.29.17", sequence(...names));
export const dns = (host: string) => der(0x82, text(host));
export const ip = (...octets: number[]) => der(0x87, bytes(...octets));

export const SERVER = "1.3.6.1.5.5.7.3.1";
export const CLIENT = "1.3.6.1.5.5.7.3.2";

export interface Forged {
  readonly subject: Uint8Array;
  readonly key: KeyObject;
  readonly der: Uint8Array;
  readonly pem: { readonly cert: string; readonly key: string };
}

/** What of a certificate a test writes by itself. */
export interface Parts {
  readonly commonName?: string;
  /** The issuer's subject and key; a self-signed certificate without one. */
  readonly issuer?: { readonly subject: Uint8Array; readonly key: KeyObject };
  /** Contents of the field, or nothing for version 1. */
  readonly version?: Uint8Array | null;
  readonly serial?: Uint8Array;
  readonly notBefore?: Date;
  readonly notAfter?: Date;
  /** Elements between the key and the extensions. */
  readonly uniqueIds?: readonly Uint8Array[];
  /** `null`: the certificate has no extensions. */
  readonly extensions?: readonly Uint8Array[] | null;
  /** Elements after the extensions. */
  readonly trailing?: readonly Uint8Array[];
  /** The pair of the certificate; its own by default. */
  readonly key?: KeyObject;
}

const ECDSA_SHA256 = sequence(oid("1.2.840.10045.4.3.2"));
const DAY = 86_400_000;
let serials = 0x2000;

const newKey = () => generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;

export function forge(parts: Parts = {}): Forged {
  const key = parts.key ?? newKey();
  const subject = name(parts.commonName ?? "forged (for tests)");
  const { serial = bytes(++serials >> 8, serials & 0xff), uniqueIds = [], trailing = [] } = parts;
  const version = parts.version === undefined ? der(0x02, bytes(2)) : parts.version;
  const extensions = parts.extensions === undefined ? [basicConstraints(false)] : parts.extensions;
  const jwk = key.export({ format: "jwk" });
  const point = Buffer.concat([bytes(4), Buffer.from(jwk.x!, "base64url"), Buffer.from(jwk.y!, "base64url")]);
  const signed = sequence(
    ...version === null ? [] : [der(0xa0, version)],
    der(0x02, serial),
    ECDSA_SHA256,
    parts.issuer?.subject ?? subject,
    sequence(
      time(parts.notBefore ?? new Date(Date.now() - DAY)),
      time(parts.notAfter ?? new Date(Date.now() + DAY)),
    ),
    subject,
    sequence(
      sequence(oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7")),
      der(0x03, bytes(0), point),
    ),
    ...uniqueIds,
    ...extensions === null ? [] : [der(0xa3, sequence(...extensions))],
    ...trailing,
  );
  const whole = signedBy(signed, parts.issuer?.key ?? key);
  return {
    subject,
    key,
    der: whole,
    pem: {
      cert: pemOf("CERTIFICATE", whole),
      key: key.export({ type: "pkcs8", format: "pem" }).toString(),
    },
  };
}

/** A CA whose subject is that of a certificate, with the key of that certificate. */
export function issuerOf({ cert, key }: { cert: string; key: string }): NonNullable<Parts["issuer"]> {
  return { subject: subjectOf(new X509Certificate(cert).raw), key: createPrivateKey(key) };
}

export interface CrlParts {
  readonly serials?: readonly Uint8Array[];
  readonly thisUpdate?: Date;
  /** `null`: the CRL does not say. */
  readonly nextUpdate?: Date | null;
  readonly extensions?: readonly Uint8Array[];
}

/** A CRL of version 2. */
export function crl(issuer: NonNullable<Parts["issuer"]>, parts: CrlParts = {}): Uint8Array {
  const { serials = [], extensions = [] } = parts;
  const thisUpdate = time(parts.thisUpdate ?? new Date(Date.now() - DAY));
  const nextUpdate = parts.nextUpdate === undefined ? new Date(Date.now() + DAY) : parts.nextUpdate;
  const signed = sequence(
    der(0x02, bytes(1)),
    ECDSA_SHA256,
    issuer.subject,
    thisUpdate,
    ...nextUpdate === null ? [] : [time(nextUpdate)],
    ...serials.length === 0
      ? []
      : [sequence(...serials.map((serial) => sequence(der(0x02, serial), thisUpdate)))],
    ...extensions.length === 0 ? [] : [der(0xa0, sequence(...extensions))],
  );
  return signedBy(signed, issuer.key);
}

export function pemOf(label: string, whole: Uint8Array): string {
  const lines = Buffer.from(whole).toString("base64").replace(/(.{64})(?=.)/g, "$1\n");
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`;
}

function signedBy(signed: Uint8Array, key: KeyObject): Uint8Array {
  return sequence(signed, ECDSA_SHA256, der(0x03, bytes(0), sign("sha256", signed, key)));
}

/** The subject of a version 3 certificate, as its DER has it. */
function subjectOf(whole: Uint8Array): Uint8Array {
  const elements = (content: Uint8Array) => {
    const found: Uint8Array[] = [];
    for (let offset = 0; offset < content.length;) {
      const [, end] = bounds(content, offset);
      found.push(content.subarray(offset, end));
      offset = end;
    }
    return found;
  };
  const contentOf = (element: Uint8Array) => element.subarray(...bounds(element, 0));
  return elements(contentOf(elements(contentOf(whole))[0]!))[5]!;
}

function bounds(content: Uint8Array, offset: number): [start: number, end: number] {
  const first = content[offset + 1]!;
  const octets = first < 0x80 ? 0 : first & 0x7f;
  let length = octets === 0 ? first : 0;
  for (let i = 0; i < octets; i++) length = length * 256 + content[offset + 2 + i]!;
  const start = offset + 2 + octets;
  return [start, start + length];
}
