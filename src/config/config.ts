/** The configuration as the program uses it: checked, with resolved paths and loaded files. */
import type { DeviceDirection } from "../domain/device_direction.ts";
import type { ConfiguredId } from "../domain/ids.ts";
import type { RemoteKme, ReserveShare, Sae } from "../domain/network.ts";
import type { HostPort } from "../domain/address.ts";
import type { DeviceUrl } from "./device_url.ts";
import type { CertificateSelector } from "../x509/certificate_selector.ts";

/** An mTLS listener. The PEM texts are loaded at once, so that a start or a reload sees one consistent set. */
export interface HttpsInterface {
  readonly listen: HostPort;
  /** PEM, one or more CA certificates that client certificates must chain to. */
  readonly clientCa: string;
  /** PEM, the server's certificate, intermediates after it. */
  readonly serverCert: string;
  /** PEM: PKCS#8, SEC1 or PKCS#1. */
  readonly serverKey: string;
  /** Absolute path of a file with CRLs of the clients' CAs; absent: nothing is revoked. */
  readonly clientCrl?: string;
}

/** Where keys are stored. */
/** How a connection to a database server is secured. */
export interface DatabaseTls {
  /** What of the server's certificate is verified: nothing, its chain, or its chain and host name. */
  readonly verify: "none" | "chain" | "host";
  /** PEM of the CAs (before the file is read: its path); absent: the system's trust store. */
  readonly ca?: string;
}

export type Database =
  | { readonly kind: "memory" }
  | { readonly kind: "sqlite"; readonly path: string }
  | DatabaseServer;

export interface DatabaseServer {
  readonly kind: "postgres" | "mysql";
  /** Without the parameters of TLS. */
  readonly uri: string;
  /** Absent: in clear. */
  readonly tls?: DatabaseTls;
}

/** Where the master key of the stored keys comes from. */
export type StoreEncryption =
  /** An absolute path, or one that begins with `$CREDENTIALS_DIRECTORY`. */
  | { readonly kind: "file"; readonly path: string }
  /** A program and its arguments; its output is the key. */
  | { readonly kind: "command"; readonly command: readonly string[] };

export interface ThisKme {
  readonly id: ConfiguredId;
  readonly nickname: string;
  readonly database: Database;
  /** Absent: bits of blocks and keys are stored in the clear. */
  readonly storeEncryption?: StoreEncryption;
  readonly deleteKeyFileAfterRead: boolean;
  /** Seconds for which a key file must be unchanged before it is deleted, unless it is known to be complete. */
  readonly keyFileQuietSeconds: number;
  /** What is done with a key file whose bytes do not look random. */
  readonly keyFileHealth: "refuse" | "warn" | "off";
  /** Whether key files that were ingested into another database before are ingested again. */
  readonly reingestServedFiles: boolean;
  readonly keyDirectory: string;
  readonly saesInterface: HttpsInterface;
  readonly kmesInterface: HttpsInterface;
  /** Absent: no SKIP. */
  readonly skipInterface?: HttpsInterface;
  /** Absent: no web console. */
  readonly consoleInterface?: HostPort;
  /** Keys in one enc_keys, key_IDs in one dec_keys. */
  readonly maxKeyPerRequest: number;
  /** Cap of free blocks per link. */
  readonly maxKeyCount: number;
  /** Seconds a key waits for its slaves. */
  readonly keyLifetimeSeconds: number;
  /** Seconds for which a slave may fetch a key again with the same certificate; 0: it may not. */
  readonly answerRepeatSeconds: number;
  /** Additional slaves in one request. */
  readonly maxSaeIdCount: number;
  /** Bits of a key in one request, at least and at most; multiples of 8. */
  readonly minKeySize: number;
  readonly maxKeySize: number;
  /** Seconds for a connection to a peer, and again for its answer. */
  readonly interKmeTimeoutSeconds: number;
  /** Oldest version of TLS for all connections with SAEs and other KMEs. */
  readonly tlsMinVersion: "1.2" | "1.3";
  /** Seconds without an exchange after which a neighbour is probed. */
  readonly neighbourProbeSeconds: number;
  /** Seconds without a heartbeat after which other processes on the same database adopt the work of this one. */
  readonly leaseSeconds: number;
  /** Absent: nothing is recorded. */
  readonly auditLog?: AuditLog;
  /** Parts of the stock that are kept for some SAEs. */
  readonly reserveShares: readonly ReserveShare[];
}

/** Where and how the audit log is kept. */
export interface AuditLog {
  /** Absolute path. */
  readonly directory: string;
  /** Bytes from which on a new file is begun. */
  readonly rotateBytes: number;
  /** Milliseconds for which files are kept; absent: for ever. */
  readonly keepMs?: number;
}

/** When all certificates of a chain are valid, milliseconds since 1970, both inclusive. */
export interface Validity {
  readonly notBefore: number;
  readonly notAfter: number;
}

/** The certificate with which this KME calls a neighbour. */
export type ClientCertificate =
  & { readonly validity: Validity; readonly passphrase: string }
  & (
    | { readonly kind: "pfx"; readonly pfx: Uint8Array }
    | { readonly kind: "pem"; readonly cert: string; readonly key: string }
  );

/** This end's QKD device of a link: a server of ETSI GS QKD 014, of which this KME is an SAE. */
export interface DeviceSource {
  readonly kind: "etsi014";
  readonly url: DeviceUrl;
  readonly clientCertificate: ClientCertificate;
  /** PEM; absent: the system's trust store. */
  readonly serverCa?: string;
  /** Absolute path of a file with CRLs of the CAs of the device's server; absent: nothing is revoked. */
  readonly serverCrl?: string;
  /** The SAE that the device knows this KME as. */
  readonly localSae: string;
  /** The SAE that the other end's device knows the other KME as. */
  readonly remoteSae: string;
  /** Bits of one key of the device. */
  readonly keySize: number;
  readonly keysPerRequest: number;
  /** Free blocks of the link at which fetching ends, and below which it begins. */
  readonly targetStock: number;
  readonly lowStock: number;
  readonly pollSeconds: number;
  /** Which end asks its device for new keys; absent: the KME with the lower id. */
  readonly direction?: DeviceDirection;
}

/** A KME that shares a link with this one. */
export interface NeighbourKme {
  readonly id: ConfiguredId;
  /** Absent: no key files. There is a device then. */
  readonly keyDirectory?: string;
  readonly device?: DeviceSource;
  readonly address: HostPort;
  readonly ignoreSystemProxySettings: boolean;
  readonly clientCertificate: ClientCertificate;
  /** PEM; absent: the system's trust store. */
  readonly serverCa?: string;
  /** Absolute path of a file with CRLs of the CAs of that KME's server; absent: nothing is revoked. */
  readonly serverCrl?: string;
  /** The certificates with which that KME calls this one; absent: any that is not another neighbour's; empty: none. */
  readonly certificates?: readonly CertificateSelector[];
}

export type OtherKme = NeighbourKme | RemoteKme;

export interface ConfiguredSae extends Sae {
  /** Certificates that identify it; none of an SAE of another KME. */
  readonly certificates: readonly CertificateSelector[];
}

export interface Config {
  /** Path of the file as given on the command line. */
  readonly file: string;
  readonly thisKme: ThisKme;
  readonly otherKmes: readonly OtherKme[];
  readonly saes: readonly ConfiguredSae[];
}

/** A mistake or warning about a configuration file. */
export interface Mistake {
  readonly file: string;
  /** Path of the member, like `saes[2].kme_id`; empty for the file as a whole. */
  readonly member: string;
  /** What is wrong and what would be right; never a password. */
  readonly message: string;
}
