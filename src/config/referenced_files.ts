/** Checks every directory and file that a configuration names, and loads the certificates and keys. */
import type { Certificate } from "../x509/certificate.ts";
import type {
  ClientCertificate,
  Database,
  DatabaseServer,
  HttpsInterface,
  StoreEncryption,
  Validity,
} from "./config.ts";
import { tlsWarning } from "./database_uri.ts";
import {
  belongTogether,
  type Certificates,
  checkCaDates,
  checkChainDates,
  type DateCheck,
  parseCertificates,
  parsePemCredentials,
  parsePkcs12,
  parsePrivateKey,
} from "../x509/certificate_files.ts";
import type { Part, PartialConfig } from "./partial_config.ts";
import type { Findings } from "./findings.ts";
import {
  findDatabaseFile,
  findDirectory,
  findFile,
  type FoundFile,
  locate,
  type PathBase,
  readSmallFile,
} from "./paths.ts";
import type { ConfigFile } from "./file_schema.ts";
import { formatMember, type MemberPath } from "../domain/member_path.ts";
import { errorMessage } from "../domain/text.ts";
import { issuersOf } from "../x509/chain.ts";
import { ClientVerifier } from "../x509/verifier.ts";

type OtherKmeFile = ConfigFile["other_kmes"][number];
type InterfaceFile = ConfigFile["this_kme"]["saes_https_interface"];

/** What the paths refer to; undefined where a mistake was reported. */
export interface ReferencedFiles {
  readonly database?: Database;
  readonly keyDirectory?: string;
  readonly auditDirectory?: string;
  readonly storeEncryption?: StoreEncryption;
  readonly saesInterface: LoadedInterface;
  readonly kmesInterface: LoadedInterface;
  /** Empty if it is not configured. */
  readonly skipInterface: LoadedInterface;
  /** In the order of `other_kmes`. */
  readonly otherKmes: readonly LoadedKme[];
}

export interface LoadedInterface extends Partial<Omit<HttpsInterface, "listen">> {
  /** The CA certificates of `clientCa`, each once. */
  readonly clientIssuers?: readonly Certificate[];
}

export interface LoadedKme {
  readonly keyDirectory?: string;
  readonly clientCertificate?: ClientCertificate;
  readonly serverCa?: string;
  readonly serverCrl?: string;
  readonly device?: LoadedDevice;
}

export interface LoadedDevice {
  readonly clientCertificate?: ClientCertificate;
  readonly serverCa?: string;
  readonly serverCrl?: string;
}

/** Reports what is missing, unreadable, out of date or does not match. */
export async function loadReferencedFiles(
  partial: PartialConfig,
  base: PathBase,
  now: Date,
  findings: Findings,
): Promise<ReferencedFiles> {
  return await new Loader(base, now, findings).load(partial);
}

class Loader {
  /** Real paths of key directories, with the first member that names each. */
  readonly #directories = new Map<string, MemberPath>();
  /** Files of whose mode a warning was given. */
  readonly #openFiles = new Set<string>();
  readonly #base: PathBase;
  readonly #now: Date;
  readonly #findings: Findings;

  constructor(base: PathBase, now: Date, findings: Findings) {
    this.#base = base;
    this.#now = now;
    this.#findings = findings;
  }

  async load({ content, given }: PartialConfig): Promise<ReferencedFiles> {
    const thisKme = content.this_kme ?? {};
    const at = (member: string): MemberPath => ["this_kme", member];
    const database = await this.#database(at("db_uri"), thisKme.db_uri);
    const keyDirectory = await this.#directory(at("key_directory_to_watch"), thisKme.key_directory_to_watch);
    const auditDirectory = await this.#auditDirectory(
      [...at("audit_log"), "directory"],
      thisKme.audit_log?.directory,
    );
    const saesInterface = await this.#interface(at("saes_https_interface"), thisKme.saes_https_interface);
    const kmesInterface = await this.#interface(at("kmes_https_interface"), thisKme.kmes_https_interface);
    const skipInterface = await this.#interface(at("skip_https_interface"), thisKme.skip_https_interface);
    const otherKmes: LoadedKme[] = [];
    for (const [index, kme] of (content.other_kmes ?? []).entries()) {
      const member: MemberPath = ["other_kmes", index];
      // A KME without a link should not have these members, so what they name is not checked.
      const linked = !given([...member, "reached_through"]);
      // Without a usable password, opening the file would only add a second mistake.
      const password = "https_client_authentication_certificate_password";
      const openable = kme?.[password] !== undefined || !given([...member, password]);
      otherKmes.push(linked && kme ? await this.#kme(member, kme, openable) : {});
    }
    const storeEncryption = await this.#storeEncryption(thisKme.store_encryption);
    return {
      database,
      storeEncryption,
      keyDirectory,
      auditDirectory,
      saesInterface,
      kmesInterface,
      skipInterface,
      otherKmes,
    };
  }

