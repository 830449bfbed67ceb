/** The KMEs and SAEs of the network, and which client certificates identify them, as configured. */
import type { Config, ConfiguredSae, OtherKme } from "../config/config.ts";
import { isNeighbour, type Sae } from "../domain/network.ts";
import type { ConfiguredId, KmeId, SaeId } from "../domain/ids.ts";
import { NotAuthorized } from "../domain/refusals.ts";
import { RateLimitedLog } from "../rate_limited_log.ts";
import { type CertificateSelector, selects, withIssuer } from "../x509/certificate_selector.ts";
import { issuersOf } from "../x509/chain.ts";
import type { ClientIdentity } from "../x509/client_identity.ts";

/** The part of the configuration that a directory needs. */
export type DirectoryContent = Pick<Config, "thisKme" | "otherKmes" | "saes">;

const refused = new RateLimitedLog("delivery");

/** An SAE or KME with the certificates that identify it. */
interface Party {
  readonly id: string;
  readonly selectors: readonly CertificateSelector[];
}

interface Tables {
  readonly saes: ReadonlyMap<SaeId, ConfiguredSae>;
  readonly kmes: ReadonlyMap<KmeId, OtherKme>;
  /** By the KME at the other end of the link. */
  readonly reserves: ReadonlyMap<KmeId, Reserve>;
  /** SAEs of this KME. */
  readonly saeParties: readonly Party[];
  /** Neighbours for which certificates are configured. */
  readonly kmeParties: readonly Party[];
  /** Ids of the SAEs that a certificate identifies: one, unless the configuration has a mistake. */
  readonly saesByIdentity: WeakMap<ClientIdentity, readonly SaeId[]>;
  /** Ids of the neighbours that a certificate identifies. */
  readonly kmesByIdentity: WeakMap<ClientIdentity, readonly KmeId[]>;
}

/** Blocks of a link that only some SAEs may use. */
export interface Reserve {
  readonly blocks: number;
  readonly saes: readonly SaeId[];
}

export class Directory {
  readonly thisKme: ConfiguredId;
  #tables: Tables;

  constructor(content: DirectoryContent) {
    this.thisKme = content.thisKme.id;
    this.#tables = tablesOf(content);
  }

  /** Replaces what is configured; open connections are identified again at their next request. */
  replace(content: DirectoryContent): void {
    this.#tables = tablesOf(content);
  }

  sae(id: SaeId): Sae | undefined {
    return this.#tables.saes.get(id);
  }

  /**
   * The SAE of this KME that a client certificate identifies.
   *
   * @throws NotAuthorized when it identifies several.
   */
  saeOf(identity: ClientIdentity): Sae | undefined {
    const ids = this.#saeIds(identity);
    if (ids.length > 1) {
      throw new NotAuthorized("the client certificate identifies more than one SAE of this KME");
    }
    return ids[0] === undefined ? undefined : this.#tables.saes.get(ids[0]);
  }

