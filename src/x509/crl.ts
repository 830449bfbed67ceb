/** Certificate revocation lists (RFC 5280 clause 5). */
import { sameBytes } from "../domain/bytes.ts";
import { type CrlVersion, isOlder } from "../domain/crl_version.ts";
import { type Certificate, extensionsOf, KeyUsage } from "./certificate.ts";
import {
  bitString,
  type DerElement,
  derElement,
  derElements,
  derTime,
  objectIdentifier,
  TAG,
  unsigned,
} from "./der.ts";
import { commonNames } from "./certificate_names.ts";
import { pemBlocks } from "./pem.ts";
import type { Revocations } from "./revocations.ts";
import { isSignedBy } from "./verifier.ts";

const CRL_NUMBER = "2.5.29.20";
const DELTA_CRL_INDICATOR = "2.5.29.27";
const ISSUING_DISTRIBUTION_POINT = "2.5.29.28";

/** What of the issuing distribution point says that a CRL is not about all certificates of its CA, or about others too. */
const SCOPES: ReadonlyMap<number, string> = new Map([
  [0x81, "onlyContainsUserCerts"],
  [0x82, "onlyContainsCACerts"],
  [0x83, "onlySomeReasons"],
  [0x84, "indirectCRL"],
  [0x85, "onlyContainsAttributeCerts"],
]);

export interface Crl extends CrlVersion {
  /** The whole list. */
  readonly der: Uint8Array;
  /** DER of the CA's name. */
  readonly issuer: Uint8Array;
  readonly issuerText: string;
  /** Time by which the CA issues a newer CRL (nextUpdate); absent: the CRL does not say. */
  readonly nextUpdate?: number;
  readonly serials: ReadonlySet<bigint>;
  /** As of a certificate. */
  readonly signed: Uint8Array;
  readonly signatureAlgorithm: string;
  readonly signature: Uint8Array;
}

/** A CRL of a kind that cannot be used here. */
class UnsupportedCrl extends RangeError {}

/**
 * @param der One CRL.
 * @throws {RangeError} When the bytes are not a CRL that can be used here: one that names only changes, only some of the
 * certificates of its CA, or certificates of other CAs, cannot.
 */
export function parseCrl(der: Uint8Array): Crl {
  const [signed, algorithm, signature, ...rest] = derElements(derElement(der, TAG.sequence).content);
  if (signed?.tag !== TAG.sequence || algorithm?.tag !== TAG.sequence || !signature || rest.length > 0) {
    throw malformed();
  }
  const fields = derElements(signed.content);
  const version = fields[0]?.tag === TAG.integer ? unsigned(fields.shift()!.content) + 1n : 1n;
  const [innerAlgorithm, issuer, thisUpdate, ...optional] = fields;
  if (
    version > 2n || issuer?.tag !== TAG.sequence || !thisUpdate || !innerAlgorithm ||
    !sameBytes(innerAlgorithm.whole, algorithm.whole)
  ) throw malformed();
  const isTime = ({ tag }: DerElement) => tag === TAG.utcTime || tag === TAG.generalizedTime;
  const nextUpdate = optional[0] && isTime(optional[0]) ? derTime(optional.shift()!) : undefined;
  const entries = optional[0]?.tag === TAG.sequence ? derElements(optional.shift()!.content) : [];
  const extensions = optional[0]?.tag === TAG.context(0) ? extensionsOf(optional.shift()!) : [];
  if (optional.length > 0) throw malformed();
  let number: bigint | undefined;
  for (const { id, critical, value } of extensions) {
    if (id === CRL_NUMBER) number = unsigned(derElement(value, TAG.integer).content);
    // Refused even if not marked as critical, which it has to be: certificates would be taken for valid that are revoked.
    else if (id === DELTA_CRL_INDICATOR) {
      throw new UnsupportedCrl("it names only changes (deltaCRLIndicator)");
    } else if (id === ISSUING_DISTRIBUTION_POINT) checkScope(value);
    else if (critical) throw new UnsupportedCrl(`it has the critical extension ${id}`);
  }
  const algorithmId = derElements(algorithm.content)[0];
  if (algorithmId?.tag !== TAG.objectIdentifier) throw malformed();
  return {
    der,
    issuer: issuer.whole,
    issuerText: commonNames(issuer.whole).map((name) => `CN=${name}`).join(", ") || "(no name)",
    thisUpdate: derTime(thisUpdate),
    number,
    nextUpdate,
    serials: new Set(entries.map(serialOf)),
    signed: signed.whole,
    signatureAlgorithm: objectIdentifier(algorithmId.content),
    signature: bitString(signature),
  };
}

