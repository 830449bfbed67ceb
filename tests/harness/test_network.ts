/** A QKD network for tests: certificates, key directories and configuration files of several KMEs on loopback. */
import { blockKeyId, formatKeyId } from "../../src/domain/block.ts";
import { freePorts } from "./free_port.ts";
import { type KmeOptions, type KmeProcess, startKme } from "./kme_process.ts";
import { SaeClient, type SaeClientOptions } from "./sae_client.ts";
import { makeTempDir } from "./temp_dir.ts";
import {
  type IssuedCertificate,
  type IssueOptions,
  makeTestCa,
  serialBytes,
  type TestCa,
} from "./test_certificates.ts";

/**
 * Id of a KME or SAE: written to the configuration as an integer or as a string, as it is here. A bigint beyond 2^53 is
 * written with all its digits, which a KME refuses; a string of digits is accepted.
 */
export type TestId = number | bigint | string;

export interface SaeSpec {
  id: TestId;
  /** Serial of its certificate; random by default. */
  serialHex?: string;
  /** What the configuration says in place of the serial's bytes. */
  configuredSerial?: string | number[];
}

export interface KmeSpec {
  id: TestId;
  nickname?: string;
  /** A `db_uri`; `sqlite` stands for a file in the KME's directory. `:memory:` by default. */
  database?: string;
  saes?: (TestId | SaeSpec)[];
  /** More members of `this_kme`, or others in place of those the harness chose. */
  options?: Record<string, unknown>;
  /** Gives it a web console. */
  console?: boolean;
  /** Gives it a SKIP interface, with the CA of its SAEs. */
  skip?: boolean;
}

/** A KME without a link to `other`, which it reaches through its neighbour `through`. */
export interface Route {
  kme: TestId;
  other: TestId;
  through: TestId;
}

export interface NetworkSpec {
  kmes: KmeSpec[];
  /** Pairs that share keys; all pairs by default. */
  links?: [TestId, TestId][];
  /** Routes; each direction is given by itself. */
  reachedThrough?: Route[];
  /** Form of the certificates with which KMEs call each other; `pfx` by default. */
  clientCertificates?: "pfx" | "pem";
  /** Whether a KME knows the serial with which another calls it; true by default. */
  callerSerials?: boolean;
  /** Last change to each configuration before it is written. */
  edit?: (config: ConfigFile, id: string) => void;
}

/** Content of a configuration file; tests may make it invalid. */
export interface ConfigFile {
  // deno-lint-ignore no-explicit-any
  this_kme: Record<string, any>;
  // deno-lint-ignore no-explicit-any
  other_kmes: Record<string, any>[];
  // deno-lint-ignore no-explicit-any
  saes: Record<string, any>[];
}

export interface TestSae extends IssuedCertificate {
  readonly id: string;
  readonly kmeId: string;
}

export interface TestKme {
  readonly id: string;
  readonly directory: string;
  readonly configPath: string;
  /** What the file holds; {@linkcode TestNetwork.writeConfig} writes it again. */
  readonly config: ConfigFile;
  readonly saesPort: number;
  readonly kmesPort: number;
  /** 0 without a console. */
  readonly consolePort: number;
  /** 0 without a SKIP interface. */
  readonly skipPort: number;
  /** Directory of the link with each neighbour, by its id, and by the KME's own id that for its own SAEs. */
  readonly keyDirectories: ReadonlyMap<string, string>;
  /** CA of its SAEs and of the server that they call. */
  readonly zoneCa: TestCa;
  /** The certificate with which it calls other KMEs. */
  readonly interKmeClient: IssuedCertificate;
}

export interface WriteKeyFileOptions {
  /** File name; a fresh one by default. */
  name?: string;
}

