/** Rules between members. Pure: no file is read. */
import type { PartialConfig } from "./partial_config.ts";
import type { Findings } from "./findings.ts";
import { explainedByMistakes, otherKmeIds, ownKmeId } from "./kme_ids.ts";
import { formatHostPort, type HostPort, isLoopback, overlap } from "../domain/address.ts";
import { formatMember, type MemberPath } from "../domain/member_path.ts";

/** Reports every broken rule. */
export function checkRules(partial: PartialConfig, findings: Findings): void {
  checkKmeIds(partial, findings);
  checkRoutes(partial, findings);
  checkSaes(partial, findings);
  checkLimits(partial, findings);
  checkListeners(partial, findings);
  checkDevices(partial, findings);
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
  ["inter_kme_bind_address", "the address at which this KME is called, as in kme2.example:3001"],
  ["https_client_authentication_certificate", "the .pfx, .p12 or .pem file with which this KME is called"],
] as const;
const LINK_OPTIONAL = [
  "key_directory_to_watch",
  "key_source",
  "https_client_authentication_certificate_password",
  "inter_kme_ca_cert_path",
  "inter_kme_crl_path",
  "https_client_certificate_serial",
  "certificates",
] as const;

function checkRoutes(partial: PartialConfig, findings: Findings): void {
  const { content, given } = partial;
  const kmes = content.other_kmes ?? [];
  const routes = new Map<string, { index: number; through?: string }>();
  for (const [index, kme] of kmes.entries()) {
    const id = kme?.id?.text;
    if (id !== undefined && !routes.has(id)) routes.set(id, { index, through: kme!.reached_through?.text });
  }
  const explained = explainedByMistakes(
    partial,
    kmes.flatMap((kme) => kme?.reached_through?.text ?? []).filter((id) => !routes.has(id)),
  );
  for (const [index, kme] of kmes.entries()) {
    if (kme === undefined) continue;
    const member = (name: string): MemberPath => ["other_kmes", index, name];
    if (!given(member("reached_through"))) {
      if (!given(member("key_directory_to_watch")) && !given(member("key_source"))) {
        findings.mistake(
          member("key_directory_to_watch"),
          "is missing; write a directory with the keys shared with this KME, or a key_source, or use reached_through to " +
            "name the KME that relays keys",
        );
      }
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

function checkSaes(partial: PartialConfig, findings: Findings): void {
  const saes = partial.content.saes ?? [];
  const own = ownKmeId(partial);
  const known = [partial.content.this_kme?.id?.text, ...otherKmeIds(partial)].filter((id) =>
    id !== undefined
  );
  const explained = explainedByMistakes(
    partial,
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
    if (kme === undefined || kme === own || known.includes(kme) || explained.has(kme)) continue;
    const right = listed("write one of", known);
    findings.mistake(member("kme_id"), `no KME ${kme} is configured; ${right}, or add it to other_kmes`);
  }
}

/** Members that only the SAE's own KME uses. */
const OWN_LIMITS = ["max_bits_per_second"] as const;

function checkLimits(partial: PartialConfig, findings: Findings): void {
  const { content, given } = partial;
  const saes = content.saes ?? [];
  const own = ownKmeId(partial);
  const ids = saes.map((sae) => sae?.id?.text);
  // An unknown one may be that of an SAE whose id has a mistake.
  const isKnown = (id: string) => ids.includes(id) || ids.includes(undefined) || content.saes === undefined;
  const requireSae = (member: MemberPath, id: string | undefined) => {
    if (id === undefined || isKnown(id)) return;
    findings.mistake(
      member,
      `no SAE ${id} is configured; ${listed("write one of", ids.filter((id) => id !== undefined))}`,
    );
  };
  for (const [index, sae] of saes.entries()) {
    for (const [i, id] of (sae?.may_reach ?? []).entries()) {
      requireSae(["saes", index, "may_reach", i], id?.text);
    }
    if (sae?.kme_id === undefined || own === undefined || sae.kme_id.text === own) continue;
    for (const name of OWN_LIMITS) {
      if (!given(["saes", index, name])) continue;
      findings.mistake(
        ["saes", index, name],
        `the SAE belongs to KME ${sae.kme_id.text}, and only that KME applies it; leave it out`,
      );
    }
  }
  const links = [content.this_kme?.id?.text, ...otherKmeIds(partial)];
  const seen = new Set<string>();
  for (const [index, reserve] of (content.this_kme?.reserve_share ?? []).entries()) {
    const member = (
      ...names: (string | number)[]
    ): MemberPath => ["this_kme", "reserve_share", index, ...names];
    for (const [i, id] of (reserve?.saes ?? []).entries()) {
      requireSae(member("saes", i), id?.text);
      const kme = saes.find((sae) => sae?.id?.text === id?.text && id !== undefined)?.kme_id?.text;
      if (kme === undefined || own === undefined || kme === own) continue;
      findings.mistake(member("saes", i), `SAE ${id!.text} belongs to KME ${kme}; name SAEs of this KME`);
    }
    const kme = reserve?.kme?.text;
    if (kme === undefined) continue;
    const other = content.other_kmes?.find((other) => other?.id?.text === kme);
    if (!links.includes(kme) && !links.includes(undefined)) {
      findings.mistake(
        member("kme"),
        `no KME ${kme} is configured; write this KME's id or that of a neighbour`,
      );
    } else if (other?.reached_through !== undefined) {
      findings.mistake(
        member("kme"),
        `KME ${kme} has no direct link; write the id of the neighbour that leads to it`,
      );
    } else if (seen.has(kme)) {
      findings.mistake(member("kme"), `KME ${kme} has a share already; write each link once`);
    }
    seen.add(kme);
  }
}

function checkListeners({ content }: PartialConfig, findings: Findings): void {
  const thisKme = content.this_kme;
  const listeners: [MemberPath, HostPort | undefined][] = [
    [["this_kme", "saes_https_interface", "listen_address"], thisKme?.saes_https_interface?.listen_address],
    [["this_kme", "kmes_https_interface", "listen_address"], thisKme?.kmes_https_interface?.listen_address],
    [["this_kme", "skip_https_interface", "listen_address"], thisKme?.skip_https_interface?.listen_address],
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

function checkDevices({ content }: PartialConfig, findings: Findings): void {
  const max = content.this_kme?.max_key_count;
  for (const [index, kme] of (content.other_kmes ?? []).entries()) {
    const source = kme?.key_source;
    if (source === undefined) continue;
    const member = (name: string): MemberPath => ["other_kmes", index, "key_source", name];
    const { target_stock: target, low_stock: low, local_SAE_id: local, remote_SAE_id: remote } = source;
    if (low !== undefined && low > target) {
      findings.mistake(
        member("low_stock"),
        `${low} is more than target_stock (${target}); keys are fetched below low_stock until there are target_stock`,
      );
    }
    if (max !== undefined && target > max) {
      findings.mistake(
        member("target_stock"),
        `${target} is more than this_kme.max_key_count (${max}); write at most that`,
      );
    }
    if (local === remote) {
      findings.mistake(
        member("remote_SAE_id"),
        `${remote} is local_SAE_id too; write the id of the SAE at the other device`,
      );
    }
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

function listed(what: string, ids: readonly string[]): string {
  return ids.length === 0
    ? "there is none"
    : `${what} ${ids.slice(0, 10).join(", ")}${ids.length > 10 ? ", ..." : ""}`;
}
