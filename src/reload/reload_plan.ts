/** Decides what of a changed configuration a running KME applies, and what needs a restart. Pure. */
import type { Config, DeviceSource, OtherKme, ThisKme } from "../config/config.ts";
import { HTTPS_INTERFACE_NAMES, HTTPS_INTERFACES, httpsInterfacesOf } from "../config/https_interfaces.ts";
import { isNeighbour } from "../domain/network.ts";

export interface ReloadPlan {
  /** The running configuration with the changes that apply now: certificates, SAEs, shares of the stock. */
  readonly config: Config;
  /** Changes that need a restart, a line each. */
  readonly ignored: readonly string[];
}

/** Members that need a restart, with their names in the file. */
const FIXED: readonly (readonly [keyof ThisKme, string])[] = [
  ["nickname", "nickname"],
  ["database", "db_uri"],
  ["storeEncryption", "store_encryption"],
  ["deleteKeyFileAfterRead", "delete_key_file_after_read"],
  ["keyFileQuietSeconds", "key_file_quiet_seconds"],
  ["keyFileHealth", "key_file_health"],
  ["reingestServedFiles", "reingest_served_files"],
  ["keyDirectory", "key_directory_to_watch"],
  ["consoleInterface", "debugging_http_interface"],
  ["maxKeyPerRequest", "max_key_per_request"],
  ["maxKeyCount", "max_key_count"],
  ["keyLifetimeSeconds", "key_lifetime_seconds"],
  ["answerRepeatSeconds", "answer_repeat_seconds"],
  ["maxSaeIdCount", "max_SAE_ID_count"],
  ["minKeySize", "min_key_size"],
  ["maxKeySize", "max_key_size"],
  ["interKmeTimeoutSeconds", "inter_kme_timeout_seconds"],
  ["tlsMinVersion", "tls_min_version"],
  ["neighbourProbeSeconds", "neighbour_probe_seconds"],
  ["leaseSeconds", "lease_seconds"],
  ["auditLog", "audit_log"],
];

/**
 * @param running what the KME runs with.
 * @param wanted what the file says now.
 */
export function planReload(running: Config, wanted: Config): ReloadPlan {
  const ignored: string[] = [];
  if (!same(running.thisKme.id, wanted.thisKme.id)) {
    return { config: running, ignored: ["this_kme.id, and so the whole file"] };
  }
  const thisKme = planThisKme(running.thisKme, wanted.thisKme, ignored);
  const otherKmes = running.otherKmes.map((kme) => planOtherKme(kme, wanted.otherKmes, ignored));
  for (const kme of wanted.otherKmes) {
    if (!running.otherKmes.some((known) => known.id.text === kme.id.text)) {
      ignored.push(`KME ${kme.id.text} was added to other_kmes`);
    }
  }
  const known = new Set([thisKme.id.text, ...otherKmes.map((kme) => kme.id.text)]);
  const saes = wanted.saes.filter((sae) => known.has(sae.kmeId));
  for (const sae of wanted.saes) {
    if (!known.has(sae.kmeId)) ignored.push(`SAE ${sae.id.text} of KME ${sae.kmeId}, which was added`);
  }
  return { config: { ...running, thisKme, otherKmes, saes }, ignored };
}

function planThisKme(running: ThisKme, wanted: ThisKme, ignored: string[]): ThisKme {
  for (const [name, member] of FIXED) {
    if (!same(running[name], wanted[name])) ignored.push(`this_kme.${member}`);
  }
  for (const name of HTTPS_INTERFACE_NAMES) {
    if ((running[name] === undefined) !== (wanted[name] === undefined)) {
      ignored.push(`this_kme.${HTTPS_INTERFACES[name]}`);
    }
  }
  const interfaces = httpsInterfacesOf(running).flatMap(
    ({ name, member, material: { listen, clientCrl } }) => {
      const changed = wanted[name];
      if (changed === undefined) return [];
      if (!same(listen, changed.listen)) ignored.push(`${member}.listen_address`);
      if (clientCrl !== changed.clientCrl) ignored.push(`${member}.client_crl_path`);
      return [[name, { ...changed, listen, clientCrl }] as const];
    },
  );
  return { ...running, ...Object.fromEntries(interfaces), reserveShares: wanted.reserveShares };
}

function planOtherKme(running: OtherKme, all: readonly OtherKme[], ignored: string[]): OtherKme {
  const kme = `KME ${running.id.text}`;
  const wanted = all.find(({ id }) => id.text === running.id.text);
  if (wanted === undefined) {
    ignored.push(
      `${kme} was removed from other_kmes${isNeighbour(running) ? "; it may not call any more" : ""}`,
    );
    return withoutAccess(running);
  }
  if (!isNeighbour(running) || !isNeighbour(wanted)) {
    if (!same(running, wanted)) ignored.push(`the route to ${kme}`);
    return isNeighbour(wanted) ? running : withoutAccess(running);
  }
  const { clientCertificate, serverCa, certificates, device, ...link } = wanted;
  const {
    clientCertificate: _certificate,
    serverCa: _ca,
    certificates: _certificates,
    device: runningDevice,
    ...runningLink
  } = running;
  const plannedDevice = planDevice(runningDevice, device);
  if (!same(link, runningLink) || !same(device, plannedDevice)) {
    ignored.push(`the link with ${kme} (its id, directory, QKD device, address, proxy or CRL file)`);
  }
  return { ...runningLink, device: plannedDevice, clientCertificate, serverCa, certificates };
}

/** The device with the certificates that are wanted now. */
function planDevice(
  running: DeviceSource | undefined,
  wanted: DeviceSource | undefined,
): DeviceSource | undefined {
  if (running === undefined || wanted === undefined) return running;
  const { clientCertificate, serverCa } = wanted;
  return { ...running, clientCertificate, serverCa };
}

/** No certificate identifies the KME any more; the link itself stays until the next start. */
export function withoutAccess(kme: OtherKme): OtherKme {
  return isNeighbour(kme) ? { ...kme, certificates: [] } : kme;
}

/** Whether two parts of configurations are equal. */
export function same(a: unknown, b: unknown): boolean {
  const plain = (_: string, value: unknown) => typeof value === "bigint" ? `${value}n` : value;
  return JSON.stringify(a, plain) === JSON.stringify(b, plain);
}
