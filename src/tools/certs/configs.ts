/** Configuration files of the KMEs of a network, and what the certificate tool prints of them. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { formatHostPort } from "../../domain/address.ts";
import type { ConfiguredId } from "../../domain/ids.ts";
import { isThere, readTextIfThere, writeFiles } from "./files.ts";
import { configName, databaseName, keyDirectoryName, storeKeyName } from "./layout.ts";
import type { MadeCa, MadeCertificate, MadeClient, MadeKme } from "./made.ts";
import { firstHop, neighboursOf } from "./network_file.ts";
import type { Network, NetworkInterface, NetworkKme } from "./network_file.ts";

interface MadeConfigs {
  /** Configuration file by KME id. */
  readonly paths: ReadonlyMap<string, string>;
  readonly written: readonly string[];
  readonly warnings: readonly string[];
}

/**
 * Writes `config_kme1.json5` and so on into the directory, with paths that begin as `out` does, a master key for the stored keys
 * beside each, and creates the key directories. An existing file is never changed.
 */
export async function makeConfigs(
  network: Network,
  made: ReadonlyMap<string, MadeKme>,
  out: string,
): Promise<MadeConfigs> {
  const paths = new Map<string, string>();
  const written: string[] = [];
  const warnings: string[] = [];
  for (const kme of network.kmes) {
    const id = kme.id.text;
    if (!made.has(id)) continue;
    for (const other of [id, ...neighboursOf(network, id)]) {
      await Deno.mkdir(join(out, ...keyDirectoryName(id, other).split("/")), { recursive: true });
    }
    const path = join(out, configName(id));
    const there = await readTextIfThere(path);
    const keyPath = join(out, storeKeyName(id));
    const hasKey = await isThere(keyPath);
    // A configuration of before has no encryption, and is not to be changed.
    const content = configText(network, kme, made, out, there === undefined || hasKey ? keyPath : undefined);
    if (there === undefined) {
      const key = { path: keyPath, content: `${randomBytes(32).toString("hex")}\n`, private: true };
      // It holds the password of the PKCS#12 file.
      const files = [...hasKey ? [] : [key], { path, content, private: true }];
      await writeFiles(files);
      written.push(...files.map((file) => file.path));
    } else if (there !== content) {
      warnings.push(
        `${path} was not changed, but it differs from what the network file and the certificates give now`,
      );
    }
    paths.set(id, path);
  }
  return { paths, written, warnings };
}

/** JSON5 of a KME's configuration. */
function configText(
  network: Network,
  kme: NetworkKme,
  made: ReadonlyMap<string, MadeKme>,
  out: string,
  storeKey: string | undefined,
): string {
  const id = kme.id.text;
  const own = made.get(id)!;
  const directory = (other: string) => text(join(out, ...keyDirectoryName(id, other).split("/")));
  const optional = (member: string, value: string | undefined, indentation = "    ") =>
    value === undefined ? [] : [`${indentation}${member}: ${text(value)},`];
  const others = network.kmes.filter((other) => other.id.text !== id);
  return [
    "{",
    "  this_kme: {",
    `    id: ${idText(kme.id)},`,
    ...optional("nickname", kme.nickname),
    `    db_uri: ${text(kme.databaseUri ?? `sqlite://${join(out, databaseName(id))}`)},`,
    ...storeKey === undefined ? [] : [`    store_encryption: { key_file: ${text(storeKey)} },`],
    `    delete_key_file_after_read: ${kme.deleteKeyFileAfterRead},`,
    `    key_directory_to_watch: ${directory(id)},`,
    ...listener("saes_https_interface", kme.saesInterface, own.saesCa, own.saesServer),
    ...listener("kmes_https_interface", kme.kmesInterface, own.kmesCa, own.kmesServer),
    ...kme.skipPort === undefined ? [] : listener(
      "skip_https_interface",
      { ...kme.saesInterface, port: kme.skipPort },
      own.saesCa,
      own.saesServer,
    ),
    ...optional("debugging_http_interface", kme.debuggingHttpInterface),
    "  },",
    "  other_kmes: [",
    ...others.flatMap((other) => {
      const hop = firstHop(network, id, other.id.text);
      if (hop !== other.id.text) {
        const through = network.kmes.find((kme) => kme.id.text === hop)!;
        return [`    { id: ${idText(other.id)}, reached_through: ${idText(through.id)} },`];
      }
      const peer = made.get(other.id.text)!;
      return [
        "    {",
        `      id: ${idText(other.id)},`,
        `      key_directory_to_watch: ${directory(other.id.text)},`,
        `      inter_kme_bind_address: ${
          text(formatHostPort({ hostname: other.kmesInterface.hosts[0]!, port: other.kmesInterface.port }))
        },`,
        `      https_client_authentication_certificate: ${text(peer.callers.get(id)!.pfx)},`,
        `      https_client_authentication_certificate_password: ${text(network.pfxPassword)},`,
        `      inter_kme_ca_cert_path: ${text(peer.kmesCa.crt)},`,
        ...optional("inter_kme_crl_path", peer.kmesCa.crl, "      "),
        `      ${certificatesText(own.callers.get(other.id.text)!)},`,
        "    },",
      ];
    }),
    "  ],",
    "  saes: [",
    ...saeLines(network, id, made).map(({ line }) => `    ${line}`),
    "  ],",
    "}",
    "",
  ].join("\n");
}