export interface TestNetwork extends AsyncDisposable {
  readonly directory: string;
  /** CA between the KMEs. */
  readonly interKmeCa: TestCa;
  kme(id: TestId): TestKme;
  sae(id: TestId): TestSae;
  /** Path of the directory at `kme` for keys shared with `other`. */
  keyDirectory(kme: TestId, other: TestId): string;
  /** A client with the SAE's certificate, or with another of the same zone; closed by `remove`. */
  client(sae: TestId, options?: Partial<SaeClientOptions>): SaeClient;
  /** A certificate of the KME's zone that belongs to no configured SAE. */
  issueClient(kme: TestId, options?: IssueOptions): Promise<IssuedCertificate>;
  /**
   * Writes one `.cor` file into the directories at both ends of a link, complete when it appears; one KME given
   * twice means its own directory.
   *
   * @param content how many fresh random blocks, or the bytes themselves.
   * @returns key_IDs of the blocks, in their order.
   */
  writeKeyFile(
    a: TestId,
    b: TestId,
    content: number | Uint8Array,
    options?: WriteKeyFileOptions,
  ): Promise<string[]>;
  /** Changes a KME's configuration and writes the file again. */
  writeConfig(kme: TestId, edit: (config: ConfigFile) => void): Promise<void>;
  /** Writes the configuration of `from` again, so that it calls `to` at another port of the loopback interface. */
  redirect(from: TestId, to: TestId, port: number): Promise<void>;
  /** Starts a KME; `remove` kills it when it still runs. */
  start(kme: TestId, options?: KmeOptions): Promise<KmeProcess>;
  /** Starts all KMEs, in the order of the spec. */
  startAll(options?: KmeOptions): Promise<KmeProcess[]>;
  /** Kills what {@linkcode start} started, closes the clients, removes all files. */
  remove(): Promise<void>;
}

const PFX_PASSWORD = "for tests";

