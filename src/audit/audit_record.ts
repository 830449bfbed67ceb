/** What the audit log records. Members have the names that they have in the file. No record holds a key's bits. */

/** Begins the records of a file, so that no file is without one. */
interface FileBegins {
  readonly kind: "file";
  readonly kme: string;
  /** Counts the files of a chain from 1. */
  readonly file: number;
  readonly version: string;
}

/** The last record of a file that another one follows. */
interface FileEnds {
  readonly kind: "next";
  /** Number of the file that follows. */
  readonly file: number;
}

/** Bytes in front of it are not a record: what was being written when the process or its host ended. */
export interface TornBytes {
  readonly kind: "torn";
  readonly bytes: number;
  /** Of these bytes, hexadecimal. */
  readonly sha256: string;
}

/** A file older than `keep_days` is removed. */
export interface FileRemoved {
  readonly kind: "removed";
  readonly file: number;
  readonly last_sequence: number;
  readonly last_hash: string;
}

/** The log could not be written for some time. */
interface Gap {
  readonly kind: "gap";
  readonly since: string;
  readonly reason: string;
  /** Records that were dropped; none of them was of a key that was given out. */
  readonly dropped: number;
}

interface Lifecycle {
  readonly kind: "start" | "stop";
  readonly version?: string;
  readonly config?: string;
  readonly host?: string;
  readonly pid?: number;
}

interface Reload {
  readonly kind: "reload";
  /** `access only`: the file has mistakes, and what it says about access was applied. */
  readonly outcome: "applied" | "refused" | "access only";
  /** Changes that need a restart. */
  readonly left_out?: readonly string[];
  readonly changes?: readonly string[];
  readonly reason?: string;
}

/** The client of a connection. */
export interface Client {
  /** SHA-256 of its certificate, hexadecimal. */
  readonly certificate: string;
  /** `address:port`. */
  readonly address?: string;
}

/** Keys that a master SAE gets (Get key). */
interface Delivered extends Client {
  readonly kind: "delivery";
  readonly master: string;
  readonly slaves: readonly string[];
  /** Bits of each key. */
  readonly size: number;
  readonly key_IDs: readonly string[];
}

/** Keys of a `delivery` before, which failed after all: nobody has got them. */
interface Undelivered {
  readonly kind: "undelivered";
  readonly master: string;
  readonly key_IDs: readonly string[];
  readonly reason: string;
}

/** Keys that a slave SAE gets (Get key with key IDs). */
interface Fetched extends Client {
  readonly kind: "fetch";
  readonly sae: string;
  readonly master: string;
  readonly key_IDs: readonly string[];
  /**
   * `repeated`: an earlier record says that it gets them, and its answer may have been lost. `perhaps repeated`: it had read them
   * before, but perhaps there is no record of that; then that answer did not leave, and this one is the first.
   */
  readonly outcome?: "repeated" | "perhaps repeated";
}

/** A request, or a connection, that was refused. */
interface Refused extends Partial<Client> {
  readonly kind: "refusal";
  readonly interface: string;
  readonly caller?: string;
  readonly request?: string;
  /** HTTP status code. */
  readonly status?: number;
  readonly reason: string;
  readonly message: string;
  /** Further refusals of the same client within a second, which have no record of their own. */
  readonly more?: number;
}

/** Keys that KMEs agree on. */
interface Transaction {
  readonly kind: "transaction";
  readonly direction: "sent" | "received";
  /** At the other end. */
  readonly kme: string;
  readonly certificate?: string;
  /** Absent in the message of `qkd_kme_server`. */
  readonly transaction?: string;
  readonly master: string;
  readonly slaves: readonly string[];
  readonly key_IDs: readonly string[];
  readonly outcome: string;
  readonly reason?: string;
}

interface TakenBack {
  readonly kind: "take_back";
  readonly direction: "sent" | "received";
  readonly kme: string;
  readonly certificate?: string;
  readonly transaction: string;
  readonly outcome: string;
  readonly reason?: string;
}

interface Ingested {
  readonly kind: "ingestion";
  readonly link: string;
  readonly file: string;
  /** `lost`: blocks of a device that are not used. */
  readonly outcome: "ingested" | "refused" | "served again" | "lost";
  /** Blocks, like the next two. */
  readonly stored?: number;
  readonly lost?: number;
  readonly known?: number;
  readonly reason?: string;
}

/** Keys that no slave had fetched in time. */
interface Expired {
  readonly kind: "expiry";
  readonly key_IDs: readonly string[];
}

interface Burnt {
  readonly kind: "burning";
  readonly reason: string;
  readonly blocks: number;
}

/** A command that changes something, before it begins and when it has ended. */
interface CommandRun {
  readonly kind: "command";
  readonly command: string;
  readonly user: string;
  readonly host: string;
  readonly outcome: "begun" | "done" | "failed";
  readonly details?: string;
}

/** What other rooms record. */
export type AuditRecord =
  | Lifecycle
  | Reload
  | Delivered
  | Undelivered
  | Fetched
  | Refused
  | Transaction
  | TakenBack
  | Ingested
  | Expired
  | Burnt
  | CommandRun;

/** What the log records of itself. */
export type ChainRecord = FileBegins | FileEnds | TornBytes | FileRemoved | Gap;