  /** How logs name the client of an SAE connection. */
  saeName(identity: ClientIdentity): string {
    return nameOf("SAE", this.#saeIds(identity), identity);
  }

  /** How logs name the client of an inter-KME connection. */
  callerName(identity: ClientIdentity): string {
    return nameOf("KME", this.#kmeIds(identity), identity);
  }

  /** Ids of the SAEs of a KME, this one or another. */
  saesOf(kme: KmeId): SaeId[] {
    return [...this.#tables.saes.values()].filter((sae) => sae.kmeId === kme).map((sae) => sae.id.text);
  }

  /** SAEs of other KMEs, in the order of the configuration. */
  remoteSaes(): Sae[] {
    return [...this.#tables.saes.values()].filter((sae) => !this.isLocal(sae));
  }

  kme(id: KmeId): OtherKme | undefined {
    return this.#tables.kmes.get(id);
  }

  /** What is kept of the stock of a link; `undefined`: nothing. */
  reserveOf(link: KmeId): Reserve | undefined {
    return this.#tables.reserves.get(link);
  }

  isLocal(sae: Sae): boolean {
    return sae.kmeId === this.thisKme.text;
  }

  /** Whether a certificate may act for any neighbour. */
  mayBeNeighbour(identity: ClientIdentity): boolean {
    return [...this.#tables.kmes.values()].some((kme) =>
      isNeighbour(kme) && this.mayActFor(identity, kme.id.text)
    );
  }

  /**
   * Whether a client with this certificate may act for a KME. A certificate that identifies a neighbour may act for that
   * neighbour only; any other may act for KMEs without configured certificates.
   */
  mayActFor(identity: ClientIdentity, kme: KmeId): boolean {
    const ids = this.#kmeIds(identity);
    if (ids.length > 0) return ids.length === 1 && ids[0] === kme;
    const peer = this.#tables.kmes.get(kme);
    return peer !== undefined && (!isNeighbour(peer) || peer.certificates === undefined);
  }

  #saeIds(identity: ClientIdentity): readonly SaeId[] {
    return identified(identity, this.#tables.saeParties, this.#tables.saesByIdentity, "SAE");
  }

  #kmeIds(identity: ClientIdentity): readonly KmeId[] {
    return identified(identity, this.#tables.kmeParties, this.#tables.kmesByIdentity, "KME");
  }
}

function tablesOf({ thisKme, otherKmes, saes }: DirectoryContent): Tables {
  const issuers = (...pems: string[]) => issuersOf(pems.join("\n")).map(({ fingerprint }) => fingerprint);
  const saeIssuers = issuers(thisKme.saesInterface.clientCa, thisKme.skipInterface?.clientCa ?? "");
  const kmeIssuers = issuers(thisKme.kmesInterface.clientCa);
  const party = (id: string, certificates: readonly CertificateSelector[], authorities: string[]): Party => ({
    id,
    selectors: certificates.flatMap((selector) => withIssuer(selector, authorities) ?? []),
  });
  return {
    saes: new Map(saes.map((sae) => [sae.id.text, sae])),
    kmes: new Map(otherKmes.map((kme) => [kme.id.text, kme])),
    reserves: new Map(
      thisKme.reserveShares.map(({ kme, share, saes }) => [
        kme,
        { blocks: Math.ceil(share * thisKme.maxKeyCount), saes },
      ]),
    ),
    saeParties: saes.filter(({ kmeId }) => kmeId === thisKme.id.text)
      .map(({ id, certificates }) => party(id.text, certificates, saeIssuers)),
    kmeParties: otherKmes.flatMap((kme) =>
      isNeighbour(kme) && kme.certificates !== undefined
        ? [party(kme.id.text, kme.certificates, kmeIssuers)]
        : []
    ),
    saesByIdentity: new WeakMap(),
    kmesByIdentity: new WeakMap(),
  };
}

/** Ids of the parties whose selectors match. Each certificate is compared, and a configuration mistake logged, only once. */
function identified(
  identity: ClientIdentity,
  parties: readonly Party[],
  known: WeakMap<ClientIdentity, readonly string[]>,
  what: "SAE" | "KME",
): readonly string[] {
  let ids = known.get(identity);
  if (ids === undefined) {
    ids = parties.filter(({ selectors }) => selectors.some((selector) => selects(selector, identity)))
      .map(({ id }) => id);
    known.set(identity, ids);
    const reason = faultOf(ids, identity, parties, what);
    if (reason !== undefined) {
      const { subject, serial, issuer } = identity;
      refused.warn(
        ids.length > 1 ? `certificate of several ${what}s` : "serial number of another issuer",
        "a client is refused: its certificate {reason} (subject {subject}, serial number 0x{serial}, issuer {issuer})",
        { reason, subject, serial: serial.toString(16), issuer },
      );
    }
  }
  return ids;
}

function faultOf(
  ids: readonly string[],
  { serial }: ClientIdentity,
  parties: readonly Party[],
  what: string,
): string | undefined {
  if (ids.length > 1) {
    return `identifies several ${what}s (${ids.join(", ")}); correct their certificates in the configuration`;
  }
  if (ids.length === 1) return undefined;
  const similar = parties.find(({ selectors }) => selectors.some((selector) => selector.serial === serial));
  return similar &&
    `has the serial number of ${what} ${similar.id}, but not its issuer or another member; if it is that of the ${what}, ` +
      "write issuer_cn or issuer_sha256 beside the serial number";
}

function nameOf(what: string, ids: readonly string[], { subject }: ClientIdentity): string {
  if (ids.length === 0) return `unknown client ${subject.slice(0, 200)}`;
  return ids.length === 1 ? `${what} ${ids[0]}` : `client of several ${what}s (${ids.join(", ")})`;
}
