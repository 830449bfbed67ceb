/** What keeps keys from being delivered, or soon will. */
import type { KmeStatus, Problem } from "../metrics/kme_status.ts";

export type StatusFacts = Omit<KmeStatus, "delivery" | "since">;

/** A problem; `name` tells it from others. `since` is absent where nothing but the status notices the problem. */
export type FoundProblem = Omit<Problem, "since"> & { readonly name: string; readonly since?: string };

/** Days before the end of a certificate from which on it is a problem. */
const CERTIFICATE_DAYS = 14;

/** The worst first. */
export function findProblems(facts: StatusFacts): FoundProblem[] {
  const { kme, ready, reason, links, peers, relayed, certificates, saes } = facts;
  const problems: FoundProblem[] = [];
  const add = (
    severity: Problem["severity"],
    link: string | null,
    name: string,
    what: string,
    since?: string | null,
  ) => {
    problems.push({ severity, link, name, what, ...since ? { since } : {} });
  };
  if (!ready) add("error", null, "not ready", reason ?? "not ready");
  for (
    const {
      kme: link,
      free,
      used,
      files,
      unmatched,
      unmatchedSince,
      unmatchedFiles = [],
      servedAgain,
      device,
    } of links
  ) {
    const pool = link === kme ? "the pool of this KME's own SAEs" : `the link with KME ${link}`;
    if (used && free === 0) add("error", link, `empty ${link}`, `no blocks left in ${pool}`);
    const there = unmatchedFiles.reduce((sum, file) => sum + file.there, 0);
    if (unmatched !== undefined && unmatchedSince) {
      const names = unmatchedFiles.slice(0, 3).map(({ name }) => name).join(", ");
      add(
        "warning",
        link,
        `unmatched ${link}`,
        `${unmatched + there} blocks of ${pool} are at one end only (${unmatched} here, ${there} there)${
          names === "" ? "" : `: ${names}${unmatchedFiles.length > 3 ? ", ..." : ""}`
        }`,
        unmatchedSince,
      );
    }
    if (servedAgain > 0) {
      const what =
        `${servedAgain} key file${servedAgain === 1 ? "" : "s"} of ${pool} may have been served before ` +
        "from another database: use a database file and fresh key files";
      add("warning", link, `served again ${link}`, what);
    }
    if (device !== undefined && (device.problem !== null || device.up === false)) {
      const what = device.problem ?? `${device.device} does not answer`;
      add("warning", link, `device ${link}`, `no keys come from the QKD device of ${pool}: ${what}`);
    }
    for (const { file, error } of files) {
      if (error !== null) {
        add(
          "warning",
          link,
          `file ${link} ${file}`,
          `key file ${file} of ${pool} was not ingested: ${error}`,
        );
      }
    }
  }
  for (const { kme: peer, up, since, lastError } of peers) {
    if (up !== false) continue;
    const beyond = relayed.filter(({ through }) => through === peer).map((each) => `KME ${each.kme}`);
    const reached = beyond.length === 0 ? "" : `, nor can ${beyond.join(", ")} be reached through it`;
    add(
      "error",
      peer,
      `down ${peer}`,
      `KME ${peer} does not answer${reached}${lastError === null ? "" : `: ${lastError}`}`,
      since,
    );
  }
  for (const { member, daysLeft, serial } of certificates) {
    if (daysLeft >= CERTIFICATE_DAYS) continue;
    const severity = daysLeft < 0 ? "error" : "warning";
    const end = daysLeft < 0 ? "has expired" : `expires in ${inDays(daysLeft)}`;
    add(severity, null, `certificate ${member} ${serial}`, `the certificate of ${member} ${end}`);
  }
  for (const { sae, certificateDaysLeft: days } of saes) {
    if (days === null || days >= CERTIFICATE_DAYS) continue;
    const end = days < 0 ? "has expired" : `expires in ${inDays(days)}`;
    add("warning", null, `sae certificate ${sae}`, `the certificate of SAE ${sae} ${end}`);
  }
  return problems.sort((a, b) => Number(b.severity === "error") - Number(a.severity === "error"));
}

function inDays(days: number): string {
  return days === 1 ? "1 day" : `${days} days`;
}

/** Whether a link can deliver keys now. */
export function canDeliver({ ready, peers }: StatusFacts, link: StatusFacts["links"][number]): boolean {
  const peer = peers.find(({ kme }) => kme === link.kme);
  return ready && link.free !== null && link.free > 0 && peer?.up !== false;
}

/** `all`: every link that is in use; `some`: at least one of them. */
export function deliverable(facts: StatusFacts): KmeStatus["delivery"]["links"] {
  const used = facts.links.filter((link) => link.used);
  const able = used.filter((link) => canDeliver(facts, link));
  if (able.length === 0) return "none";
  return able.length === used.length ? "all" : "some";
}

/** Remembers since when each problem exists. */
export class ProblemTimes {
  readonly #since = new Map<string, string>();

  /** @returns the problems with their times; what is not among them any more is forgotten. */
  update(found: readonly FoundProblem[], now: Date): Problem[] {
    const names = new Set(found.map(({ name }) => name));
    for (const name of [...this.#since.keys()]) if (!names.has(name)) this.#since.delete(name);
    return found.map(({ name, since: began, ...problem }) => {
      const since = began ?? this.#since.get(name) ?? now.toISOString();
      this.#since.set(name, since);
      return { ...problem, since };
    });
  }

  get entries(): [name: string, since: string][] {
    return [...this.#since];
  }

  restore(entries: readonly (readonly [name: string, since: string])[]): void {
    for (const [name, since] of entries) this.#since.set(name, since);
  }
}
