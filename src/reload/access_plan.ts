/**
 * Decides what of a file with mistakes a running KME applies: what takes access away always, what grants access where
 * the part that grants it is correct. Pure.
 */
import type { Access, CaAccess, KmeAccess, SaeAccess } from "../config/access.ts";
import type { Config, ConfiguredSae, OtherKme } from "../config/config.ts";
import { isNeighbour } from "../domain/network.ts";
import { type CertificateSelector, selectorKey } from "../x509/certificate_selector.ts";
import { certificatesInPem } from "../x509/certificate.ts";
import { formatPem } from "../x509/pem.ts";
import { same, withoutAccess } from "./reload_plan.ts";

export interface AccessPlan {
  /** The running configuration with the changes of access. */
  readonly config: Config;
  /** What changes, a line each. */
  readonly changes: readonly string[];
}

/**
 * @param running what the KME runs with.
 * @param access what the file with mistakes says.
 */
export function planAccess(running: Config, access: Access): AccessPlan {
  // Of another KME: nothing in it is about this one.
  if (access.thisKme !== undefined && access.thisKme !== running.thisKme.id.text) {
    return { config: running, changes: [] };
  }
  const { thisKme } = running;
  const { saesInterface, kmesInterface, skipInterface } = thisKme;
  const config: Config = {
    ...running,
    thisKme: {
      ...thisKme,
      saesInterface: { ...saesInterface, clientCa: planCa(saesInterface.clientCa, access.saesCa) },
      kmesInterface: { ...kmesInterface, clientCa: planCa(kmesInterface.clientCa, access.kmesCa) },
      skipInterface: skipInterface &&
        { ...skipInterface, clientCa: planCa(skipInterface.clientCa, access.skipCa) },
    },
    otherKmes: access.otherKmes === undefined
      ? running.otherKmes
      : running.otherKmes.map((kme) => planKme(kme, access.otherKmes!)),
    saes: planSaes(running, access),
  };
  return { config, changes: changesOf(running, config) };
}

/** CA certificates that were trusted before and still are; if none is, those of the file. */
function planCa(running: string, { pem, isCorrect }: CaAccess): string {
  if (pem === undefined || isCorrect) return pem ?? running;
  return keptCa(running, pem);
}

/**
 * The CA certificates that were trusted before and still are, in PEM. Those that are wanted if none is: without a CA certificate
 * no part runs, and the removed ones must not stay.
 */
export function keptCa(running: string, wanted: string): string {
  const stays = new Set(certificatesInPem(wanted).map(({ fingerprint }) => fingerprint));
  const before = certificatesInPem(running);
  const kept = before.filter(({ fingerprint }) => stays.has(fingerprint));
  if (kept.length === before.length) return running;
  return kept.length === 0 ? wanted : kept.map(({ der }) => formatPem("CERTIFICATE", der)).join("");
}

function planKme(running: OtherKme, wanted: readonly KmeAccess[]): OtherKme {
  if (!isNeighbour(running)) return running;
  const described = wanted.find(({ id }) => id === running.id.text);
  if (described === undefined) {
    // An entry whose id has a mistake may be the one that is missing.
    const possible = wanted.filter(({ id }) => id === undefined);
    if (possible.some(({ certificates }) => certificates === undefined)) return running;
    return {
      ...running,
      certificates: common(running.certificates, union(possible.map((kme) => kme.certificates!))),
    };
  }
  if (described.isRemote) return withoutAccess(running);
  const { certificates, isCorrect } = described;
  if (certificates === undefined) return running;
  if (isCorrect) return { ...running, certificates: certificates === "any" ? undefined : certificates };
  return { ...running, certificates: common(running.certificates, certificates) };
}

function planSaes({ saes, otherKmes, thisKme }: Config, access: Access): readonly ConfiguredSae[] {
  if (access.saes === undefined) return saes;
  if (access.saesAreCorrect) {
    const known = new Set([thisKme.id.text, ...otherKmes.map(({ id }) => id.text)]);
    return (access.saes as Required<SaeAccess>[]).filter(({ kmeId }) => known.has(kmeId));
  }
  return saes.flatMap((sae) => planSae(sae, access.saes!) ?? []);
}

/** The SAE with what it had before and still has; `undefined` when it was removed. */
function planSae(running: ConfiguredSae, wanted: readonly SaeAccess[]): ConfiguredSae | undefined {
  const described = wanted.find(({ id }) => id?.text === running.id.text);
  const possible = described === undefined ? wanted.filter(({ id }) => id === undefined) : [described];
  const ofItsKme = possible.filter(({ kmeId }) => kmeId === undefined || kmeId === running.kmeId);
  if (ofItsKme.length === 0) return undefined;
  const limited = described === undefined ? running : withFewerToReach(running, described);
  // An SAE of another KME has no certificates here.
  if (running.certificates.length === 0) return limited;
  if (ofItsKme.some(({ certificates }) => certificates === undefined)) return limited;
  const certificates = common(running.certificates, union(ofItsKme.map((sae) => sae.certificates!))) ?? [];
  return certificates.length === 0 ? undefined : { ...limited, certificates };
}

/** The SAE with those that it may have keys with before and still may. */
function withFewerToReach(running: ConfiguredSae, { limits }: SaeAccess): ConfiguredSae {
  const wanted = limits?.mayReach;
  if (wanted === undefined) return running;
  const before = running.limits?.mayReach;
  const both = before === undefined ? wanted : before.filter((sae) => wanted.includes(sae));
  return { ...running, limits: { ...running.limits, mayReach: both } };
}

type Certificates = readonly CertificateSelector[] | undefined | "any";

function union(lists: readonly Exclude<Certificates, undefined>[]): Exclude<Certificates, undefined> {
  return lists.includes("any") ? "any" : lists.flatMap((list) => list as readonly CertificateSelector[]);
}

/** The running selectors that are still wanted; where any certificate would do before, all that are wanted. */
function common(
  running: readonly CertificateSelector[] | undefined,
  wanted: Exclude<Certificates, undefined>,
): readonly CertificateSelector[] | undefined {
  if (wanted === "any" || running === undefined) return wanted === "any" ? running : wanted;
  const keys = new Set(wanted.map(selectorKey));
  return running.filter((selector) => keys.has(selectorKey(selector)));
}

function changesOf(before: Config, after: Config): string[] {
  const changes: string[] = [];
  for (const sae of before.saes) {
    const now = after.saes.find(({ id }) => id.text === sae.id.text);
    if (now === undefined) changes.push(`SAE ${sae.id.text} was removed`);
    else if (!same(sae, now)) changes.push(`the certificates or limits of SAE ${sae.id.text}`);
  }
  for (const { id } of after.saes) {
    if (!before.saes.some((sae) => sae.id.text === id.text)) changes.push(`SAE ${id.text} was added`);
  }
  for (const [index, kme] of after.otherKmes.entries()) {
    if (!same(kme, before.otherKmes[index])) {
      changes.push(`the certificates with which KME ${kme.id.text} calls`);
    }
  }
  const users = [
    ["saesInterface", "SAEs"],
    ["kmesInterface", "other KMEs"],
    ["skipInterface", "SAEs that use SKIP"],
  ] as const;
  for (const [name, who] of users) {
    if (!same(before.thisKme[name], after.thisKme[name])) changes.push(`the CA certificates for ${who}`);
  }
  return changes;
}