/** @throws {UnsupportedCrl} When the issuing distribution point (RFC 5280 clause 5.2.5) limits or widens the scope. */
function checkScope(issuingDistributionPoint: Uint8Array): void {
  const members = derElements(derElement(issuingDistributionPoint, TAG.sequence).content);
  const scopes = members.flatMap(({ tag }) => SCOPES.get(tag) ?? []);
  if (scopes.length > 0) {
    throw new UnsupportedCrl(`its issuingDistributionPoint sets ${scopes.join(" and ")}`);
  }
}

function serialOf(entry: DerElement): bigint {
  const serial = entry.tag === TAG.sequence ? derElements(entry.content)[0] : undefined;
  if (serial?.tag !== TAG.integer || serial.content.length === 0) throw malformed();
  return unsigned(serial.content);
}

/** What is wrong with a CRL or a file of CRLs. */
export interface CrlProblem {
  readonly kind: "unreadable" | "unsupported" | "not_of_ca" | "older" | "expired" | "not_kept";
  /** One line. */
  readonly message: string;
}

/** The CRLs that are in force for some CAs: the newest ones that could be used, whatever came later. */
export class CrlSet {
  #read: readonly Crl[] = [];
  #unreadable: readonly CrlProblem[] = [];
  /** By the fingerprint of the CA certificate. */
  readonly #inForce = new Map<string, Crl>();
  readonly #kept: readonly Crl[];

