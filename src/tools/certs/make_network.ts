/**
 * Makes the certificates of a network below a directory (see layout.ts). Existing files are not changed, missing ones
 * are added: to extend a network, run it again.
 */
import { join } from "node:path";
import { makeConfigs } from "./configs.ts";
import { isThere, readTextIfThere, writeFiles } from "./files.ts";
import type { NewFile } from "./files.ts";
import { callerName, kmesCaName, kmesServerName, saeName, saesCaName, saesServerName } from "./layout.ts";
import { checkNetwork, neighboursOf } from "./network_file.ts";
import type { Network, NetworkFile } from "./network_file.ts";
import { encodePkcs12 } from "./pkcs12.ts";
import type { MadeCa, MadeCertificate, MadeClient, MadeKme, MadeNetwork } from "./made.ts";
import { planCertificates } from "./issue_plan.ts";
import type { PlannedCertificate, PlannedLeaf } from "./issue_plan.ts";
import { type Crl, issueCrl, readCrl, type Revoked } from "./issue_crl.ts";
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
  MS_PER_DAY,
  nameOf,
  privateKeyToPem,
  serialOf,
  validity,
} from "./issue.ts";
import type { Identity } from "./issue.ts";

/** Days left from which on a certificate, or a CRL, is warned of. */
const EXPIRY_WARNING_DAYS = 30;
const CRL_WARNING_DAYS = 10;

export interface MakeOptions {
  /** Writes a configuration file a KME, and what it names: key directories, and CRLs of the CAs that have none. */
  readonly configs?: boolean;
  /** Name of the one certificate to renew, like `client_1` or `kme-1-local-zone/client_1`; no other is touched. */
  readonly renew?: string;
  /** Name of the one certificate to revoke: its CA's CRL is made or updated, and no certificate is changed. */
  readonly revoke?: string;
  /** Makes or renews the CRL of every CA, and changes no certificate. */
  readonly crls?: boolean;
  readonly now?: Date;
}

/** A certificate to renew or to revoke that does not exist, is not the only one of its name, or cannot be. */
export class NamedCertificateError extends Error {
  override name = "NamedCertificateError";
}

/** The directory holds the CA of another network, whose key may be known to others: nothing is issued with it. */
export class OtherNetworkError extends Error {
  override name = "OtherNetworkError";
}

/** A file in the directory is missing or cannot be read. */
export class CertificateFileError extends Error {
  override name = "CertificateFileError";
}

