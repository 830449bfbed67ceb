/** What an operator is told of stored bits that cannot be used. */
import type { KmeId } from "../domain/ids.ts";

/** A block, or a key of several blocks, whose stored bits cannot be used. */
export interface DamagedKey {
  readonly what: "block" | "key";
  /** Text of its key_ID. */
  readonly keyId: string;
  /** The KME of its link; the number of the link if it is not configured. */
  readonly link: KmeId;
}

/** One line about a block or key that cannot be used. */
export function describeDamaged({ what, keyId, link }: DamagedKey): string {
  return what === "block"
    ? `the stored bits of block ${keyId} of the link with KME ${link} were altered or belong to another row; it is not used`
    : `the stored bits of key ${keyId} of the link with KME ${link} were altered or belong to another row; it is not delivered`;
}