/** Lines of a listener of a KME's configuration. */
function listener(
  member: string,
  { listen, port }: NetworkInterface,
  ca: MadeCa,
  server: MadeCertificate,
): string[] {
  return [
    `    ${member}: {`,
    `      listen_address: ${text(formatHostPort({ hostname: listen, port }))},`,
    `      ca_client_cert_path: ${text(ca.crt)},`,
    ...ca.crl === undefined ? [] : [`      client_crl_path: ${text(ca.crl)},`],
    `      server_cert_path: ${text(server.crt)},`,
    `      server_key_path: ${text(server.key)},`,
    "    },",
  ];
}

/** Elements of the member `saes` of a KME's configuration, with the certificates of its own SAEs. */
function saeLines(
  network: Network,
  id: string,
  made: ReadonlyMap<string, MadeKme>,
): { line: string; client?: MadeClient }[] {
  return network.kmes.flatMap((kme) =>
    kme.saes.map((sae) => {
      const client = kme.id.text === id ? made.get(id)?.saes.get(sae.id.text) : undefined;
      const ending = client === undefined ? "" : `, ${certificatesText(client)}`;
      return { line: `{ id: ${idText(sae.id)}, kme_id: ${idText(kme.id)}${ending} },`, client };
    })
  );
}

/** Names of all clients' certificates as entries of each KME's configuration, with the serials as comments. */
export function entriesText(network: Network, made: ReadonlyMap<string, MadeKme>): string {
  return network.kmes.flatMap(({ id: { text: id } }) => [
    `// Configuration of KME ${id}`,
    "saes: [",
    ...saeLines(network, id, made).map(({ line, client }) =>
      client === undefined ? `  ${line}` : `  ${line} // ${serialText(client)}`
    ),
    "],",
    ...Array.from(
      made.get(id)?.callers ?? [],
      ([caller, client]) =>
        `// other_kmes, KME ${caller}: ${certificatesText(client)}, // ${serialText(client)}`,
    ),
    "",
  ]).join("\n").trimEnd();
}

/** The member by which a certificate is known. Its name is that of a renewed certificate too. */
function certificatesText({ commonName }: MadeClient): string {
  return `certificates: [{ subject_cn: ${text(commonName)} }]`;
}

/** JSON5 of a serial, as it can be written as `https_client_certificate_serial` instead. */
function serialText({ serial }: MadeClient): string {
  return `serial [${serial.join(", ")}]`;
}

function idText(id: ConfiguredId): string {
  return id.integer ? id.text : text(id.text);
}

function text(value: string): string {
  return JSON.stringify(value);
}