  async #database(member: MemberPath, database: Database | undefined): Promise<Database | undefined> {
    if (database?.kind === "postgres" || database?.kind === "mysql") {
      return await this.#databaseServer(member, database);
    }
    if (database?.kind !== "sqlite") return database;
    const path = this.#value(member, await findDatabaseFile(database.path, this.#base));
    return path === undefined ? undefined : { kind: "sqlite", path };
  }

  async #databaseServer(member: MemberPath, server: DatabaseServer): Promise<DatabaseServer | undefined> {
    const warning = tlsWarning(server);
    if (warning !== undefined) this.#findings.warning(member, warning);
    if (server.tls?.ca === undefined) return server;
    const ca = await this.#ca(member, server.tls.ca);
    return ca && { ...server, tls: { ...server.tls, ca: ca.pem } };
  }

  /** The key is not read here: most commands do not need it, and may run where it is not. */
  async #storeEncryption(
    file: { readonly key_file?: string; readonly key_command?: readonly (string | undefined)[] } | undefined,
  ): Promise<StoreEncryption | undefined> {
    if (file?.key_command !== undefined) {
      return {
        kind: "command",
        command: file.key_command.flatMap((part) => part ?? []),
      };
    }
    if (file?.key_file === undefined) return undefined;
    const path = file.key_file;
    return { kind: "file", path: path.startsWith("$") ? path : await locate(path, this.#base) };
  }

  async #directory(member: MemberPath, path: string | undefined): Promise<string | undefined> {
    if (path === undefined) return undefined;
    const found = this.#value(member, await findDirectory(path, this.#base));
    if (found === undefined) return undefined;
    const first = this.#directories.get(found.realPath);
    if (first === undefined) this.#directories.set(found.realPath, member);
    else {
      this.#findings.mistake(
        member,
        `${JSON.stringify(path)} is the directory of ${
          formatMember(first)
        } too; the same keys would be ingested ` +
          "for two links, so use separate directories",
      );
    }
    return found.path;
  }

  async #auditDirectory(member: MemberPath, path: string | undefined): Promise<string | undefined> {
    return path === undefined ? undefined : this.#value(member, await findDirectory(path, this.#base))?.path;
  }

  async #interface(member: MemberPath, file: Part<InterfaceFile> | undefined): Promise<LoadedInterface> {
    const at = (name: keyof InterfaceFile): MemberPath => [...member, name];
    const clientCa = await this.#ca(at("ca_client_cert_path"), file?.ca_client_cert_path);
    const canVerify = clientCa && this.#canVerifyClients(at("ca_client_cert_path"), clientCa.pem);

    const certFile = await this.#file(at("server_cert_path"), file?.server_cert_path);
    const cert = certFile && this.#value(at("server_cert_path"), parseCertificates(certFile.bytes));
    if (cert) this.#dates(at("server_cert_path"), checkChainDates(cert.certificates, this.#now));

    const keyFile = await this.#file(at("server_key_path"), file?.server_key_path, "secret");
    const key = keyFile && this.#value(at("server_key_path"), parsePrivateKey(keyFile.bytes));
    if (cert && key && !belongTogether(cert.certificates, key.key)) {
      this.#findings.mistake(
        at("server_key_path"),
        "the private key does not belong to the (first) certificate of server_cert_path; write the paths of a " +
          "certificate and its key",
      );
    }
    return {
      ...canVerify ? { clientCa: clientCa.pem, clientIssuers: issuersOf(clientCa.pem) } : {},
      serverCert: cert?.pem,
      serverKey: key?.pem,
      clientCrl: await this.#path(at("client_crl_path"), file?.client_crl_path),
    };
  }

  async #kme(member: MemberPath, file: Part<OtherKmeFile>, openable: boolean): Promise<LoadedKme> {
    const at = (name: keyof OtherKmeFile): MemberPath => [...member, name];
    return {
      keyDirectory: await this.#directory(at("key_directory_to_watch"), file.key_directory_to_watch),
      clientCertificate: await this.#clientCertificate(
        at("https_client_authentication_certificate"),
        at("https_client_authentication_certificate_password"),
        openable ? file.https_client_authentication_certificate : undefined,
        file.https_client_authentication_certificate_password ?? "",
      ),
      serverCa: (await this.#ca(at("inter_kme_ca_cert_path"), file.inter_kme_ca_cert_path, "downLink"))?.pem,
      serverCrl: await this.#path(at("inter_kme_crl_path"), file.inter_kme_crl_path),
      device: file.key_source && await this.#device(at("key_source"), file.key_source),
    };
  }

  async #device(
    member: MemberPath,
    source: NonNullable<OtherKmeFile["key_source"]>,
  ): Promise<LoadedDevice> {
    const at = (name: keyof typeof source): MemberPath => [...member, name];
    return {
      clientCertificate: await this.#clientCertificate(
        at("https_client_authentication_certificate"),
        at("https_client_authentication_certificate_password"),
        source.https_client_authentication_certificate,
        source.https_client_authentication_certificate_password ?? "",
      ),
      serverCa: (await this.#ca(at("ca_cert_path"), source.ca_cert_path, "downLink"))?.pem,
      serverCrl: await this.#path(at("crl_path"), source.crl_path),
    };
  }

  async #clientCertificate(
    member: MemberPath,
    passwordMember: MemberPath,
    path: string | undefined,
    password: string,
  ): Promise<ClientCertificate | undefined> {
    const extension = path === undefined ? undefined : /\.(pfx|p12|pem)$/i.exec(path)?.[1]?.toLowerCase();
    if (path !== undefined && extension === undefined) {
      this.#findings.mistake(
        member,
        `${JSON.stringify(path)} is neither .pfx, .p12 nor .pem; write the path of such a file`,
      );
      return undefined;
    }
    const file = await this.#file(member, path, "secret");
    if (file === undefined) return undefined;
    const parsed = extension === "pem"
      ? parsePemCredentials(file.bytes, password)
      : parsePkcs12(file.bytes, password);
    // A wrong password is reported for the member that holds it.
    const wrongPassword = "problem" in parsed && /password/.test(parsed.problem);
    const credentials = this.#value(wrongPassword ? passwordMember : member, parsed);
    if (credentials === undefined) return undefined;
    this.#dates(member, checkChainDates(credentials.certificates, this.#now), "downLink");
    const validity = validityOf(credentials.certificates);
    return extension === "pem"
      ? { kind: "pem", validity, cert: credentials.cert, key: credentials.key, passphrase: "" }
      : { kind: "pfx", validity, pfx: file.bytes, passphrase: password };
  }

  #canVerifyClients(member: MemberPath, pem: string): boolean {
    try {
      new ClientVerifier(pem);
      return true;
    } catch (error) {
      this.#findings.mistake(
        member,
        `${
          errorMessage(error)
        }; write the path of a file with the CA certificate that issues the clients' certificates`,
      );
      return false;
    }
  }

  /** @param outOfDate what it is that no certificate of the file is in date. */
  async #ca(
    member: MemberPath,
    path: string | undefined,
    outOfDate: "mistake" | "downLink" = "mistake",
  ): Promise<Certificates | undefined> {
    const file = await this.#file(member, path);
    const certificates = file && this.#value(member, parseCertificates(file.bytes));
    if (certificates) this.#dates(member, checkCaDates(certificates.certificates, this.#now), outOfDate);
    return certificates;
  }

  /** A file that is read while the KME runs, not here. */
  async #path(member: MemberPath, path: string | undefined): Promise<string | undefined> {
    return path === undefined ? undefined : this.#value(member, await findFile(path, this.#base));
  }

  async #file(member: MemberPath, path: string | undefined, kind?: "secret"): Promise<FoundFile | undefined> {
    if (path === undefined) return undefined;
    const file = this.#value(member, await readSmallFile(path, this.#base));
    if (file?.readByOthers && kind === "secret" && !this.#openFiles.has(path)) {
      this.#openFiles.add(path);
      this.#findings.warning(
        member,
        `${JSON.stringify(path)} holds a private key and is readable for all users; run chmod o-rwx on it`,
      );
    }
    return file;
  }

  /** @param outOfDate a link is down if the certificates are for one neighbour only. */
  #dates(
    member: MemberPath,
    { problem, warning }: DateCheck,
    outOfDate: "mistake" | "downLink" = "mistake",
  ): void {
    if (problem !== undefined) this.#findings[outOfDate](member, problem);
    if (warning !== undefined) this.#findings.warning(member, warning);
  }

  #value<T>(member: MemberPath, parsed: { value: T } | { problem: string }): T | undefined {
    if ("value" in parsed) return parsed.value;
    this.#findings.mistake(member, parsed.problem);
    return undefined;
  }
}

function validityOf(certificates: readonly Certificate[]): Validity {
  return {
    notBefore: Math.max(...certificates.map(({ notBefore }) => notBefore)),
    notAfter: Math.min(...certificates.map(({ notAfter }) => notAfter)),
  };
}
