/**
 * Makes the certificates of a network below a directory (see layout.ts). What is there stays as it is, byte for byte;
 * what is missing is added, so a network grows by running it again.
 */
import { join } from "node:path";
import { makeConfigs } from "./configs.ts";
import { isThere, readTextIfThere, writeFiles } from "./files.ts";
import type { NewFile } from "./files.ts";
import { callerName, kmesCaName, kmesServerName, saeName, saesCaName, saesServerName } from "./layout.ts";
import { checkNetwork, neighboursOf } from "./network_file.ts";
import type { Network, NetworkFile } from "./network_file.ts";
import { encodePkcs12 } from "./pkcs12.ts";
import type { MadeCertificate, MadeClient, MadeKme, MadeNetwork } from "./made.ts";
import { planCertificates } from "./issue_plan.ts";
import type { PlannedCertificate, PlannedLeaf } from "./issue_plan.ts";
import { randomSerial } from "./random_serial.ts";
import {
  certificateFromPem,
  certificateToPem,
  certifies,
  generateKeys,
  hostsOf,
  isIssuedBy,
  issueCa,
  issueLeaf,
  keysFromPem,
  nameOf,
  privateKeyToPem,
  serialOf,
  validity,
} from "./issue.ts";
import type { Identity } from "./issue.ts";

/** A certificate is named when it has fewer days left. */
const EXPIRY_WARNING_DAYS = 30;
const MS_PER_DAY = 86_400_000;

export interface MakeOptions {
  /** Writes a configuration file a KME and creates the key directories. */
  readonly configs?: boolean;
  /** Name of the one certificate to renew, like `client_1` or `kme-1-local-zone/client_1`; no other is touched. */
  readonly renew?: string;
  readonly now?: Date;
}

/** A certificate to renew that does not exist, is not the only one of its name, or cannot be renewed. */
export class RenewError extends Error {
  override name = "RenewError";
}

/** The directory holds the CA of another network, whose key others may know: nothing is issued by it. */
export class OtherNetworkError extends Error {
  override name = "OtherNetworkError";
}

/** Files in the directory that cannot be gone on with. */
export class CertificateFileError extends Error {
  override name = "CertificateFileError";
}

/**
 * Makes the certificates of a network file.
 *
 * @param out Directory; created if it is not there.
 * @throws {NetworkError} with all mistakes of the network file.
 * @throws {RenewError}
 * @throws {OtherNetworkError}
 * @throws {CertificateFileError}
 *
 * @example
 * ```ts
 * const made = await makeNetwork({
 *   kmes: [{
 *     id: 1,
 *     saes_interface: { hosts: ["localhost"], port: 13000 },
 *     kmes_interface: { hosts: ["localhost"], port: 13001 },
 *     saes: [{ id: 1 }],
 *   }],
 * }, "certs");
 * made.kmes.get("1")!.saes.get("1")!.pfx; // "certs/kme-1-local-zone/client_1.pfx"
 * ```
 */
export function makeNetwork(file: NetworkFile, out: string, options: MakeOptions = {}): Promise<MadeNetwork> {
  return makeCheckedNetwork(checkNetwork(file), out, options);
}

/** {@linkcode makeNetwork} for a network that was checked. */
export async function makeCheckedNetwork(
  network: Network,
  out: string,
  options: MakeOptions = {},
): Promise<MadeNetwork> {
  const plan = planCertificates(network);
  const maker = new Maker(network, plan, out, options.now ?? new Date());
  if (options.renew === undefined) {
    await maker.refuseOtherCas(plan);
    for (const planned of plan) await maker.complete(planned);
  } else {
    const planned = find(plan, options.renew);
    await maker.refuseOtherCas(
      plan.filter(({ name }) => name === (planned.kind === "ca" ? planned.name : planned.ca)),
    );
    await maker.renew(planned);
  }
  const made = await maker.made();
  const kmes = new Map(
    network.kmes.flatMap((kme): [string, MadeKme][] => {
      const described = describe(network, kme.id.text, made);
      return described === undefined ? [] : [[kme.id.text, described]];
    }),
  );
  if (options.configs !== true) return { kmes, written: maker.written, warnings: maker.warnings };
  const configs = await makeConfigs(network, kmes, out);
  return {
    kmes: new Map([...kmes].map(([id, kme]) => [id, { ...kme, config: configs.paths.get(id) }])),
    written: [...maker.written, ...configs.written],
    warnings: [...maker.warnings, ...configs.warnings],
  };
}

