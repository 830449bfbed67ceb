/** Rules between members. Pure: no file is read. */
import { shareCertificate } from "../x509/pem.ts";
import type { PartialConfig } from "./partial_config.ts";
import type { Findings } from "./findings.ts";
import type { ReferencedFiles } from "./referenced_files.ts";
import { formatHostPort, type HostPort, isLoopback, overlap } from "../domain/address.ts";
import { formatMember, type MemberPath } from "../domain/member_path.ts";

/** Reports every broken rule. */
export function checkRules(partial: PartialConfig, findings: Findings): void {
  checkKmeIds(partial, findings);
  checkRoutes(partial, findings);
  checkCallers(partial, findings);
  checkSaes(partial, findings);
  checkListeners(partial, findings);
  checkConsequences(partial, findings);
}

function checkKmeIds({ content }: PartialConfig, findings: Findings): void {
  const seen = new Map<string, number>();
  for (const [index, kme] of (content.other_kmes ?? []).entries()) {
    const id = kme?.id?.text;
    if (id === undefined) continue;
    const member = ["other_kmes", index, "id"];
    const first = seen.get(id);
    if (id === content.this_kme?.id?.text) {
      findings.mistake(
        member,
        `${id} is the id of this KME (this_kme.id); other_kmes holds only the other KMEs`,
      );
    } else if (first !== undefined) {
      findings.mistake(member, `${id} is the id of other_kmes[${first}] too; every KME needs its own id`);
    } else seen.set(id, index);
  }
}

/** Members that describe a link; a KME that is reached through another one has none. */
const LINK_REQUIRED = [
  ["key_directory_to_watch", "a directory with the keys shared with this KME"],
  ["inter_kme_bind_address", "the address at which this KME is called, as in kme2.example:3001"],
  ["https_client_authentication_certificate", "the .pfx, .p12 or .pem file with which this KME is called"],
] as const;
const LINK_OPTIONAL = [
  "https_client_authentication_certificate_password",
  "inter_kme_ca_cert_path",
  "https_client_certificate_serial",
] as const;

function checkRoutes({ content, given }: PartialConfig, findings: Findings): void {
  const kmes = content.other_kmes ?? [];
  const routes = new Map<string, { index: number; through?: string }>();
  for (const [index, kme] of kmes.entries()) {
    const id = kme?.id?.text;
    if (id !== undefined && !routes.has(id)) routes.set(id, { index, through: kme!.reached_through?.text });
  }
  const explained = explainedByMistakes(
    content,
    kmes.flatMap((kme) => kme?.reached_through?.text ?? []).filter((id) => !routes.has(id)),
  );
  for (const [index, kme] of kmes.entries()) {
    if (kme === undefined) continue;
    const member = (name: string): MemberPath => ["other_kmes", index, name];
    if (!given(member("reached_through"))) {
      for (const [name, right] of LINK_REQUIRED) {
        if (given(member(name))) continue;
        findings.mistake(
          member(name),
          `is missing; write ${right}, or use reached_through to name the KME that relays keys`,
        );
      }
      continue;
    }
    for (const name of [...LINK_REQUIRED.map(([name]) => name), ...LINK_OPTIONAL]) {
      if (!given(member(name))) continue;
      findings.mistake(
        member(name),
        "a KME with reached_through has no direct link; leave out one of the two",
      );
    }
    const through = kme.reached_through?.text;
    if (through === undefined) continue;
    if (through === kme.id?.text) {
      findings.mistake(
        member("reached_through"),
        "the KME is reached through itself; write the id of a neighbour",
      );
    } else if (through === content.this_kme?.id?.text) {
      findings.mistake(
        member("reached_through"),
        `${through} is this KME; write the id of the neighbour that relays keys`,
      );
    } else if (!routes.has(through) && !explained.has(through)) {
      findings.mistake(
        member("reached_through"),
        `no KME ${through} is configured; ${
          listed("write one of", [...routes.keys()].filter((id) => id !== kme.id?.text))
        }`,
      );
    }
  }
  for (const loop of loops(routes)) {
    findings.mistake(
      ["other_kmes", routes.get(loop[0]!)!.index, "reached_through"],
      `is a loop (${[...loop, loop[0]].join(" -> ")}); one of them needs a direct link`,
    );
  }
}

