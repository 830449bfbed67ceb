/** Which certificates identify the SAEs of this KME and the neighbours that call it. Pure. */
import { formatMember, type MemberPath } from "../domain/member_path.ts";
import {
  type CertificateSelector,
  identifies,
  lacksIssuer,
  selectorKey,
  withIssuer,
} from "../x509/certificate_selector.ts";
import type { Certificate } from "../x509/certificate.ts";
import { commonNames } from "../x509/certificate_names.ts";
import { Findings } from "./findings.ts";
import { otherKmeIds, ownKmeId } from "./kme_ids.ts";
import type { PartialConfig } from "./partial_config.ts";
import type { ReferencedFiles } from "./referenced_files.ts";

/** Selectors of one SAE or KME; `undefined`: they have a mistake. */
export type Selectors = readonly CertificateSelector[] | undefined;

export interface Identities {
  /** In the order of `saes`; none for SAEs of other KMEs in a correct file. */
  readonly saes: readonly Selectors[];
  /** In the order of `other_kmes`; `"any"`: any certificate of the CA. */
  readonly otherKmes: readonly (Selectors | "any")[];
}

interface Entry {
  readonly certificates?: readonly CertificateSelector[];
  readonly https_client_certificate_serial?: bigint;
}

interface Located {
  readonly member: MemberPath;
  readonly selector: CertificateSelector;
}

/** Reports what is missing, not allowed, not enough to identify a certificate, or used twice. */
export function readIdentities(
  partial: PartialConfig,
  files: ReferencedFiles,
  findings: Findings,
): Identities {
  const saes = readSaes(partial, saeIssuers(files), findings);
  const otherKmes = readOtherKmes(partial, files.kmesInterface.clientIssuers, findings);
  return { saes, otherKmes };
}

/** The CA certificates of all listeners for SAEs, each once; `undefined` where one has a mistake. */
function saeIssuers({ saesInterface, skipInterface }: ReferencedFiles): readonly Certificate[] | undefined {
  if (saesInterface.clientIssuers === undefined) return undefined;
  const all = [...saesInterface.clientIssuers, ...skipInterface.clientIssuers ?? []];
  return [...new Map(all.map((issuer) => [issuer.fingerprint, issuer])).values()];
}

function readSaes(
  partial: PartialConfig,
  issuers: readonly Certificate[] | undefined,
  findings: Findings,
): Selectors[] {
  const own = ownKmeId(partial);
  const others = otherKmeIds(partial);
  const all: Located[][] = [];
  const saes = (partial.content.saes ?? []).map((sae, index): Selectors => {
    const member: MemberPath = ["saes", index];
    const kme = sae?.kme_id?.text;
    if (kme !== own) {
      if (kme !== undefined && others.includes(kme)) {
        for (const name of givenMembers(partial, member)) {
          findings.mistake(
            [...member, name],
            `the SAE belongs to KME ${kme}, and only that KME checks its certificate; leave it out`,
          );
        }
      }
      // Not used here, but known: where the id of this KME has a mistake, the SAE may be its own.
      return locate(partial, member, sae ?? {}, new Findings(""))?.map(({ selector }) => selector);
    }
    if (own !== undefined && givenMembers(partial, member).length === 0) {
      findings.mistake(
        [...member, "certificates"],
        'is missing; write what identifies the certificate of this SAE, as in [{ subject_cn: "name" }], or its ' +
          "https_client_certificate_serial",
      );
    }
    const located = locate(partial, member, sae ?? {}, findings);
    if (located === undefined) return undefined;
    const listeners = partial.given(["this_kme", "skip_https_interface"])
      ? "saes_https_interface with skip_https_interface"
      : "saes_https_interface";
    checkIssuers(located, listeners, issuers, findings);
    all.push(located);
    return located.map(({ selector }) => selector);
  });
  checkUnique(all, issuers, "every SAE needs its own certificate", findings);
  return saes;
}

function readOtherKmes(
  partial: PartialConfig,
  issuers: readonly Certificate[] | undefined,
  findings: Findings,
): (Selectors | "any")[] {
  const all: Located[][] = [];
  const kmes = (partial.content.other_kmes ?? []).map((kme, index): Selectors | "any" => {
    const member: MemberPath = ["other_kmes", index];
    if (partial.given([...member, "reached_through"])) return [];
    if (givenMembers(partial, member).length === 0) return "any";
    const located = locate(partial, member, kme ?? {}, findings);
    if (located === undefined) return undefined;
    checkIssuers(located, "kmes_https_interface", issuers, findings);
    all.push(located);
    return located.map(({ selector }) => selector);
  });
  checkUnique(all, issuers, "every KME needs its own certificate", findings);
  return kmes;
}