class Maker {
  readonly written: string[] = [];
  readonly warnings: string[] = [];
  readonly #cas = new Map<string, Identity>();

  constructor(
    readonly network: Network,
    readonly plan: readonly PlannedCertificate[],
    readonly out: string,
    readonly now: Date,
  ) {}

  /**
   * Refuses CAs that this network would not have made: whoever begins with the published samples' directory must not
   * get certificates of a CA whose key everybody has.
   */
  async refuseOtherCas(plan: readonly PlannedCertificate[]): Promise<void> {
    for (const planned of plan) {
      if (planned.kind !== "ca") continue;
      const subject = (await this.#certificate(planned.name))?.subject;
      const wanted = nameOf(planned.subject);
      if (subject === undefined || subject === wanted) continue;
      throw new OtherNetworkError(
        `${
          this.#path(planned.name, "crt")
        } is of another network: it says ${subject}, the network file makes ` +
          `${wanted}; name another directory with --out, or put the organization right in the network file`,
      );
    }
  }

  /** Adds what is missing of one certificate, and says what is wrong with the rest. */
  async complete(planned: PlannedCertificate): Promise<void> {
    let certificate = await this.#certificate(planned.name);
    let keys = await this.#keys(planned.name);
    if (certificate === undefined) {
      const files: NewFile[] = [];
      if (keys === undefined) {
        keys = await generateKeys(this.network.keyType);
        files.push(await this.#keyFile(planned.name, keys));
      }
      ({ certificate } = await this.#issue(
        planned,
        keys,
        planned.kind === "leaf" ? planned.serial : undefined,
      ));
      files.push(this.#certificateFile(planned.name, certificate));
      if (planned.kind === "leaf" && planned.purpose.kind === "client") {
        // Those that are there hold an older certificate.
        files.push(...await this.#bundles(planned, { certificate, keys }, () => Promise.resolve(false)));
      }
      return await this.#write(files);
    }
    await this.#judge(planned, certificate, keys);
    if (planned.kind === "leaf" && planned.purpose.kind === "client" && keys !== undefined) {
      await this.#write(await this.#bundles(planned, { certificate, keys }, isThere));
    }
  }

  /** A new serial and new dates; a new key too, save for a CA, whose certificates stay valid that way. */
  async renew(planned: PlannedCertificate): Promise<void> {
    const old = await this.#certificate(planned.name);
    if (old === undefined) {
      throw new RenewError(`${planned.name} does not exist yet: there is nothing to renew`);
    }
    if (planned.kind === "ca") {
      const keys = await this.#keys(planned.name);
      if (keys === undefined) throw new CertificateFileError(`${this.#path(planned.name, "key")} is missing`);
      const { certificate } = await this.#issue(planned, keys);
      return await this.#write([this.#certificateFile(planned.name, certificate)]);
    }
    if (planned.serial !== undefined && planned.serial.toHex() === serialOf(old).toHex()) {
      throw new RenewError(
        `${planned.name} has the serial that the network file fixes: give it another one there, ` +
          "since a CA must not issue two certificates with one serial",
      );
    }
    const keys = await generateKeys(this.network.keyType);
    const identity = await this.#issue(planned, keys, planned.serial);
    const files = [
      await this.#keyFile(planned.name, keys),
      this.#certificateFile(planned.name, identity.certificate),
    ];
    if (planned.purpose.kind === "client") {
      files.push(...await this.#bundles(planned, identity, () => Promise.resolve(false)));
    }
    await this.#write(files);
  }

  /** All certificates that are there now, by name. */
  async made(): Promise<Map<string, MadeClient>> {
    const made = new Map<string, MadeClient>();
    for (const { name } of this.plan) {
      const certificate = await this.#certificate(name);
      if (certificate === undefined) continue;
      made.set(name, {
        name,
        crt: this.#path(name, "crt"),
        key: this.#path(name, "key"),
        pem: this.#path(name, "pem"),
        pfx: this.#path(name, "pfx"),
        serial: serialOf(certificate),
        notAfter: certificate.notAfter,
      });
    }
    return made;
  }

  async #issue(planned: PlannedCertificate, keys: CryptoKeyPair, serial = randomSerial()): Promise<Identity> {
    const { caDays, leafDays, validFrom } = this.network;
    const lifetime = validity(planned.kind === "ca" ? caDays : leafDays, this.now, validFrom);
    if (planned.kind === "ca") return await issueCa(planned.subject, keys, lifetime, serial);
    return await issueLeaf(await this.#ca(planned), planned.subject, planned.purpose, keys, lifetime, serial);
  }

  async #ca(planned: PlannedLeaf): Promise<Identity> {
    const known = this.#cas.get(planned.ca);
    if (known !== undefined) return known;
    const certificate = await this.#certificate(planned.ca);
    const keys = await this.#keys(planned.ca);
    if (certificate === undefined || keys === undefined) {
      const missing = this.#path(planned.ca, certificate === undefined ? "crt" : "key");
      throw new CertificateFileError(`${planned.name} cannot be issued: ${missing} is missing`);
    }
    if (!await certifies(certificate, keys)) {
      throw new CertificateFileError(
        `${planned.name} cannot be issued: ${
          this.#path(planned.ca, "key")
        } is not the key of its certificate`,
      );
    }
    if (certificate.notAfter <= this.now) {
      throw new CertificateFileError(
        `${planned.name} cannot be issued: ${
          this.#path(planned.ca, "crt")
        } is expired (--renew ${planned.ca})`,
      );
    }
    const ca = { certificate, keys };
    this.#cas.set(planned.ca, ca);
    return ca;
  }

  /** Warns of a certificate that is there but will not do, or not for long. */
  async #judge(planned: PlannedCertificate, certificate: Identity["certificate"], keys?: CryptoKeyPair) {
    const warn = (what: string) => this.warnings.push(`${planned.name} ${what} (--renew ${planned.name})`);
    const days = (certificate.notAfter.getTime() - this.now.getTime()) / MS_PER_DAY;
    const date = certificate.notAfter.toISOString().slice(0, 10);
    if (days <= 0) warn(`expired on ${date}`);
    else if (days < EXPIRY_WARNING_DAYS) warn(`expires on ${date}`);
    if (keys !== undefined && !await certifies(certificate, keys)) warn("does not belong to its key");
    // A CA's key may well be kept elsewhere.
    if (planned.kind === "ca") return;
    if (keys === undefined) warn("has no key");
    const ca = await this.#certificate(planned.ca);
    if (ca !== undefined && !await isIssuedBy(certificate, ca)) warn(`was not issued by ${planned.ca}`);
    if (planned.purpose.kind === "server") {
      const hosts = new Set(hostsOf(certificate));
      const lacking = planned.purpose.hosts.filter((host) => !hosts.has(host));
      if (lacking.length > 0) warn(`is not valid for ${lacking.join(", ")}`);
    }
    if (planned.serial !== undefined) {
      const [serial, wanted] = [serialOf(certificate).toHex(), planned.serial.toHex()];
      if (serial !== wanted) warn(`has serial ${serial}, the network file says ${wanted}`);
    }
  }

  /** PEM and PKCS#12 of a client, without those that are `there`. */
  async #bundles(
    planned: PlannedLeaf,
    { certificate, keys }: Identity,
    there: (path: string) => Promise<boolean>,
  ): Promise<NewFile[]> {
    const files: NewFile[] = [];
    const pem = this.#path(planned.name, "pem");
    const pfx = this.#path(planned.name, "pfx");
    if (!await there(pem)) {
      const content = certificateToPem(certificate) + await privateKeyToPem(keys.privateKey);
      files.push({ path: pem, content, private: true });
    }
    if (!await there(pfx)) {
      const key = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
      const { pfxPassword } = this.network;
      const content = await encodePkcs12(certificate.rawData, key, pfxPassword, planned.subject.commonName);
      files.push({ path: pfx, content, private: true });
    }
    return files;
  }

  async #write(files: readonly NewFile[]): Promise<void> {
    await writeFiles(files);
    this.written.push(...files.map((file) => file.path));
  }

