/** Makes the configuration from the parsed file and the loaded files. */
import type { AuditLog, Config, DeviceSource, HttpsInterface, OtherKme } from "./config.ts";
import type { Identities } from "./identities.ts";
import type { LoadedDevice, LoadedInterface, LoadedKme, ReferencedFiles } from "./referenced_files.ts";
import type { ConfigFile } from "./file_schema.ts";
import type { Part } from "./partial_config.ts";
import type { Sae, SaeLimits } from "../domain/network.ts";

/** @param content a file without mistakes. */
export function assemble(
  file: string,
  content: ConfigFile,
  files: ReferencedFiles,
  identities: Identities,
): Config {
  const { this_kme: thisKme, other_kmes: otherKmes, saes } = content;
  return {
    file,
    thisKme: {
      id: thisKme.id,
      nickname: thisKme.nickname ?? `KME ${thisKme.id.text}`,
      database: files.database!,
      storeEncryption: files.storeEncryption,
      deleteKeyFileAfterRead: thisKme.delete_key_file_after_read,
      keyFileQuietSeconds: thisKme.key_file_quiet_seconds,
      keyFileHealth: thisKme.key_file_health,
      reingestServedFiles: thisKme.reingest_served_files,
      keyDirectory: files.keyDirectory!,
      saesInterface: httpsInterface(thisKme.saes_https_interface, files.saesInterface),
      kmesInterface: httpsInterface(thisKme.kmes_https_interface, files.kmesInterface),
      skipInterface: thisKme.skip_https_interface &&
        httpsInterface(thisKme.skip_https_interface, files.skipInterface),
      consoleInterface: thisKme.debugging_http_interface,
      maxKeyPerRequest: thisKme.max_key_per_request,
      maxKeyCount: thisKme.max_key_count,
      keyLifetimeSeconds: thisKme.key_lifetime_seconds,
      answerRepeatSeconds: thisKme.answer_repeat_seconds,
      maxSaeIdCount: thisKme.max_SAE_ID_count,
      minKeySize: thisKme.min_key_size,
      maxKeySize: thisKme.max_key_size,
      interKmeTimeoutSeconds: thisKme.inter_kme_timeout_seconds,
      tlsMinVersion: thisKme.tls_min_version,
      neighbourProbeSeconds: thisKme.neighbour_probe_seconds,
      leaseSeconds: thisKme.lease_seconds,
      reserveShares: (thisKme.reserve_share ?? []).map(({ kme, share, saes }) => ({
        kme: kme.text,
        share,
        saes: saes.map((sae) => sae.text),
      })),
      auditLog: thisKme.audit_log && auditLog(thisKme.audit_log, files.auditDirectory!),
    },
    otherKmes: otherKmes.map((kme, index) =>
      otherKme(kme, files.otherKmes[index]!, identities.otherKmes[index]!)
    ),
    saes: saes.map((sae, index) => ({
      id: sae.id,
      kmeId: sae.kme_id.text,
      certificates: identities.saes[index]!,
      ...limitsOf(sae),
    })),
  };
}

function auditLog(
  file: NonNullable<ConfigFile["this_kme"]["audit_log"]>,
  directory: string,
): AuditLog {
  return {
    directory,
    rotateBytes: file.rotate_mib * 1024 * 1024,
    keepMs: file.keep_days === undefined ? undefined : file.keep_days * 24 * 3600 * 1000,
  };
}

/** The limits of an SAE, if it has any. */
export function limitsOf(sae: Part<ConfigFile["saes"][number]>): Pick<Sae, "limits"> {
  const limits: SaeLimits = {
    ...sae.may_reach === undefined
      ? {}
      : { mayReach: sae.may_reach.flatMap((id) => id === undefined ? [] : id.text) },
    ...sae.max_bits_per_second === undefined ? {} : { maxBitsPerSecond: sae.max_bits_per_second },
    ...sae.max_waiting_keys === undefined ? {} : { maxWaitingKeys: sae.max_waiting_keys },
  };
  return Object.keys(limits).length === 0 ? {} : { limits };
}

function httpsInterface(
  file: ConfigFile["this_kme"]["saes_https_interface"],
  loaded: LoadedInterface,
): HttpsInterface {
  return {
    listen: file.listen_address,
    clientCa: loaded.clientCa!,
    serverCert: loaded.serverCert!,
    serverKey: loaded.serverKey!,
    clientCrl: loaded.clientCrl,
  };
}

function otherKme(
  file: ConfigFile["other_kmes"][number],
  loaded: LoadedKme,
  certificates: NonNullable<Identities["otherKmes"][number]>,
): OtherKme {
  // `isNeighbour` tests for this member.
  if (file.reached_through !== undefined) return { id: file.id, reachedThrough: file.reached_through.text };
  return {
    id: file.id,
    keyDirectory: loaded.keyDirectory,
    device: file.key_source && device(file.key_source, loaded.device!),
    address: file.inter_kme_bind_address!,
    ignoreSystemProxySettings: file.ignore_system_proxy_settings,
    clientCertificate: loaded.clientCertificate!,
    serverCa: loaded.serverCa,
    serverCrl: loaded.serverCrl,
    certificates: certificates === "any" ? undefined : certificates,
  };
}

function device(
  file: NonNullable<ConfigFile["other_kmes"][number]["key_source"]>,
  loaded: LoadedDevice,
): DeviceSource {
  return {
    kind: file.kind,
    url: file.url,
    clientCertificate: loaded.clientCertificate!,
    serverCa: loaded.serverCa,
    serverCrl: loaded.serverCrl,
    localSae: file.local_SAE_id,
    remoteSae: file.remote_SAE_id,
    keySize: file.key_size,
    keysPerRequest: file.keys_per_request,
    targetStock: file.target_stock,
    lowStock: file.low_stock ?? Math.ceil(file.target_stock / 2),
    pollSeconds: file.poll_seconds,
    direction: file.direction,
  };
}
