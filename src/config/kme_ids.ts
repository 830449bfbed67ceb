/** KME ids of a file that may have mistakes in some of them. Pure. */
import type { PartialConfig } from "./partial_config.ts";

/** Ids in the order of `other_kmes`; `undefined` where the id has a mistake. */
export function otherKmeIds({ content }: PartialConfig): (string | undefined)[] {
  return (content.other_kmes ?? []).map((kme) => kme?.id?.text);
}

/**
 * Unknown KME ids that may be correct: each other KME whose own id has a mistake may have one of them. Without
 * `other_kmes`, all of them may be correct.
 */
export function explainedByMistakes(partial: PartialConfig, unknown: readonly string[]): Set<string> {
  if (partial.content.other_kmes === undefined) return new Set(unknown);
  const unreadable = otherKmeIds(partial).filter((id) => id === undefined).length;
  return new Set([...new Set(unknown)].slice(0, unreadable));
}

/**
 * The id of this KME. Where `this_kme.id` has a mistake: the KME of most SAEs for which the file has a certificate, since
 * only own SAEs have one.
 */
export function ownKmeId(partial: PartialConfig): string | undefined {
  const { content, given } = partial;
  if (content.this_kme?.id !== undefined) return content.this_kme.id.text;
  const others = otherKmeIds(partial);
  const counts = new Map<string, number>();
  for (const [index, sae] of (content.saes ?? []).entries()) {
    const kme = sae?.kme_id?.text;
    if (kme === undefined || others.includes(kme)) continue;
    const hasCertificate = given(["saes", index, "certificates"]) ||
      given(["saes", index, "https_client_certificate_serial"]);
    if (hasCertificate) counts.set(kme, (counts.get(kme) ?? 0) + 1);
  }
  return [...counts].toSorted(([, a], [, b]) => b - a)[0]?.[0];
}
