/** How long it takes to agree on keys with a peer. */
import { Histogram } from "prom-client";
import type { KmeId } from "../model/ids.ts";

/** How an exchange with a peer ended. */
export type Outcome = "activated" | "refused" | "unreached" | "unknown";

/** Upper bounds in seconds: a LAN takes some milliseconds, the default time-out is 10 s. */
const BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20];

export class ActivationTimes {
  readonly histogram: Histogram<"kme" | "outcome"> = new Histogram({
    name: "kme_activation_duration_seconds",
    help: "Time from sending keys to a peer to its answer, by how that ended",
    labelNames: ["kme", "outcome"],
    buckets: BUCKETS,
    registers: [],
  });
  /** The histogram's parts, so that labels are looked up once. */
  readonly #parts = new Map<KmeId, Partial<Record<Outcome, Histogram.Internal<"kme" | "outcome">>>>();

  record(kme: KmeId, outcome: Outcome, milliseconds: number): void {
    let parts = this.#parts.get(kme);
    if (parts === undefined) this.#parts.set(kme, parts = {});
    const part = parts[outcome] ??= this.histogram.labels({ kme, outcome });
    part.observe(milliseconds / 1000);
  }
}
