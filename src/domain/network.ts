/** KMEs and SAEs of a network, as configured. */
import type { ConfiguredId, KmeId, SaeId } from "./ids.ts";

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
  /** Absent: it has none. */
  readonly limits?: SaeLimits;
}

/** What an SAE may have as a master. */
export interface SaeLimits {
  /** The SAEs that it may have keys with; absent: all. */
  readonly mayReach?: readonly SaeId[];
  /** Absent: any number. */
  readonly maxBitsPerSecond?: number;
  /** Keys of this master that wait for slaves at one KME; absent: any number. */
  readonly maxWaitingKeys?: number;
}

/** A part of a link's stock that is kept for some SAEs. */
export interface ReserveShare {
  /** The KME with which the link is shared; this KME's own id for the pool of its own SAEs. */
  readonly kme: KmeId;
  /** Of `max_key_count`, between 0 and 1. */
  readonly share: number;
  readonly saes: readonly SaeId[];
}

/** Whether a master may have keys with a slave. */
export function mayReach({ limits }: Sae, slave: SaeId): boolean {
  return limits?.mayReach === undefined || limits.mayReach.includes(slave);
}

/** A directory in which key files of one link appear. */
export interface WatchedDirectory {
  /** The KME with which the keys are shared; this KME's own id for the local directory. */
  readonly link: KmeId;
  readonly directory: string;
}
