/** Gathers what is known of the running KME. */
import type { Config } from "../config/config.ts";
import { isNeighbour } from "../domain/network.ts";
import type { Counts } from "../metrics/counts.ts";
import type { KmeId } from "../domain/ids.ts";
import type { PeerChannel } from "../inter_kme/channel.ts";
import type { Store } from "../store/store.ts";
import { VERSION } from "../version.ts";
import { certificatesOf, daysLeft, type KnownCertificate } from "./certificate_list.ts";
import { patiently } from "./patience.ts";
import type { KmeStatus } from "../metrics/kme_status.ts";

/** Where the program is. */
export type Phase = "starting" | "running" | "stopping";

export interface FactsOptions {
  /** The configuration now; another object after a reload. */
  readonly config: () => Config;
  readonly store: Pick<Store, "freeBlocks" | "keysWaiting" | "totalEntropy">;
  readonly channels: readonly Pick<PeerChannel, "kmeId" | "health">[];
  readonly counts: Counts;
  readonly phase: () => Phase;
  /** Milliseconds for the database to answer. */
  readonly timeout?: number;
  /** Milliseconds for which facts are not gathered again, however many ask; 500. */
  readonly freshMs?: number;
}

/** Counting the keys that wait looks at all of them: a five-hundredth of the time may go into it. */
const WAITING_REST = 500;

export class Facts {
  readonly #options: FactsOptions;
  readonly #begin = performance.now();
  readonly #free: ReadonlyMap<KmeId, () => Promise<number | null>>;
  readonly #waiting: () => Promise<number | null>;
  readonly #entropy: () => Promise<number | null>;
  #certificates: { readonly config: Config; readonly known: readonly KnownCertificate[] } | undefined;
  #gathering: Promise<KmeStatus> | undefined;
  #gathered: { readonly at: number; readonly phase: Phase; readonly status: KmeStatus } | undefined;

  constructor(options: FactsOptions) {
    this.#options = options;
    const { store, timeout = 2000 } = options;
    this.#free = new Map(
      this.links.map((kme) => [kme, patiently(() => store.freeBlocks(kme), { timeout })]),
    );
    this.#waiting = patiently(() => store.keysWaiting(), { timeout, rest: WAITING_REST });
    this.#entropy = patiently(() => store.totalEntropy(), { timeout });
  }

  /** KMEs that a pool is shared with, this one first. */
  get links(): KmeId[] {
    const { thisKme, otherKmes } = this.#options.config();
    return [thisKme.id.text, ...otherKmes.filter(isNeighbour).map((kme) => kme.id.text)];
  }

  /** What is known now, or was half a second ago. Never rejects for the database's sake. */
  async get(): Promise<KmeStatus> {
    const gathered = this.#gathered;
    const { phase, freshMs = 500 } = this.#options;
    const isFresh = gathered !== undefined && performance.now() - gathered.at < freshMs &&
      gathered.phase === phase();
    if (isFresh) return gathered.status;
    return await (this.#gathering ??= this.#gather().finally(() => this.#gathering = undefined));
  }

  async #gather(): Promise<KmeStatus> {
    const { channels, counts } = this.#options;
    const config = this.#options.config();
    const { thisKme } = config;
    const [entropy, keysWaiting, ...free] = await Promise.all([
      this.#entropy(),
      this.#waiting(),
      ...this.links.map((kme) => this.#free.get(kme)?.() ?? null),
    ]);
    const phase = this.#options.phase();
    // Of all that is asked, this one always goes to the database.
    const reason = phase === "running" ? entropy === null ? "the database does not answer" : null : phase;
    const status: KmeStatus = {
      kme: thisKme.id.text,
      nickname: thisKme.nickname,
      version: VERSION,
      ready: reason === null,
      reason,
      uptime: Math.round(performance.now() - this.#begin) / 1000,
      links: this.links.map((kme, i) => {
        const last = counts.ingestion.get(kme)?.last;
        return {
          kme,
          free: free[i] ?? null,
          max: thisKme.maxKeyCount,
          lastIngestion: last === undefined ? null : { at: last.at.toISOString(), file: last.file },
        };
      }),
      keysWaiting,
      peers: channels.map(({ kmeId, health: { up, since, lastError } }) => ({
        kme: kmeId,
        up: up ?? null,
        since: since?.toISOString() ?? null,
        lastError: lastError ?? null,
      })),
      certificates: this.#certificatesOf(config).map((known) => ({
        ...known,
        daysLeft: daysLeft(known, new Date()),
      })),
      entropy,
    };
    this.#gathered = { at: performance.now(), phase, status };
    return status;
  }

  #certificatesOf(config: Config): readonly KnownCertificate[] {
    if (this.#certificates?.config !== config) this.#certificates = { config, known: certificatesOf(config) };
    return this.#certificates.known;
  }
}