  async #certificate(name: string): Promise<Identity["certificate"] | undefined> {
    const path = this.#path(name, "crt");
    const pem = await readTextIfThere(path);
    try {
      return pem === undefined ? undefined : certificateFromPem(pem);
    } catch {
      throw new CertificateFileError(`${path} holds no certificate in PEM`);
    }
  }

  async #keys(name: string): Promise<CryptoKeyPair | undefined> {
    const path = this.#path(name, "key");
    const pem = await readTextIfThere(path);
    try {
      return pem === undefined ? undefined : await keysFromPem(pem);
    } catch {
      throw new CertificateFileError(`${path} holds no private key (PKCS#8 in PEM, on P-256 or P-384)`);
    }
  }

  #certificateFile(name: string, certificate: Identity["certificate"]): NewFile {
    return { path: this.#path(name, "crt"), content: certificateToPem(certificate), private: false };
  }

  async #keyFile(name: string, keys: CryptoKeyPair): Promise<NewFile> {
    return { path: this.#path(name, "key"), content: await privateKeyToPem(keys.privateKey), private: true };
  }

  #path(name: string, extension: string): string {
    return join(this.out, ...`${name}.${extension}`.split("/"));
  }
}

function find(plan: readonly PlannedCertificate[], name: string): PlannedCertificate {
  const wanted = name.replaceAll("\\", "/").replace(/\.(crt|key|pem|pfx)$/, "");
  const found = plan.filter((planned) => planned.name === wanted || planned.name.endsWith(`/${wanted}`));
  if (found.length === 1) return found[0]!;
  const names = (found.length === 0 ? plan : found).map((planned) => planned.name).join(", ");
  throw new RenewError(
    found.length === 0 ? `there is no ${name}; there are ${names}` : `${name} could be any of ${names}`,
  );
}

