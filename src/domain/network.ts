/** KMEs and SAEs of a network, as configured. */
import type { ConfiguredId, KmeId } from "./ids.ts";

/** A KME without a direct link. */
export interface RemoteKme {
  readonly id: ConfiguredId;
  /** The KME through which it is reached. */
  readonly reachedThrough: KmeId;
}

/** Whether a link is shared with that KME. */
export function isNeighbour<Neighbour extends { readonly id: ConfiguredId }>(
  kme: Neighbour | RemoteKme,
): kme is Neighbour {
  return !("reachedThrough" in kme);
}

export interface Sae {
  readonly id: ConfiguredId;
  readonly kmeId: KmeId;
}

/** A directory in which key files of one link appear. */
export interface WatchedDirectory {
  /** The KME with which the keys are shared; this KME's own id for the local directory. */
  readonly link: KmeId;
  readonly directory: string;
}
