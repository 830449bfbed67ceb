/** Who is who in the network, as configured. */
import type { Config, OtherKme } from "../config/config.ts";
import { isNeighbour, type Sae } from "../domain/network.ts";
import type { ConfiguredId, KmeId, SaeId } from "../domain/ids.ts";
import type { ClientIdentity } from "../x509/client_identity.ts";

/** What a directory is made of. */
export type DirectoryContent = Pick<Config, "otherKmes" | "saes">;

interface Tables {
  readonly saes: ReadonlyMap<SaeId, Sae>;
  readonly bySerial: ReadonlyMap<bigint, Sae>;
  readonly kmes: ReadonlyMap<KmeId, OtherKme>;
  readonly callers: ReadonlyMap<bigint, KmeId>;
}

export class Directory {
  readonly thisKme: ConfiguredId;
  #tables: Tables;

  constructor({ thisKme, ...content }: Pick<Config, "thisKme"> & DirectoryContent) {
    this.thisKme = thisKme.id;
    this.#tables = tablesOf(content);
  }

  /** From now on this is who is who; requests ask anew, so that it holds for open connections too. */
  replace(content: DirectoryContent): void {
    this.#tables = tablesOf(content);
  }

  sae(id: SaeId): Sae | undefined {
    return this.#tables.saes.get(id);
  }

  /** The SAE of this KME that a client certificate identifies. */
  saeOf(identity: ClientIdentity): Sae | undefined {
    return this.#tables.bySerial.get(identity.serial);
  }

  /** How logs name the client of an inter-KME connection. */
  callerName(identity: ClientIdentity): string {
    const kme = this.#tables.callers.get(identity.serial);
    return kme === undefined ? `client ${identity.subject.slice(0, 200)}` : `KME ${kme}`;
  }

  /** Ids of the SAEs of a KME, this one or another. */
  saesOf(kme: KmeId): SaeId[] {
    return [...this.#tables.saes.values()].filter((sae) => sae.kmeId === kme).map((sae) => sae.id.text);
  }

  kme(id: KmeId): OtherKme | undefined {
    return this.#tables.kmes.get(id);
  }

  isLocal(sae: Sae): boolean {
    return sae.kmeId === this.thisKme.text;
  }

  /**
   * Whether a certificate may speak for a KME: where serials are configured for peers, each speaks for its own only.
   */
  maySpeakFor(identity: ClientIdentity, kme: KmeId): boolean {
    const named = this.#tables.callers.get(identity.serial);
    if (named !== undefined) return named === kme;
    const peer = this.#tables.kmes.get(kme);
    return peer !== undefined && (!isNeighbour(peer) || peer.callerSerial === undefined);
  }
}

function tablesOf({ otherKmes, saes }: DirectoryContent): Tables {
  return {
    saes: new Map(saes.map((sae) => [sae.id.text, sae])),
    bySerial: new Map(
      saes.flatMap((sae) =>
        sae.certificateSerial === undefined ? [] : [[sae.certificateSerial, sae] as const]
      ),
    ),
    kmes: new Map(otherKmes.map((kme) => [kme.id.text, kme])),
    callers: new Map(
      otherKmes.flatMap((kme) =>
        isNeighbour(kme) && kme.callerSerial !== undefined ? [[kme.callerSerial, kme.id.text] as const] : []
      ),
    ),
  };
}