/** Undefined while some of the KME's own certificates are not made yet, as when another one is renewed. */
function describe(network: Network, id: string, made: ReadonlyMap<string, MadeClient>): MadeKme | undefined {
  const [saesCa, saesServer] = [made.get(saesCaName(id)), made.get(saesServerName(id))];
  const [kmesCa, kmesServer] = [made.get(kmesCaName(id)), made.get(kmesServerName(id))];
  if (!saesCa || !saesServer || !kmesCa || !kmesServer) return undefined;
  const clients = (entries: readonly (readonly [string, string])[]) =>
    new Map(entries.flatMap(([key, name]): [string, MadeClient][] => {
      const client = made.get(name);
      return client === undefined ? [] : [[key, client]];
    }));
  const saes = network.kmes.find((kme) => kme.id.text === id)!.saes;
  return {
    id,
    saesCa: withoutBundles(saesCa),
    saesServer: withoutBundles(saesServer),
    kmesCa: withoutBundles(kmesCa),
    kmesServer: withoutBundles(kmesServer),
    saes: clients(saes.map((sae) => [sae.id.text, saeName(id, sae.name)])),
    callers: clients(neighboursOf(network, id).map((caller) => [caller, callerName(caller, id)])),
  };
}

function withoutBundles({ pem: _pem, pfx: _pfx, ...certificate }: MadeClient): MadeCertificate {
  return certificate;
}
