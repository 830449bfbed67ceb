/** Checks that the neighbours can be reached, know this KME, and have the same SAEs configured. */
import type { X509Certificate } from "node:crypto";
import type { Config, NeighbourKme } from "../config/config.ts";
import { directionConflict, type ToldDirection } from "../domain/device_direction.ts";
import { isNeighbour } from "../domain/network.ts";
import { directionOf } from "../ingest/link_device.ts";
import { helloAnswerSchema, parseMessage, problemSchema, PROTOCOL } from "../inter_kme/wire.ts";
import { clientCertificates } from "./certificate_checks.ts";
import { type CheckLine, environmentError, ok, warn } from "./check_line.ts";
import { type Probe, probePeer } from "./peer_probe.ts";
import { formatHostPort } from "../domain/address.ts";
import { toOneLine } from "../domain/text.ts";

const DAY_MS = 86_400_000;

/** Milliseconds by which two clocks may differ without a warning. */
const SKEW_MS = 5000;

export async function checkPeers(config: Config): Promise<CheckLine[]> {
  const lines = await Promise.all(config.otherKmes.map(async (kme) => {
    if (isNeighbour(kme)) return checkAnswer(config, kme, await probePeer(kme, config.thisKme));
    return [
      ok(`KME ${kme.id.text}`, `reached through KME ${kme.reachedThrough}; only neighbours are called`),
    ];
  }));
  return lines.flat();
}

/** Judges what a neighbour answered; pure but for the clock. */
export function checkAnswer(config: Config, kme: NeighbourKme, probe: Probe, now = Date.now()): CheckLine[] {
  const what = `KME ${kme.id.text}`;
  const address = formatHostPort(kme.address);
  if (probe.kind === "unreached") {
    return [environmentError(what, `${address} cannot be reached: ${probe.reason}`, remedy(probe.reason))];
  }
  const lines = [expiryOf(what, probe.server, now)];
  if (probe.kind === "refused") {
    lines.push(environmentError(
      what,
      `${address} does not accept this KME's certificate: ${probe.reason}`,
      `put the CA of the certificate into ca_client_cert_path of KME ${kme.id.text}, or use a certificate that its CA issued`,
    ));
    return lines;
  }
  const problem = probe.status === 401 ? parseMessage(problemSchema, probe.body) : undefined;
  if (problem !== undefined) {
    lines.push(environmentError(
      what,
      `${address} does not accept this KME's certificate: ${toOneLine(problem.message)}`,
      `put the CA of the certificate into ca_client_cert_path of KME ${kme.id.text}, or use a certificate that its CA issued`,
    ));
    return lines;
  }
  if (probe.clockAhead !== undefined) lines.push(skewOf(what, probe.clockAhead));
  const hello = probe.status === 200 ? parseMessage(helloAnswerSchema, probe.body) : undefined;
  if (hello !== undefined) {
    if (hello.KME_ID !== kme.id.text) {
      lines.push(environmentError(
        what,
        `${address} answers as KME ${hello.KME_ID}`,
        "correct id or inter_kme_bind_address in other_kmes",
      ));
      return lines;
    }
    lines.push(ok(what, `${address} answers and knows this KME as KME ${config.thisKme.id.text}`));
    if (hello.protocol !== PROTOCOL) {
      lines.push(warn(
        what,
        `it uses version ${hello.protocol} of the inter-KME messages, this program version ${PROTOCOL}`,
        "update the older of the two programs",
      ));
    }
    lines.push(...compareSaes(config, kme.id.text, hello.SAE_IDs, hello.sender_SAE_IDs));
    if (hello.device_direction !== undefined) {
      lines.push(...compareDirections(config, kme, hello.device_direction));
    }
  } else if (probe.status === 404 && parseMessage(problemSchema, probe.body) === undefined) {
    lines.push(ok(
      what,
      `${address} answers, but only supports keys of 256 bits for one slave (like qkd_kme_server); its SAEs cannot be compared`,
    ));
  } else if (probe.status === 400) {
    const [certificate] = clientCertificates(kme.clientCertificate);
    lines.push(environmentError(
      what,
      `${address} does not know this KME as KME ${config.thisKme.id.text}`,
      `in other_kmes of KME ${kme.id.text}: check the id ${config.thisKme.id.text} and its certificates; this one has the ` +
        `serial number 0x${certificate!.serial.toString(16)} and the fingerprint_sha256 ` +
        certificate!.fingerprint,
    ));
  } else {
    lines.push(
      environmentError(what, `${address} answers with status ${probe.status}`, "see the log of that KME"),
    );
  }
  return lines;
}

