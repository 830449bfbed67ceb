/** What members have to say about each other. Pure: no file is looked at. */
import { shareCertificate } from "../x509/pem.ts";
import type { Draft } from "./draft.ts";
import type { Findings } from "./findings.ts";
import type { Materials } from "./materials.ts";
import { formatHostPort, type HostPort, isLoopback, overlap } from "../domain/address.ts";
import { formatMember, type MemberPath } from "../domain/member_path.ts";

/** Reports all that contradicts itself. */
export function checkRules(draft: Draft, findings: Findings): void {
  checkKmeIds(draft, findings);
  checkRoutes(draft, findings);
  checkCallers(draft, findings);
  checkSaes(draft, findings);
  checkListeners(draft, findings);
  checkConsequences(draft, findings);
}

function checkKmeIds({ content }: Draft, findings: Findings): void {
  const seen = new Map<string, number>();
  for (const [index, kme] of (content.other_kmes ?? []).entries()) {
    const id = kme?.id?.text;
    if (id === undefined) continue;
    const member = ["other_kmes", index, "id"];
    const first = seen.get(id);
    if (id === content.this_kme?.id?.text) {
      findings.mistake(member, `${id} is the id of this KME (this_kme.id); other_kmes holds the others only`);
    } else if (first !== undefined) {
      findings.mistake(member, `${id} is the id of other_kmes[${first}] too; every KME has an id of its own`);
    } else seen.set(id, index);
  }
}

/** Members that describe a link, which a KME reached through another one does not have. */
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

function checkRoutes({ content, given }: Draft, findings: Findings): void {
  const kmes = content.other_kmes ?? [];
  const routes = new Map<string, { index: number; through?: string }>();
  for (const [index, kme] of kmes.entries()) {
    const id = kme?.id?.text;
    if (id !== undefined && !routes.has(id)) routes.set(id, { index, through: kme!.reached_through?.text });
  }
  // While an id cannot be read, it may be the one that is asked for.
  const allKnown = kmes.every((kme) => kme?.id !== undefined) && content.other_kmes !== undefined;
  for (const [index, kme] of kmes.entries()) {
    if (kme === undefined) continue;
    const member = (name: string): MemberPath => ["other_kmes", index, name];
    if (!given(member("reached_through"))) {
      for (const [name, right] of LINK_REQUIRED) {
        if (given(member(name))) continue;
        findings.mistake(
          member(name),
          `is missing; write ${right}, or say with reached_through which KME passes keys on`,
        );
      }
      continue;
    }
    for (const name of [...LINK_REQUIRED.map(([name]) => name), ...LINK_OPTIONAL]) {
      if (!given(member(name))) continue;
      findings.mistake(
        member(name),
        "a KME with reached_through has no link of its own; leave out one of the two",
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
        `${through} is this KME; write the id of the neighbour that passes keys on`,
      );
    } else if (!routes.has(through) && allKnown) {
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
      `goes in a circle (${[...loop, loop[0]].join(" -> ")}); one of them needs a link of its own`,
    );
  }
}

/** Each circle once, beginning with its first KME in the file. A KME reached through itself is none. */
function loops(routes: ReadonlyMap<string, { through?: string }>): string[][] {
  const found: string[][] = [];
  const done = new Set<string>();
  for (const start of routes.keys()) {
    const way: string[] = [];
    let id: string | undefined = start;
    while (id !== undefined && !done.has(id)) {
      done.add(id);
      way.push(id);
      id = routes.get(id)?.through;
    }
    const begin = id === undefined ? -1 : way.indexOf(id);
    if (begin < 0 || way.length - begin < 2) continue;
    const circle = way.slice(begin);
    const order = [...routes.keys()];
    const first = circle.indexOf(circle.toSorted((a, b) => order.indexOf(a) - order.indexOf(b))[0]!);
    found.push([...circle.slice(first), ...circle.slice(0, first)]);
  }
  return found;
}

