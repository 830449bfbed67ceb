/** A pool of blocks shared with one KME, as the store knows it. */
import type { KeyIdBytes } from "./block.ts";
import type { ConfiguredId, KmeId } from "./ids.ts";

export interface Link {
  /** The row in the database. */
  readonly id: number;
  /** The KME at the other end; this KME's own id for keys between its own SAEs. */
  readonly kme: KmeId;
  /** The half of the pool that this KME takes from first. */
  readonly ownHalf: 0 | 1;
}

/** The half that a block belongs to: both ends compute it from the key_ID. */
export function halfOf(id: KeyIdBytes): 0 | 1 {
  return (id[15]! & 1) as 0 | 1;
}

/** The half from which `own` takes blocks first on the link with `other`: the lower KME id has half 0. */
export function ownHalf(own: ConfiguredId, other: ConfiguredId): 0 | 1 {
  return compareIds(own.text, other.text) <= 0 ? 0 : 1;
}

const INTEGER = /^-?\d+$/;

// The same on both ends, whether an end has configured the ids as integers or as strings.
function compareIds(a: string, b: string): number {
  if (INTEGER.test(a) && INTEGER.test(b)) {
    const difference = BigInt(a) - BigInt(b);
    return difference < 0n ? -1 : difference > 0n ? 1 : 0;
  }
  return a < b ? -1 : a > b ? 1 : 0;
}
