/**
 * Where the certificates of a network are below its directory, without file name extension:
 *
 *     kme-1-local-zone/ca            CA of KME 1 for its SAEs
 *     kme-1-local-zone/kme_server    server certificate of KME 1 for its SAEs
 *     kme-1-local-zone/client_1      client certificate of SAE 1
 *     inter_kmes/ca_kme1             CA of KME 1 for other KMEs
 *     inter_kmes/kme1_server         server certificate of KME 1 for other KMEs
 *     inter_kmes/kme2-to-kme1        client certificate with which KME 2 calls KME 1
 *
 * Names have `/` between their parts on every system.
 */
import type { ConfiguredId } from "../../domain/ids.ts";

interface NamedKme {
  readonly id: ConfiguredId;
  readonly saes: readonly { readonly name: string }[];
}

export function saesCaName(kmeId: string): string {
  return `kme-${fileName(kmeId)}-local-zone/ca`;
}

export function saesServerName(kmeId: string): string {
  return `kme-${fileName(kmeId)}-local-zone/kme_server`;
}

/** @param name The SAE's name in the network. */
export function saeName(kmeId: string, name: string): string {
  return `kme-${fileName(kmeId)}-local-zone/${fileName(name)}`;
}

export function kmesCaName(kmeId: string): string {
  return `inter_kmes/ca_kme${fileName(kmeId)}`;
}

export function kmesServerName(kmeId: string): string {
  return `inter_kmes/kme${fileName(kmeId)}_server`;
}

export function callerName(callerId: string, calledId: string): string {
  return `inter_kmes/kme${fileName(callerId)}-to-kme${fileName(calledId)}`;
}

/** Directory of the keys that a KME shares with another one, or with its own SAEs. */
export function keyDirectoryName(kmeId: string, otherId: string): string {
  return `raw_keys/kme-${fileName(kmeId)}-${fileName(otherId)}`;
}

export function configName(kmeId: string): string {
  return `config_kme${fileName(kmeId)}.json5`;
}

export function databaseName(kmeId: string): string {
  return `kme${fileName(kmeId)}.db`;
}

/** The master key of the stored keys. */
export function storeKeyName(kmeId: string): string {
  return `store_kme${fileName(kmeId)}.key`;
}

/** All names that a network with these KMEs can have, with the member of the network file they come from. */
export function allNames(kmes: readonly NamedKme[]): { name: string; member: string }[] {
  return kmes.flatMap((kme, k) => {
    const kmeId = kme.id.text;
    const ofKme = [saesCaName(kmeId), saesServerName(kmeId), kmesCaName(kmeId), kmesServerName(kmeId)].map((
      name,
    ) => ({
      name,
      member: `kmes[${k}].id`,
    }));
    const ofSaes = kme.saes.map((sae, s) => ({
      name: saeName(kmeId, sae.name),
      member: `kmes[${k}].saes[${s}].name`,
    }));
    const ofCallers = kmes.filter((caller) => caller.id.text !== kmeId).map((caller) => ({
      name: callerName(caller.id.text, kmeId),
      member: `kmes[${k}].id`,
    }));
    const ofKeys = kmes.map((other) => ({
      name: keyDirectoryName(kmeId, other.id.text),
      member: `kmes[${k}].id`,
    }));
    return [...ofKme, ...ofSaes, ...ofCallers, ...ofKeys];
  });
}

/** An id as a file name on every system; what is not plain is percent-encoded. */
function fileName(text: string): string {
  const encode = (byte: number) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  return text.replaceAll(
    /[^A-Za-z0-9._-]/gu,
    (character) => Array.from(new TextEncoder().encode(character), encode).join(""),
  );
}