function checkCallers({ content }: Draft, findings: Findings): void {
  checkSerials(
    (content.other_kmes ?? []).map((kme) => kme?.https_client_certificate_serial),
    "other_kmes",
    "every KME calls with a certificate of its own",
    findings,
  );
}

function checkSaes({ content, given }: Draft, findings: Findings): void {
  const saes = content.saes ?? [];
  const own = content.this_kme?.id?.text;
  const others = (content.other_kmes ?? []).map((kme) => kme?.id?.text);
  const allKnown = own !== undefined && content.other_kmes !== undefined && !others.includes(undefined);
  const known = [own, ...others];
  const seen = new Map<string, number>();
  for (const [index, sae] of saes.entries()) {
    const member = (name: string): MemberPath => ["saes", index, name];
    const id = sae?.id?.text;
    const first = id === undefined ? undefined : seen.get(id);
    if (first !== undefined) {
      findings.mistake(member("id"), `${id} is the id of saes[${first}] too; every SAE has an id of its own`);
    } else if (id !== undefined) seen.set(id, index);

    const kme = sae?.kme_id?.text;
    if (kme === undefined) continue;
    const serialMember = member("https_client_certificate_serial");
    if (kme === own) {
      if (!given(serialMember)) {
        findings.mistake(
          serialMember,
          "is missing; an SAE of this KME is known by the serial number of its certificate, as in [0x0a, 0xf1]",
        );
      }
    } else if (!known.includes(kme)) {
      if (!allKnown) continue;
      const right = listed("write one of", known as string[]);
      findings.mistake(member("kme_id"), `no KME ${kme} is configured; ${right}, or add it to other_kmes`);
    } else if (own !== undefined && given(serialMember)) {
      findings.mistake(
        serialMember,
        `the SAE belongs to KME ${kme}, which alone checks its certificate; leave the serial number out`,
      );
    }
  }
  checkSerials(
    saes.map((sae) => sae?.kme_id?.text === own ? sae?.https_client_certificate_serial : undefined),
    "saes",
    "every SAE has a certificate of its own",
    findings,
  );
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

function checkListeners({ content }: Draft, findings: Findings): void {
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
      `${formatHostPort(address!)} is taken by ${formatMember(other[0])} (${formatHostPort(other[1]!)}); ` +
        "choose another port",
    );
  }
}

/** Right, but perhaps not what was meant. */
function checkConsequences({ content: { this_kme: thisKme } }: Draft, findings: Findings): void {
  if (thisKme?.db_uri?.kind === "memory" && thisKme.delete_key_file_after_read === true) {
    findings.warning(
      ["this_kme", "delete_key_file_after_read"],
      "key files are deleted although the database is in memory: a restart loses all keys",
    );
  }
  const console = thisKme?.debugging_http_interface;
  if (console !== undefined && !isLoopback(console.hostname)) {
    findings.warning(
      ["this_kme", "debugging_http_interface"],
      `the web console asks nobody who they are, and ${formatHostPort(console)} is not only for this machine`,
    );
  }
}

/**
 * Who may call on the inter-KME interface. A warning and not a mistake: the Rust KME takes such a file, and whoever runs
 * all the SAEs may mean it.
 */
export function checkTrust({ content, given }: Draft, materials: Materials, findings: Findings): void {
  const [saes, kmes] = [materials.saesInterface.clientCa, materials.kmesInterface.clientCa];
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
    `trusts a CA that saes_https_interface trusts too: every SAE can pass for KME ${anonymous.join(", ")}; ` +
      "give KMEs a CA of their own, or write https_client_certificate_serial for each of them in other_kmes",
  );
}

function listed(what: string, ids: readonly string[]): string {
  return ids.length === 0
    ? "there is none"
    : `${what} ${ids.slice(0, 10).join(", ")}${ids.length > 10 ? ", ..." : ""}`;
}