/** Makes all that the KMEs of a network need, and starts none. */
export async function makeTestNetwork(spec: NetworkSpec): Promise<TestNetwork> {
  const ids = spec.kmes.map((kme) => String(kme.id));
  const links = (spec.links ?? allPairs(ids)).map(([a, b]) => [String(a), String(b)] as const);
  const routes = (spec.reachedThrough ?? [])
    .map(({ kme, other, through }) => ({ kme: String(kme), other: String(other), through: String(through) }));
  checkNames(ids, [...links.flat(), ...routes.flatMap(({ kme, other, through }) => [kme, other, through])]);

  const temp = await makeTempDir("kme-net-");
  const interKmeCa = await makeTestCa("inter-KME CA");
  const ports = freePorts(4 * ids.length);
  const kmes = new Map<string, TestKme>();
  const saes = new Map<string, TestSae>();
  const saesOf = new Map<string, { spec: SaeSpec; sae: TestSae }[]>();

  for (const kmeSpec of spec.kmes) {
    const id = String(kmeSpec.id);
    const directory = `${temp.path}/kme-${kmes.size + 1}`;
    const zoneCa = await makeTestCa(`zone CA of KME ${id}`);
    const neighbours = links.filter((link) => link.includes(id)).map(([a, b]) => a === id ? b : a);
    const keyDirectories = new Map<string, string>();
    for (const [index, other] of [id, ...neighbours].entries()) {
      const path = `${directory}/keys-${index}`;
      await Deno.mkdir(path, { recursive: true });
      keyDirectories.set(other, path);
    }
    const owned = [];
    for (const each of kmeSpec.saes ?? []) {
      const saeSpec = typeof each === "object" ? each : { id: each };
      const saeId = String(saeSpec.id);
      const issued = await zoneCa.client({ commonName: `SAE ${saeId}`, serialHex: saeSpec.serialHex });
      const sae = { ...issued, id: saeId, kmeId: id };
      if (saes.has(saeId)) throw new Error(`SAE ${saeId} is in the spec twice`);
      saes.set(saeId, sae);
      owned.push({ spec: saeSpec, sae });
    }
    saesOf.set(id, owned);
    kmes.set(id, {
      id,
      directory,
      configPath: `${directory}/config.json5`,
      config: { this_kme: {}, other_kmes: [], saes: [] },
      saesPort: ports.pop()!,
      kmesPort: ports.pop()!,
      consolePort: kmeSpec.console ? ports.pop()! : 0,
      skipPort: kmeSpec.skip ? ports.pop()! : 0,
      keyDirectories,
      zoneCa,
      interKmeClient: await interKmeCa.client({ commonName: `KME ${id}` }),
    });
  }

  for (const kmeSpec of spec.kmes) {
    const kme = kmes.get(String(kmeSpec.id))!;
    await describeThisKme(kme, kmeSpec, interKmeCa);
    const known = new Set([kme.id]);
    for (const otherSpec of spec.kmes) {
      const other = kmes.get(String(otherSpec.id))!;
      if (other.id === kme.id) continue;
      const route = routes.find((route) => route.kme === kme.id && route.other === other.id);
      if (kme.keyDirectories.has(other.id)) {
        kme.config.other_kmes.push(await describeNeighbour(kme, other, otherSpec, spec));
      } else if (route !== undefined) {
        const through = spec.kmes.find(({ id }) => String(id) === route.through)!;
        kme.config.other_kmes.push({ id: otherSpec.id, reached_through: through.id });
      } else continue;
      known.add(other.id);
    }
    for (const otherSpec of spec.kmes) {
      if (!known.has(String(otherSpec.id))) continue;
      const own = String(otherSpec.id) === kme.id;
      for (const { spec: saeSpec, sae } of saesOf.get(String(otherSpec.id))!) {
        const serial = saeSpec.configuredSerial ?? serialBytes(sae.serialHex);
        kme.config.saes.push({
          id: saeSpec.id,
          kme_id: otherSpec.id,
          ...own ? { https_client_certificate_serial: serial } : {},
        });
      }
    }
    spec.edit?.(kme.config, kme.id);
    await writeConfigFile(kme);
  }

  const kme = (id: TestId) => found(kmes, "KME", id);
  const sae = (id: TestId) => found(saes, "SAE", id);
  const keyDirectory = (id: TestId, other: TestId) =>
    found(kme(id).keyDirectories, `key directory at KME ${id} for KME`, other);
  const clients: SaeClient[] = [];
  const processes: KmeProcess[] = [];
  let files = 0;

  const client = (id: TestId, options: Partial<SaeClientOptions> = {}) => {
    const { cert, key, ca, kmeId } = sae(id);
    const made = new SaeClient({ port: kme(kmeId).saesPort, cert, key, ca, ...options });
    clients.push(made);
    return made;
  };

  const writeKeyFile = async (
    a: TestId,
    b: TestId,
    content: number | Uint8Array,
    options: WriteKeyFileOptions = {},
  ) => {
    const bytes = typeof content === "number" ? randomBytes(32 * content) : content;
    files++;
    const name = options.name ?? `keys-${String(files).padStart(6, "0")}.cor`;
    for (const directory of new Set([keyDirectory(a, b), keyDirectory(b, a)])) {
      // Written outside the watched directory: the file comes into it in one step.
      const unfinished = `${temp.path}/unfinished-${files}`;
      await Deno.writeFile(unfinished, bytes, { mode: 0o600 });
      await Deno.rename(unfinished, `${directory}/${name}`);
    }
    return blocksOf(bytes).map((block) => formatKeyId(blockKeyId(block)));
  };

  const start = async (id: TestId, options?: KmeOptions) => {
    const process = await startKme(kme(id).configPath, options);
    processes.push(process);
    return process;
  };
  const startAll = async (options?: KmeOptions) => {
    const started = [];
    for (const id of ids) started.push(await start(id, options));
    return started;
  };

  const remove = async () => {
    for (const client of clients) client.close();
    await Promise.all(processes.map((process) => process.kill()));
    await temp.remove();
  };

  const writeConfig: TestNetwork["writeConfig"] = (id, edit) => {
    edit(kme(id).config);
    return writeConfigFile(kme(id));
  };

  return {
    directory: temp.path,
    interKmeCa,
    kme,
    sae,
    keyDirectory,
    client,
    issueClient: (id, options) => kme(id).zoneCa.client({ commonName: "no SAE", ...options }),
    writeKeyFile,
    writeConfig,
    redirect: (from, to, port) =>
      writeConfig(from, (config) => {
        config.other_kmes.find(({ id }) => String(id) === String(to))!.inter_kme_bind_address =
          `127.0.0.1:${port}`;
      }),
    start,
    startAll,
    remove,
    [Symbol.asyncDispose]: remove,
  };
}