/** Each loop once, beginning with its first KME in the file. A KME reached through itself is reported elsewhere. */
function loops(routes: ReadonlyMap<string, { through?: string }>): string[][] {
  const found: string[][] = [];
  const done = new Set<string>();
  for (const start of routes.keys()) {
    const path: string[] = [];
    let id: string | undefined = start;
    while (id !== undefined && !done.has(id)) {
      done.add(id);
      path.push(id);
      id = routes.get(id)?.through;
    }
    const begin = id === undefined ? -1 : path.indexOf(id);
    if (begin < 0 || path.length - begin < 2) continue;
    const loop = path.slice(begin);
    const order = [...routes.keys()];
    const first = loop.indexOf(loop.toSorted((a, b) => order.indexOf(a) - order.indexOf(b))[0]!);
    found.push([...loop.slice(first), ...loop.slice(0, first)]);
  }
  return found;
}

function checkCallers({ content }: PartialConfig, findings: Findings): void {
  checkSerials(
    (content.other_kmes ?? []).map((kme) => kme?.https_client_certificate_serial),
    "other_kmes",
    "every KME needs its own certificate",
    findings,
  );
}

function checkSaes(partial: PartialConfig, findings: Findings): void {
  const { content, given } = partial;
  const saes = content.saes ?? [];
  const own = content.this_kme?.id?.text ?? guessOwnId(partial);
  const known = [content.this_kme?.id?.text, ...otherIds(content)].filter((id) => id !== undefined);
  const explained = explainedByMistakes(
    content,
    saes.flatMap((sae) => sae?.kme_id?.text ?? []).filter((id) => id !== own && !known.includes(id)),
  );
  const seen = new Map<string, number>();
  for (const [index, sae] of saes.entries()) {
    const member = (name: string): MemberPath => ["saes", index, name];
    const id = sae?.id?.text;
    const first = id === undefined ? undefined : seen.get(id);
    if (first !== undefined) {
      findings.mistake(member("id"), `${id} is the id of saes[${first}] too; every SAE needs its own id`);
    } else if (id !== undefined) seen.set(id, index);

    const kme = sae?.kme_id?.text;
    if (kme === undefined) continue;
    const serialMember = member("https_client_certificate_serial");
    if (kme === own) {
      if (!given(serialMember)) {
        findings.mistake(
          serialMember,
          "is missing; write the serial number of the certificate of this SAE, as in [0x0a, 0xf1]",
        );
      }
    } else if (!known.includes(kme)) {
      if (explained.has(kme)) continue;
      const right = listed("write one of", known);
      findings.mistake(member("kme_id"), `no KME ${kme} is configured; ${right}, or add it to other_kmes`);
    } else if (given(serialMember)) {
      findings.mistake(
        serialMember,
        `the SAE belongs to KME ${kme}, and only that KME checks its certificate; leave it out`,
      );
    }
  }
  checkSerials(
    saes.map((sae) => sae?.kme_id?.text === own ? sae?.https_client_certificate_serial : undefined),
    "saes",
    "every SAE needs its own certificate",
    findings,
  );
}

function otherIds(content: PartialConfig["content"]): (string | undefined)[] {
  return (content.other_kmes ?? []).map((kme) => kme?.id?.text);
}

/**
 * Unknown KME ids that may be right: each other KME whose id has a mistake itself may have one of them. Without a list of
 * other KMEs, all of them may be right.
 */
function explainedByMistakes(content: PartialConfig["content"], unknown: readonly string[]): Set<string> {
  if (content.other_kmes === undefined) return new Set(unknown);
  const unreadable = otherIds(content).filter((id) => id === undefined).length;
  return new Set([...new Set(unknown)].slice(0, unreadable));
}

