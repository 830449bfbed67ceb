/** Plain numbers, so that counting a request costs little. Metrics and charts are made from them on demand. */
import type { BurnReason } from "../delivery/key_observer.ts";
import type { Operation, RefusalReason } from "../http/request_observer.ts";
import type { Limit } from "../domain/refusals.ts";
import type { KmeId, SaeId } from "../domain/ids.ts";
import type { DeviceLoss } from "../ingest/device_observer.ts";
import { CLIENT_REFUSALS, type ClientRefusal } from "../tls/client_refusal.ts";
import { Histogram } from "./histogram.ts";

/** A listener whose requests are counted. */
export type Listener = "sae" | "kme" | "skip";

export interface Refusals {
  readonly listener: Listener;
  readonly status: number;
  readonly reason: RefusalReason;
  count: number;
}

/** Clients whose connection a listener refused. */
export interface RefusedClients {
  readonly listener: Listener;
  readonly reason: ClientRefusal;
  count: number;
}

/** A file of CRLs. */
export interface CrlState {
  readonly problems: number;
  /** Milliseconds since 1970 at which the first CRL is out of date. */
  readonly nextUpdate?: number;
}

/** How an exchange with a peer ended. */
export type Outcome = "activated" | "refused" | "unreached" | "unknown";

export interface Activations {
  readonly kme: KmeId;
  readonly outcome: Outcome;
  readonly durations: Histogram;
}

/** What became of a key file. */
export interface FileRecord {
  /** Name without directory. */
  readonly file: string;
  at: Date;
  /** Blocks newly stored. */
  stored: number;
  /** Blocks skipped because they had been stored before. */
  known: number;
  /** Whether all of it was ingested. */
  complete: boolean;
  /** Why it could not be read or was refused. */
  error?: string;
}

/** What came from a link's key files. */
export interface IngestionCounts {
  stored: number;
  known: number;
  files: number;
  /** Files refused, or that could not be read. */
  refused: number;
  /** Files ingested that were ingested into another database before: their keys may be given out twice. */
  servedAgain: number;
  /** The file from which blocks were stored last. */
  last?: { readonly at: Date; readonly file: string };
  /** The latest files, the newest last; bounded. */
  readonly recent: FileRecord[];
}

/** What came from a link's QKD device: blocks, but for the rest. */
export interface DeviceCounts {
  /** Requested from this end's device, and confirmed by the other end. */
  requested: number;
  /** Fetched because the other end had requested them. */
  fetched: number;
  readonly lost: Record<DeviceLoss, number>;
  /** Bits of keys that are not a whole block. */
  restBits: number;
}

/** When each SAE of this KME last sent a request. */
export interface Presence {
  /** Milliseconds since 1970. */
  lastSeen: number;
  /** Milliseconds since 1970 at which its certificate expires; undefined after a restart until it is seen again. */
  certificateEnd: number | undefined;
}

/** Since the process started. */
export interface Counts {
  /** Get key requests by the link whose blocks the keys are made of. */
  readonly requested: Map<KmeId, number>;
  /** Keys by the (first) slave's KME. */
  readonly delivered: Map<KmeId, number>;
  /** Keys by the master's KME. */
  readonly activated: Map<KmeId, number>;
  /** Blocks that a neighbour refused, by its id; a block counts each time. */
  readonly refusedBlocks: Map<KmeId, number>;
  readonly burnt: Record<BurnReason, number>;
  readonly ingestion: ReadonlyMap<KmeId, IngestionCounts>;
  /** Of the links with a device. */
  readonly devices: Map<KmeId, DeviceCounts>;
  readonly refusals: Map<string, Refusals>;
  /** Requests that were refused because of a limit, by SAE and limit. */
  readonly limited: Map<string, { readonly sae: SaeId; readonly limit: Limit; count: number }>;
  /** By the use of the file: `sae`, `kme`, `skip`, or the id of a neighbour after `server of KME `. */
  readonly crls: Map<string, CrlState>;
  readonly refusedClients: Map<string, RefusedClients>;
  readonly durations: Readonly<Record<Operation, Histogram>>;
  readonly activations: Map<string, Activations>;
  readonly saes: Map<SaeId, Presence>;
  readonly reloads: { applied: number; refused: number };
  collected: number;
  repeated: number;
  expired: number;
  databaseErrors: number;
  /** Blocks and keys whose stored bits were altered or moved. */
  readonly damaged: { block: number; key: number };
  auditFailures: number;
  events: number;
}

/**
 * @param links ids of the KMEs that a pool is shared with, including this one.
 * @param listeners that this KME has.
 */
export function noCounts(links: readonly KmeId[], listeners: readonly Listener[]): Counts {
  return {
    requested: new Map(links.map((kme) => [kme, 0])),
    delivered: new Map(),
    activated: new Map(),
    refusedBlocks: new Map(),
    burnt: { unresolved: 0, refused: 0 },
    ingestion: new Map(
      links.map((kme) => [kme, { stored: 0, known: 0, files: 0, refused: 0, servedAgain: 0, recent: [] }]),
    ),
    devices: new Map(),
    refusals: new Map(),
    limited: new Map(),
    // Each from the start, so that the first one is an increase.
    refusedClients: new Map(
      listeners.flatMap((listener) =>
        CLIENT_REFUSALS.map((reason) => [`${listener} ${reason}`, { listener, reason, count: 0 }])
      ),
    ),
    crls: new Map(),
    durations: { enc_keys: new Histogram(), dec_keys: new Histogram() },
    activations: new Map(),
    saes: new Map(),
    reloads: { applied: 0, refused: 0 },
    collected: 0,
    repeated: 0,
    expired: 0,
    databaseErrors: 0,
    damaged: { block: 0, key: 0 },
    auditFailures: 0,
    events: 0,
  };
}

/** Adds to one of several numbers. */
export function add(counts: Map<string, number>, name: string, count: number): void {
  counts.set(name, (counts.get(name) ?? 0) + count);
}

export function sum(numbers: Iterable<number>): number {
  let total = 0;
  for (const number of numbers) total += number;
  return total;
}
