/** How keys reach their slaves: from which link their blocks come, and which neighbours get them. No I/O. */
import type { Sae } from "../domain/network.ts";
import { formatKeyId, type KeyIdBytes, parseKeyId } from "../domain/block.ts";
import type { KmeId, SaeId } from "../domain/ids.ts";
import type { Routes } from "./routes.ts";
import type { Recipients } from "../domain/transaction.ts";

/** A neighbour that gets the keys, for its own SAEs or to pass them on. */
export interface Hop {
  readonly kme: KmeId;
  /** True if the keys are made of blocks of its link; otherwise they are encrypted with a pad from its link. */
  readonly composes: boolean;
  readonly recipients: readonly Recipients[];
}

export interface Plan {
  /** The KME of the link whose blocks become the keys; this KME's own id if the first slave is its own SAE. */
  readonly source: KmeId;
  /** Slaves that are SAEs of this KME. */
  readonly localSlaves: readonly SaeId[];
  /** The composing hop first. */
  readonly hops: readonly Hop[];
}

/**
 * @param slaves the slave of the request first, then the additional ones.
 * @returns `undefined` when a slave's KME cannot be reached.
 */
export function makePlan(thisKme: KmeId, routes: Routes, slaves: readonly Sae[]): Plan | undefined {
  const recipients = new Map<KmeId, SaeId[]>();
  for (const slave of slaves) {
    const saes = recipients.get(slave.kmeId);
    if (saes === undefined) recipients.set(slave.kmeId, [slave.id.text]);
    else saes.push(slave.id.text);
  }
  const localSlaves = recipients.get(thisKme) ?? [];
  recipients.delete(thisKme);
  if ([...recipients.keys()].some((kme) => routes.nextHop(kme) === undefined)) return undefined;
  const first = slaves[0]!.kmeId;
  const source = first === thisKme ? thisKme : routes.nextHop(first)!;
  const byHop = routes.byNextHop([...recipients].map(([kme, saes]) => ({ kme, saes })));
  const hops = [...byHop].map(([kme, list]) => ({ kme, composes: kme === source, recipients: list }));
  return { source, localSlaves, hops: hops.sort((a, b) => Number(b.composes) - Number(a.composes)) };
}

/** What a reservation is for. Stored with it, so that another process can resolve it. */
export interface RecordedPlan {
  /** The id of the transaction that the hops get. */
  readonly transaction: KeyIdBytes;
  readonly hops: readonly Hop[];
}

export function formatPlan({ transaction, hops }: RecordedPlan): string {
  return JSON.stringify({ transaction: formatKeyId(transaction), hops });
}

export function parsePlan(text: string): RecordedPlan {
  const { transaction, hops } = JSON.parse(text) as { transaction: string; hops: Hop[] };
  return { transaction: parseKeyId(transaction)!, hops };
}