/** Where `this_kme.id` has a mistake: the KME of most SAEs that have a certificate in the file, which only own SAEs have. */
function guessOwnId({ content, given }: PartialConfig): string | undefined {
  const others = otherIds(content);
  const counts = new Map<string, number>();
  for (const [index, sae] of (content.saes ?? []).entries()) {
    const kme = sae?.kme_id?.text;
    if (kme === undefined || others.includes(kme)) continue;
    if (given(["saes", index, "https_client_certificate_serial"])) {
      counts.set(kme, (counts.get(kme) ?? 0) + 1);
    }
  }
  return [...counts].toSorted(([, a], [, b]) => b - a)[0]?.[0];
}

function checkSerials(
  serials: readonly (bigint | undefined)[],
  place: string,
  rule: string,
  findings: Findings,
): void {
  const seen = new Map<bigint, number>();
  for (const [index, serial] of serials.entries()) {
    if (serial === undefined) continue;
    const first = seen.get(serial);
    if (first === undefined) seen.set(serial, index);
    else {
      findings.mistake(
        [place, index, "https_client_certificate_serial"],
        `is the serial number of ${place}[${first}] too (0x${serial.toString(16)}); ${rule}`,
      );
    }
  }
}

function checkListeners({ content }: PartialConfig, findings: Findings): void {
  const thisKme = content.this_kme;
  const listeners: [MemberPath, HostPort | undefined][] = [
    [["this_kme", "saes_https_interface", "listen_address"], thisKme?.saes_https_interface?.listen_address],
    [["this_kme", "kmes_https_interface", "listen_address"], thisKme?.kmes_https_interface?.listen_address],
    [["this_kme", "debugging_http_interface"], thisKme?.debugging_http_interface],
  ];
  for (const [index, [member, address]] of listeners.entries()) {
    const other = listeners.slice(0, index)
      .find(([, before]) => address !== undefined && before !== undefined && overlap(address, before));
    if (other === undefined) continue;
    findings.mistake(
      member,
      `${formatHostPort(address!)} is used by ${formatMember(other[0])} (${formatHostPort(other[1]!)}); ` +
        "choose another port",
    );
  }
}

/** Warns of correct values that may not be intended. */
function checkConsequences({ content: { this_kme: thisKme } }: PartialConfig, findings: Findings): void {
  if (thisKme?.db_uri?.kind === "memory" && thisKme.delete_key_file_after_read === true) {
    findings.warning(
      ["this_kme", "delete_key_file_after_read"],
      "key files are deleted although the database is in memory: all keys are lost at a restart",
    );
  }
  const console = thisKme?.debugging_http_interface;
  if (console !== undefined && !isLoopback(console.hostname)) {
    findings.warning(
      ["this_kme", "debugging_http_interface"],
      `the web console has no authentication, and other machines can reach ${formatHostPort(console)}`,
    );
  }
}

/** Warns if an SAE could call as a KME. No mistake: the Rust KME accepts such a file. */
export function checkTrust(
  { content, given }: PartialConfig,
  files: ReferencedFiles,
  findings: Findings,
): void {
  const [saes, kmes] = [files.saesInterface.clientCa, files.kmesInterface.clientCa];
  if (saes === undefined || kmes === undefined || !shareCertificate(saes, kmes)) return;
  const anonymous = (content.other_kmes ?? []).flatMap((kme, index) =>
    given(["other_kmes", index, "reached_through"]) ||
      given(["other_kmes", index, "https_client_certificate_serial"])
      ? []
      : [kme?.id?.text ?? "?"]
  );
  if (anonymous.length === 0) return;
  findings.warning(
    ["this_kme", "kmes_https_interface", "ca_client_cert_path"],
    `trusts a CA that saes_https_interface trusts too: every SAE can call as KME ${anonymous.join(", ")}; ` +
      "use a separate CA for KMEs, or write https_client_certificate_serial for each of them in other_kmes",
  );
}

function listed(what: string, ids: readonly string[]): string {
  return ids.length === 0
    ? "there is none"
    : `${what} ${ids.slice(0, 10).join(", ")}${ids.length > 10 ? ", ..." : ""}`;
}
