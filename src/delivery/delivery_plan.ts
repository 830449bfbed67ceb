/** How keys reach their slaves: whose blocks they are made of, and who is told. Pure. */
import type { Sae } from "../domain/network.ts";
import { formatKeyId, type KeyIdBytes, parseKeyId } from "../domain/block.ts";
import type { KmeId, SaeId } from "../domain/ids.ts";
import type { Routes } from "./routes.ts";
import type { Recipients } from "../domain/transaction.ts";

/** A neighbour that gets the keys, for SAEs of its own or beyond it. */
export interface Hop {
  readonly kme: KmeId;
  /** True where the keys are made of blocks of its link; elsewhere they travel under a pad of such blocks. */
  readonly composes: boolean;
  readonly recipients: readonly Recipients[];
}

export interface Plan {
  /** The KME whose link's blocks the keys are made of; this KME's own id where the slave is its own. */
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

/** What a reservation is for, for whoever has to settle it. */
export interface RecordedPlan {
  /** The transaction of the hops. */
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
