/** Plain numbers: all that the way of a request touches. They become metrics only when somebody asks. */
import type { BurnReason } from "../delivery/key_observer.ts";
import type { RefusalReason } from "../http/request_observer.ts";
import type { KmeId } from "../domain/ids.ts";

/** A listener whose requests are counted. */
export type Listener = "sae" | "kme";

export interface Refusals {
  readonly listener: Listener;
  readonly status: number;
  readonly reason: RefusalReason;
  count: number;
}

/** What came from a link's key files. */
export interface IngestionCounts {
  /** Blocks newly stored. */
  stored: number;
  /** Blocks left out because they had been stored before. */
  known: number;
  files: number;
  last?: { readonly at: Date; readonly file: string };
}

/** Since the process started. */
export interface Counts {
  /** Keys by the (first) slave's KME. */
  readonly delivered: Map<KmeId, number>;
  /** Keys by the master's KME. */
  readonly activated: Map<KmeId, number>;
  readonly burnt: Record<BurnReason, number>;
  readonly ingestion: ReadonlyMap<KmeId, IngestionCounts>;
  readonly refusals: Map<string, Refusals>;
  collected: number;
  expired: number;
  databaseErrors: number;
  events: number;
}

/** Sums that rates are made of. */
export interface Totals {
  /** Keys that masters got. */
  readonly delivered: number;
  /** Keys that slaves fetched. */
  readonly collected: number;
  /** Blocks stored from key files. */
  readonly takenUp: number;
}

/** @param links ids of the KMEs that a pool is shared with, this one's own included. */
export function noCounts(links: readonly KmeId[]): Counts {
  return {
    delivered: new Map(),
    activated: new Map(),
    burnt: { unresolved: 0, refused: 0 },
    ingestion: new Map(links.map((kme) => [kme, { stored: 0, known: 0, files: 0 }])),
    refusals: new Map(),
    collected: 0,
    expired: 0,
    databaseErrors: 0,
    events: 0,
  };
}

export function totalsOf({ delivered, collected, ingestion }: Counts): Totals {
  return {
    delivered: sum(delivered.values()),
    collected,
    takenUp: sum(ingestion.values().map(({ stored }) => stored)),
  };
}

/** Adds to one of several numbers. */
export function add(counts: Map<string, number>, name: string, count: number): void {
  counts.set(name, (counts.get(name) ?? 0) + count);
}

function sum(numbers: Iterable<number>): number {
  let total = 0;
  for (const number of numbers) total += number;
  return total;
}