/** Whether both ends agree on which of them requests keys from its QKD device. */
function compareDirections({ thisKme }: Config, kme: NeighbourKme, theirs: ToldDirection): CheckLine[] {
  const other = `KME ${kme.id.text}`;
  const what = `${other}: QKD device`;
  if (kme.device === undefined) {
    if (theirs === "none") return [];
    return [warn(
      what,
      `${other} has a key_source for the link with this KME, which has none`,
      "write a key_source here too, or remove it there",
    )];
  }
  const own = directionOf(kme.device, thisKme, kme);
  const conflict = directionConflict(own, theirs, kme.id.text);
  if (conflict !== undefined) {
    return [(conflict.stopsKeys ? environmentError : warn)(what, conflict.message, conflict.fix)];
  }
  const requests = own === "both" ? "both ends request" : `${own === "this" ? "this KME" : other} requests`;
  return [ok(what, `both have a key_source, and ${requests} keys`)];
}

/** An SAE that one side does not have, or has under another KME, gets no keys. */
function compareSaes(
  { thisKme, saes }: Config,
  kme: string,
  theirs: readonly string[],
  ours: readonly string[] | undefined,
): CheckLine[] {
  const what = `KME ${kme}: SAEs`;
  const idsOf = (owner: string) => saes.filter((sae) => sae.kmeId === owner).map((sae) => sae.id.text);
  const lines: CheckLine[] = [];
  const report = (ids: string[], fails: boolean, detail: (list: string) => string, fix: string) => {
    if (ids.length > 0) lines.push((fails ? environmentError : warn)(what, detail(listed(ids)), fix));
  };
  report(
    without(idsOf(kme), theirs),
    true,
    (list) => `${list} configured here as of KME ${kme}, which does not have it`,
    "correct id or kme_id in saes, here or there",
  );
  report(
    without(theirs, idsOf(kme)),
    false,
    (list) => `${list} of KME ${kme} not configured here`,
    `add { id: ..., kme_id: ${kme} } to saes if SAEs here need keys with it`,
  );
  if (ours !== undefined) {
    report(
      without(idsOf(thisKme.id.text), ours),
      false,
      (list) => `${list} of this KME not configured at KME ${kme}`,
      `add { id: ..., kme_id: ${thisKme.id.text} } to saes there if it needs keys with SAEs there`,
    );
    report(
      without(ours, idsOf(thisKme.id.text)),
      false,
      (list) => `${list} configured at KME ${kme} as of this KME, which does not have it`,
      "correct id or kme_id in saes, here or there",
    );
  }
  return lines.length > 0 ? lines : [ok(
    what,
    ours === undefined
      ? `it has the ${theirs.length} that are configured here`
      : `both have the same ${theirs.length + ours.length}`,
  )];
}

function without(ids: readonly string[], others: readonly string[]): string[] {
  const set = new Set(others);
  return ids.filter((id) => !set.has(id));
}

function listed(ids: readonly string[]): string {
  const shown = ids.slice(0, 10).join(", ");
  return `SAE ${shown}${ids.length > 10 ? ` and ${ids.length - 10} more` : ""}`;
}

function expiryOf(kme: string, server: X509Certificate, now: number): CheckLine {
  const what = `${kme}: certificate`;
  const end = new Date(server.validTo);
  const days = Math.floor((end.getTime() - now) / DAY_MS);
  const text = `its server certificate is trusted and valid until ${end.toISOString().slice(0, 10)}`;
  return days >= 30
    ? ok(what, text)
    : warn(what, `${text}, in ${days} day${days === 1 ? "" : "s"}`, `ask the operator of ${kme} to renew it`);
}

function skewOf(kme: string, ahead: number): CheckLine {
  const what = `${kme}: clock`;
  const seconds = Math.round(Math.abs(ahead) / 1000);
  if (Math.abs(ahead) <= SKEW_MS) return ok(what, "agrees with this machine's clock to a few seconds");
  return warn(
    what,
    `it is ${seconds} s ${ahead > 0 ? "ahead of" : "behind"} this machine's clock`,
    "synchronize both clocks with NTP or PTP",
  );
}

/** Matches messages of OpenSSL, rustls and the operating system. */
function remedy(reason: string): string {
  if (/altname|not valid for name|NotValidForName|is not for (?!TLS)/i.test(reason)) {
    return "write a name of its certificate in inter_kme_bind_address, or issue a certificate with this name";
  }
  if (/issuer|self.?signed|unknown ?ca|unable to verify|UnknownIssuer|not trusted/i.test(reason)) {
    return "put the CA that issued its server certificate into inter_kme_ca_cert_path";
  }
  if (/expired/i.test(reason)) return "renew its server certificate";
  if (/refused/.test(reason)) return "start that KME, or correct inter_kme_bind_address";
  if (/host name/.test(reason)) return "correct the host in inter_kme_bind_address, or fix DNS";
  return "check that that KME runs, and the network and firewalls between the two";
}