  /** @param kept CRLs in DER that were in force before. What cannot be read of them is left out. */
  constructor(kept: readonly Uint8Array[] = []) {
    this.#kept = kept.flatMap((der) => {
      try {
        return [parseCrl(der)];
      } catch {
        return [];
      }
    });
  }

  /** Takes the content of a file: CRLs in PEM, or one in DER. */
  read(bytes: Uint8Array): void {
    const read: Crl[] = [];
    const unreadable: CrlProblem[] = [];
    const blocks = blocksOf(bytes);
    if (blocks.length === 0) unreadable.push({ kind: "unreadable", message: "the file holds no CRL" });
    for (const [index, block] of blocks.entries()) {
      try {
        read.push(parseCrl(block));
      } catch (error) {
        const which = blocks.length === 1 ? "the CRL" : `CRL ${index + 1} of ${blocks.length} in the file`;
        const { message } = error as Error;
        unreadable.push(
          error instanceof UnsupportedCrl
            ? { kind: "unsupported", message: `${which} is not supported: ${message}` }
            : { kind: "unreadable", message: `${which} cannot be read: ${message}` },
        );
      }
    }
    this.#read = read;
    this.#unreadable = unreadable;
  }

  /** The file cannot be read: what is in force stays. */
  unreadable(message: string): void {
    this.#unreadable = [{ kind: "unreadable", message }];
  }

  /** What these CAs have revoked. */
  revocations(authorities: readonly Certificate[]): Revocations {
    for (const crl of this.#kept) {
      const without = authorities.filter(({ fingerprint }) => !this.#inForce.has(fingerprint));
      for (const { fingerprint } of issuersOf(crl, without)) this.#inForce.set(fingerprint, crl);
    }
    for (const crl of this.#read) {
      for (const authority of issuersOf(crl, authorities)) {
        const before = this.#inForce.get(authority.fingerprint);
        // An older one would make revoked certificates valid again. One that is out of date is better than none.
        if (before === undefined || !isOlder(crl, before)) this.#inForce.set(authority.fingerprint, crl);
      }
    }
    return authorities.flatMap(({ fingerprint }) => {
      const crl = this.#inForce.get(fingerprint);
      return crl ? [{ issuerFingerprint: fingerprint, serials: crl.serials }] : [];
    });
  }

  /** The CRLs in force by the fingerprints of their CAs' certificates, after {@linkcode revocations}. */
  get inForce(): ReadonlyMap<string, Crl> {
    return this.#inForce;
  }

  /** What is wrong now, with the file or with what is in force. */
  problems(authorities: readonly Certificate[], now: number): readonly CrlProblem[] {
    this.revocations(authorities);
    const problems = [...this.#unreadable];
    const reported = new Set<Crl>();
    for (const crl of this.#read) {
      const issuers = issuersOf(crl, authorities);
      const newer = issuers.map(({ fingerprint }) => this.#inForce.get(fingerprint)!)
        .find((inForce) => isOlder(crl, inForce));
      if (newer !== undefined) {
        const message = `the CRL of ${crl.issuerText} ${versionOf(crl)} is older than the one in force, ${
          versionOf(newer)
        }, and is not used`;
        problems.push({ kind: "older", message });
        reported.add(crl);
      } else if (issuers.length === 0) {
        const message = `the CRL of ${crl.issuerText} is not signed by a CA that is trusted here`;
        problems.push({ kind: "not_of_ca", message });
        reported.add(crl);
      }
    }
    const inForce = authorities.flatMap(({ fingerprint }) => this.#inForce.get(fingerprint) ?? []);
    for (const crl of new Set([...this.#read, ...inForce])) {
      if (!reported.has(crl) && isExpired(crl, now)) {
        const date = formatDate(crl.nextUpdate!);
        problems.push({
          kind: "expired",
          message: `the CRL of ${crl.issuerText} is out of date since ${date}`,
        });
      }
    }
    return problems;
  }

  /** When the first CRL in force is out of date, milliseconds since 1970; `undefined`: none says so. */
  nextUpdate(authorities: readonly Certificate[]): number | undefined {
    const dates = authorities.flatMap(({ fingerprint }) => this.#inForce.get(fingerprint)?.nextUpdate ?? []);
    return dates.length === 0 ? undefined : Math.min(...dates);
  }
}

/**
 * Checks the content of a CRL file; pure.
 *
 * @param kept CRLs in DER that were in force before.
 */
export function checkCrls(
  bytes: Uint8Array,
  authorities: readonly Certificate[],
  kept: readonly Uint8Array[],
  now: number,
): { readonly problems: readonly CrlProblem[]; readonly revoked: number; readonly nextUpdate?: number } {
  const crls = new CrlSet(kept);
  crls.read(bytes);
  const revocations = crls.revocations(authorities);
  return {
    problems: crls.problems(authorities, now),
    revoked: revocations.reduce((sum, { serials }) => sum + serials.size, 0),
    nextUpdate: crls.nextUpdate(authorities),
  };
}

/** The CA certificates whose key signed a CRL, and that may sign CRLs. */
function issuersOf(crl: Crl, authorities: readonly Certificate[]): Certificate[] {
  return authorities.filter((authority) => {
    const mayNot = authority.keyUsage !== undefined && (authority.keyUsage & KeyUsage.crlSign) === 0;
    if (mayNot || !sameBytes(authority.subject, crl.issuer)) return false;
    try {
      return isSignedBy(crl, authority);
    } catch {
      return false;
    }
  });
}

function isExpired({ nextUpdate }: Crl, now: number): boolean {
  return nextUpdate !== undefined && nextUpdate < now;
}

function versionOf({ thisUpdate, number }: Crl): string {
  return `of ${formatDate(thisUpdate)}${number === undefined ? "" : ` (number ${number})`}`;
}

function formatDate(milliseconds: number): string {
  return new Date(milliseconds).toISOString().replace(".000", "");
}

/** DER of each CRL. */
function blocksOf(bytes: Uint8Array): Uint8Array[] {
  if (bytes[0] === 0x30) return [bytes];
  try {
    return pemBlocks(new TextDecoder().decode(bytes), "X509 CRL");
  } catch {
    return [];
  }
}

function malformed(): RangeError {
  return new RangeError("malformed CRL");
}