function givenMembers(partial: PartialConfig, member: MemberPath): string[] {
  return ["certificates", "https_client_certificate_serial"].filter((name) =>
    partial.given([...member, name])
  );
}

/** The selectors of an SAE or KME with their places in the file; `undefined` where one has a mistake. */
function locate(
  { given }: PartialConfig,
  member: MemberPath,
  { certificates, https_client_certificate_serial: serial }: Entry,
  findings: Findings,
): Located[] | undefined {
  const at = (name: string): MemberPath => [...member, name];
  if (given(at("certificates")) && certificates === undefined) return undefined;
  if (given(at("https_client_certificate_serial")) && serial === undefined) return undefined;
  const located = (certificates ?? []).map((selector, index): Located => ({
    member: [...at("certificates"), index],
    selector,
  }));
  if (certificates?.length === 0) {
    findings.mistake(at("certificates"), 'is empty; write at least one, as in [{ subject_cn: "name" }]');
  }
  for (const { member, selector } of located) {
    if (identifies(selector)) continue;
    findings.mistake(
      member,
      "does not identify a certificate; write subject_cn, san_dns, san_uri, san_email, fingerprint_sha256 or serial",
    );
  }
  if (serial !== undefined) {
    located.push({ member: at("https_client_certificate_serial"), selector: { serial } });
  }
  return located;
}

/** Serial numbers are unique only among the certificates of one issuer. */
function checkIssuers(
  located: readonly Located[],
  listener: string,
  issuers: readonly Certificate[] | undefined,
  findings: Findings,
): void {
  if (issuers === undefined || issuers.length < 2) return;
  for (const { member, selector } of located) {
    if (!lacksIssuer(selector)) continue;
    const names = issuers.map(({ subjectText }) => subjectText).join("; ");
    const issuer = commonNames(issuers[0]!.subject)[0] ?? "name of the CA";
    const right = `{ serial: "${selector.serial!.toString(16)}", issuer_cn: ${JSON.stringify(issuer)} }`;
    findings.mistake(
      member,
      `${listener} trusts several CA certificates (${names}), and a serial number is unique for one of them only; ` +
        (member.at(-1) === "https_client_certificate_serial"
          ? `write certificates: [${right}] with the CA that issued the certificate`
          : `write ${right} with the CA that issued the certificate, or its issuer_sha256`),
    );
  }
}

function checkUnique(
  all: readonly (readonly Located[])[],
  issuers: readonly Certificate[] | undefined,
  rule: string,
  findings: Findings,
): void {
  const fingerprints = (issuers ?? []).map(({ fingerprint }) => fingerprint);
  const seen = new Map<string, { owner: readonly Located[]; member: MemberPath }>();
  for (const owner of all) {
    for (const { member, selector } of owner) {
      const key = selectorKey(withIssuer(selector, fingerprints) ?? selector);
      const first = seen.get(key);
      if (first === undefined) seen.set(key, { owner, member });
      else if (first.owner !== owner) {
        const serial = selector.serial === undefined ? "" : ` (0x${selector.serial.toString(16)})`;
        findings.mistake(member, `is the same as ${formatMember(first.member)}${serial}; ${rule}`);
      }
    }
  }
}

/**
 * Warns of neighbours whose certificates are not named. No mistakes: the Rust KME accepts such a file.
 */
export function warnOfUnnamedNeighbours(
  partial: PartialConfig,
  files: ReferencedFiles,
  { otherKmes }: Identities,
  findings: Findings,
): void {
  const saesCa = new Set(saeIssuers(files)?.map(({ fingerprint }) => fingerprint));
  const shared = (files.kmesInterface.clientIssuers ?? []).some(({ fingerprint }) => saesCa.has(fingerprint));
  const unnamed = otherKmes.flatMap((selectors, index) => selectors === "any" ? [index] : []);
  const idOf = (index: number) => partial.content.other_kmes?.[index]?.id?.text ?? "?";
  if (shared && unnamed.length > 0) {
    findings.warning(
      ["this_kme", "kmes_https_interface", "ca_client_cert_path"],
      `trusts a CA that the listener for SAEs trusts too: every SAE can call as KME ${
        unnamed.map(idOf).join(", ")
      }; use a separate CA for KMEs, and write certificates for each of them in other_kmes`,
    );
  }
  for (const index of unnamed) {
    findings.warning(
      ["other_kmes", index, "certificates"],
      `is missing: any certificate of the CA of kmes_https_interface can call as KME ${
        idOf(index)
      }; write what ` +
        'identifies its certificate, as in [{ subject_cn: "name" }]',
    );
  }
}