/**
 * Makes the certificates of a network file.
 *
 * @param out Directory; created if it is not there.
 * @throws {NetworkError} with all mistakes of the network file.
 * @throws {NamedCertificateError}
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
  const name = options.renew ?? options.revoke;
  if (name !== undefined) {
    const planned = find(plan, name);
    const ca = planned.kind === "ca" ? planned.name : planned.ca;
    await maker.refuseOtherCas(plan.filter(({ name }) => name === ca));
    await (options.renew === undefined ? maker.revoke(planned) : maker.renew(planned));
  } else {
    await maker.refuseOtherCas(plan);
    if (options.crls) await maker.renewCrls();
    else for (const planned of plan) await maker.complete(planned);
    if (options.configs) await maker.addCrls();
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

/** What any certificate of a network can have. */
type MadeAny = MadeClient & MadeCa;

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
   * Refuses CAs that this network would not have made: the key of the published samples' CAs is known to everyone, so
   * nothing may be issued with it by accident.
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

  /** Adds the missing files of one certificate, and warns of faults of the others. */
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
        // Existing ones hold an older certificate.
        files.push(...await this.#bundles(planned, { certificate, keys }, () => Promise.resolve(false)));
      }
      return await this.#write(files);
    }
    await this.#judge(planned, certificate, keys);
    if (planned.kind === "leaf" && planned.purpose.kind === "client" && keys !== undefined) {
      await this.#write(await this.#bundles(planned, { certificate, keys }, isThere));
    }
  }

  /** Gives a certificate a new serial, new dates and a new key. A CA keeps its key, so that what it issued stays valid. */
  async renew(planned: PlannedCertificate): Promise<void> {
    const old = await this.#certificate(planned.name);
    if (old === undefined) {
      throw new NamedCertificateError(`${planned.name} does not exist yet: there is nothing to renew`);
    }
    if (planned.kind === "ca") {
      const keys = await this.#keys(planned.name);
      if (keys === undefined) throw new CertificateFileError(`${this.#path(planned.name, "key")} is missing`);
      const { certificate } = await this.#issue(planned, keys);
      return await this.#write([this.#certificateFile(planned.name, certificate)]);
    }
    if (planned.serial !== undefined && planned.serial.toHex() === serialOf(old).toHex()) {
      throw new NamedCertificateError(
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

  /** Revokes a certificate by the CRL of its CA. */
  async revoke(planned: PlannedCertificate): Promise<void> {
    if (planned.kind === "ca") {
      throw new NamedCertificateError(
        `${planned.name} is a CA, which cannot revoke itself: remove it from every ca_client_cert_path instead`,
      );
    }
    const certificate = await this.#certificate(planned.name);
    if (certificate === undefined) {
      throw new NamedCertificateError(`${planned.name} does not exist: there is nothing to revoke`);
    }
    const serial = serialOf(certificate);
    await this.#write([await this.#newCrl(planned.ca, { serial, date: this.now })]);
  }

  /** A CRL of each CA that is valid from now on, with what was revoked before. */
  async renewCrls(): Promise<void> {
    const cas = this.plan.filter(({ kind }) => kind === "ca");
    const files: NewFile[] = [];
    for (const { name } of cas) files.push(await this.#newCrl(name));
    await this.#write(files);
  }

  /** A CRL for each CA that has none and whose key is here. */
  async addCrls(): Promise<void> {
    for (const { kind, name } of this.plan) {
      if (kind !== "ca" || await isThere(this.#path(name, "crl"))) continue;
      if (await isThere(this.#path(name, "key"))) await this.#write([await this.#newCrl(name)]);
    }
  }

  async #newCrl(caName: string, added?: Revoked): Promise<NewFile> {
    const ca = await this.#ca(caName, `the CRL of ${caName}`);
    const { number, revoked } = await this.#crl(caName) ?? { number: 0, revoked: [] };
    const isNew = added !== undefined && !revokes(revoked, added.serial);
    const content = await issueCrl(
      ca,
      isNew ? [...revoked, added] : revoked,
      number + 1,
      this.now,
      this.network.crlDays,
    );
    return { path: this.#path(caName, "crl"), content, private: false };
  }

  /** All certificates that exist now, by name. */
  async made(): Promise<Map<string, MadeAny>> {
    const made = new Map<string, MadeAny>();
    for (const { name } of this.plan) {
      const certificate = await this.#certificate(name);
      if (certificate === undefined) continue;
      made.set(name, {
        name,
        crt: this.#path(name, "crt"),
        key: this.#path(name, "key"),
        pem: this.#path(name, "pem"),
        pfx: this.#path(name, "pfx"),
        crl: await isThere(this.#path(name, "crl")) ? this.#path(name, "crl") : undefined,
        commonName: certificate.subjectName.getField("CN")[0] ?? "",
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
    const ca = await this.#ca(planned.ca, planned.name);
    return await issueLeaf(ca, planned.subject, planned.purpose, keys, lifetime, serial);
  }

  /** @param what is to be issued, for messages. */
  async #ca(name: string, what: string): Promise<Identity> {
    const known = this.#cas.get(name);
    if (known !== undefined) return known;
    const certificate = await this.#certificate(name);
    const keys = await this.#keys(name);
    const refuse = (why: string) => new CertificateFileError(`${what} cannot be issued: ${why}`);
    if (certificate === undefined) throw refuse(`${this.#path(name, "crt")} is missing`);
    if (keys === undefined) throw refuse(`${this.#path(name, "key")} is missing`);
    if (!await certifies(certificate, keys)) {
      throw refuse(`${this.#path(name, "key")} is not the key of its certificate`);
    }
    if (certificate.notAfter <= this.now) {
      throw refuse(`${this.#path(name, "crt")} is expired (--renew ${name})`);
    }
    const ca = { certificate, keys };
    this.#cas.set(name, ca);
    return ca;
  }

  /** Warns of an existing certificate that cannot be used, or not for long. */
  async #judge(planned: PlannedCertificate, certificate: Identity["certificate"], keys?: CryptoKeyPair) {
    const warn = (what: string) => this.warnings.push(`${planned.name} ${what} (--renew ${planned.name})`);
    const days = (certificate.notAfter.getTime() - this.now.getTime()) / MS_PER_DAY;
    const date = certificate.notAfter.toISOString().slice(0, 10);
    if (days <= 0) warn(`expired on ${date}`);
    else if (days < EXPIRY_WARNING_DAYS) warn(`expires on ${date}`);
    if (keys !== undefined && !await certifies(certificate, keys)) warn("does not belong to its key");
    // A CA's key may be kept elsewhere.
    if (planned.kind === "ca") return await this.#judgeCrl(planned.name);
    if (keys === undefined) warn("has no key");
    const ca = await this.#certificate(planned.ca);
    if (ca !== undefined && !await isIssuedBy(certificate, ca)) warn(`was not issued by ${planned.ca}`);
    const crl = await this.#crl(planned.ca);
    if (crl !== undefined && revokes(crl.revoked, serialOf(certificate))) warn("is revoked");
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

  async #judgeCrl(caName: string): Promise<void> {
    const nextUpdate = (await this.#crl(caName))?.nextUpdate;
    if (nextUpdate === undefined) return;
    const days = (nextUpdate.getTime() - this.now.getTime()) / MS_PER_DAY;
    if (days >= CRL_WARNING_DAYS) return;
    const date = nextUpdate.toISOString().slice(0, 10);
    this.warnings.push(
      `${this.#path(caName, "crl")} ${days <= 0 ? "expired" : "expires"} on ${date} (--crls)`,
    );
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

  async #crl(caName: string): Promise<Crl | undefined> {
    const path = this.#path(caName, "crl");
    const [pem, ca] = [await readTextIfThere(path), await this.#certificate(caName)];
    if (pem === undefined || ca === undefined) return undefined;
    try {
      return await readCrl(pem, ca);
    } catch {
      throw new CertificateFileError(`${path} is not a CRL of ${this.#path(caName, "crt")}, in PEM`);
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

function revokes(revoked: readonly Revoked[], serial: Uint8Array): boolean {
  return revoked.some((entry) => entry.serial.toHex() === serial.toHex());
}

function find(plan: readonly PlannedCertificate[], name: string): PlannedCertificate {
  const wanted = name.replaceAll("\\", "/").replace(/\.(crt|key|pem|pfx)$/, "");
  const found = plan.filter((planned) => planned.name === wanted || planned.name.endsWith(`/${wanted}`));
  if (found.length === 1) return found[0]!;
  const names = (found.length === 0 ? plan : found).map((planned) => planned.name).join(", ");
  throw new NamedCertificateError(
    found.length === 0 ? `there is no ${name}; there are ${names}` : `${name} could be any of ${names}`,
  );
}

/** Undefined while some of the KME's own certificates do not exist, as when another one is renewed. */
function describe(network: Network, id: string, made: ReadonlyMap<string, MadeAny>): MadeKme | undefined {
  const [saesCa, saesServer] = [made.get(saesCaName(id)), made.get(saesServerName(id))];
  const [kmesCa, kmesServer] = [made.get(kmesCaName(id)), made.get(kmesServerName(id))];
  if (!saesCa || !saesServer || !kmesCa || !kmesServer) return undefined;
  const clients = (entries: readonly (readonly [string, string])[]) =>
    new Map(entries.flatMap(([key, name]): [string, MadeClient][] => {
      const client = made.get(name);
      return client === undefined ? [] : [[key, clientOf(client)]];
    }));
  const saes = network.kmes.find((kme) => kme.id.text === id)!.saes;
  return {
    id,
    saesCa: caOf(saesCa),
    saesServer: serverOf(saesServer),
    kmesCa: caOf(kmesCa),
    kmesServer: serverOf(kmesServer),
    saes: clients(saes.map((sae) => [sae.id.text, saeName(id, sae.name)])),
    callers: clients(neighboursOf(network, id).map((caller) => [caller, callerName(caller, id)])),
  };
}

function caOf({ pem: _pem, pfx: _pfx, ...ca }: MadeAny): MadeCa {
  return ca;
}

function serverOf({ pem: _pem, pfx: _pfx, crl: _crl, ...server }: MadeAny): MadeCertificate {
  return server;
}

function clientOf({ crl: _crl, ...client }: MadeAny): MadeClient {
  return client;
}
