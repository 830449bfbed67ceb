/** Who is who in the network, as configured. */
import type { Config, NeighbourKme, OtherKme, Sae } from "../config/config.ts";
import type { ConfiguredId, KmeId, SaeId } from "../model/ids.ts";

/** Whether a link is shared with that KME. */
export function isNeighbour(kme: OtherKme): kme is NeighbourKme {
  return !("reachedThrough" in kme);
}

export class Directory {
  readonly thisKme: ConfiguredId;
  readonly #saes: ReadonlyMap<SaeId, Sae>;
  readonly #bySerial: ReadonlyMap<bigint, Sae>;
  readonly #kmes: ReadonlyMap<KmeId, OtherKme>;
  readonly #callers: ReadonlyMap<bigint, KmeId>;

  constructor({ thisKme, otherKmes, saes }: Pick<Config, "thisKme" | "otherKmes" | "saes">) {
    this.thisKme = thisKme.id;
    this.#saes = new Map(saes.map((sae) => [sae.id.text, sae]));
    this.#bySerial = new Map(
      saes.flatMap((sae) =>
        sae.certificateSerial === undefined ? [] : [[sae.certificateSerial, sae] as const]
      ),
    );
    this.#kmes = new Map(otherKmes.map((kme) => [kme.id.text, kme]));
    this.#callers = new Map(
      otherKmes.flatMap((kme) =>
        isNeighbour(kme) && kme.callerSerial !== undefined ? [[kme.callerSerial, kme.id.text] as const] : []
      ),
    );
  }

  sae(id: SaeId): Sae | undefined {
    return this.#saes.get(id);
  }

  /** The SAE of this KME that owns a client certificate. */
  saeBySerial(serial: bigint): Sae | undefined {
    return this.#bySerial.get(serial);
  }

  /** Ids of this KME's SAEs. */
  localSaes(): SaeId[] {
    return [...this.#saes.values()].filter((sae) => this.isLocal(sae)).map((sae) => sae.id.text);
  }

  kme(id: KmeId): OtherKme | undefined {
    return this.#kmes.get(id);
  }

  isLocal(sae: Sae): boolean {
    return sae.kmeId === this.thisKme.text;
  }

  /**
   * Whether a certificate may speak for a KME: where serials are configured for peers, each speaks for its own only.
   */
  maySpeakFor(serial: bigint, kme: KmeId): boolean {
    const named = this.#callers.get(serial);
    if (named !== undefined) return named === kme;
    const peer = this.#kmes.get(kme);
    return peer !== undefined && (!isNeighbour(peer) || peer.callerSerial === undefined);
  }
}