async function describeThisKme(kme: TestKme, spec: KmeSpec, interKmeCa: TestCa): Promise<void> {
  const database = spec.database === "sqlite" ? `sqlite://${kme.directory}/kme.db` : spec.database;
  kme.config.this_kme = {
    id: spec.id,
    ...spec.nickname === undefined ? {} : { nickname: spec.nickname },
    db_uri: database ?? ":memory:",
    delete_key_file_after_read: true,
    // The harness renames complete files into the directory.
    key_file_quiet_seconds: 0,
    key_directory_to_watch: kme.keyDirectories.get(kme.id)!,
    saes_https_interface: await describeInterface(kme, "saes", kme.saesPort, kme.zoneCa),
    kmes_https_interface: await describeInterface(kme, "kmes", kme.kmesPort, interKmeCa),
    ...spec.skip
      ? { skip_https_interface: await describeInterface(kme, "skip", kme.skipPort, kme.zoneCa) }
      : {},
    ...spec.console ? { debugging_http_interface: `127.0.0.1:${kme.consolePort}` } : {},
    ...spec.options,
  };
}

async function describeInterface(kme: TestKme, name: string, port: number, ca: TestCa) {
  const server = await ca.server({ commonName: `KME ${kme.id}` });
  const paths = {
    ca_client_cert_path: `${kme.directory}/${name}-ca.pem`,
    server_cert_path: `${kme.directory}/${name}-server-cert.pem`,
    server_key_path: `${kme.directory}/${name}-server-key.pem`,
  };
  await Deno.writeTextFile(paths.ca_client_cert_path, ca.ca);
  await Deno.writeTextFile(paths.server_cert_path, server.cert);
  await Deno.writeTextFile(paths.server_key_path, server.key, { mode: 0o600 });
  return { listen_address: `127.0.0.1:${port}`, ...paths };
}

async function describeNeighbour(kme: TestKme, other: TestKme, otherSpec: KmeSpec, spec: NetworkSpec) {
  const format = spec.clientCertificates ?? "pfx";
  const path = `${kme.directory}/client.${format}`;
  const { cert, key } = kme.interKmeClient;
  const content = format === "pem"
    ? new TextEncoder().encode(cert + key)
    : await kme.interKmeClient.toPkcs12(PFX_PASSWORD);
  await Deno.writeFile(path, content, { mode: 0o600 });
  return {
    id: otherSpec.id,
    key_directory_to_watch: kme.keyDirectories.get(other.id)!,
    inter_kme_bind_address: `127.0.0.1:${other.kmesPort}`,
    // A proxy of this system cannot reach its loopback.
    ignore_system_proxy_settings: true,
    https_client_authentication_certificate: path,
    https_client_authentication_certificate_password: format === "pem" ? "" : PFX_PASSWORD,
    inter_kme_ca_cert_path: kme.config.this_kme.kmes_https_interface.ca_client_cert_path,
    ...spec.callerSerials === false
      ? {}
      : { https_client_certificate_serial: serialBytes(other.interKmeClient.serialHex) },
  };
}

/** Writes the file as JSON, which JSON5 holds; integers beyond 2^53 keep all their digits. */
async function writeConfigFile(kme: TestKme): Promise<void> {
  const { rawJSON } = JSON as unknown as { rawJSON(text: string): unknown };
  const exact = (_: string, value: unknown) => typeof value === "bigint" ? rawJSON(String(value)) : value;
  await Deno.writeTextFile(kme.configPath, JSON.stringify(kme.config, exact, 2));
}

function allPairs(ids: string[]): [string, string][] {
  return ids.flatMap((a, i) => ids.slice(i + 1).map((b): [string, string] => [a, b]));
}

function checkNames(ids: string[], named: string[]): void {
  if (new Set(ids).size !== ids.length) throw new Error("a KME is in the spec twice");
  const unknown = named.find((id) => !ids.includes(id));
  if (unknown !== undefined) throw new Error(`KME ${unknown} is not in the spec`);
}

function found<T>(map: ReadonlyMap<string, T>, what: string, id: TestId): T {
  const value = map.get(String(id));
  if (value === undefined) throw new Error(`no ${what} ${id}; there are ${[...map.keys()].join(", ")}`);
  return value;
}

/** Random bytes of any length; WebCrypto gives at most 64 KiB at once. */
function randomBytes(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let offset = 0; offset < length; offset += 65536) {
    crypto.getRandomValues(bytes.subarray(offset, offset + 65536));
  }
  return bytes;
}

/** Whole blocks; an incomplete one at the end is left out. */
function blocksOf(bytes: Uint8Array): Uint8Array[] {
  return Array.from({ length: Math.floor(bytes.length / 32) }, (_, i) => bytes.subarray(32 * i, 32 * i + 32));
}
