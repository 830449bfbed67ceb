/** Collects the status of the running KME. */
import type { AuditState } from "../audit/audit_trail.ts";
import type { Config } from "../config/config.ts";
import { isNeighbour } from "../domain/network.ts";
import type { Counts } from "../metrics/counts.ts";
import { type FileRecord, sum } from "../metrics/counts.ts";
import type { KmeId, SaeId } from "../domain/ids.ts";
import type { PeerChannel } from "../inter_kme/channel.ts";
import type { DeviceState } from "../ingest/device_observer.ts";
import type { RefusedFile } from "../ingest/ingestion_options.ts";
import type { StockAgreement } from "../delivery/stock_agreement.ts";
import type { Store } from "../store/store.ts";
import { VERSION } from "../version.ts";
import { certificatesOf, daysLeft, daysUntil, type KnownCertificate } from "./certificate_list.ts";
import { limitQuestion } from "./limited_question.ts";
import type { KmeStatus, LinkStatus, SaeStatus } from "../metrics/kme_status.ts";
import { deliverable, findProblems, ProblemTimes, type StatusFacts } from "./problems.ts";

/** Where the program is. */
export type Phase = "starting" | "running" | "stopping";

export interface FactsOptions {
  /** The current configuration; another object after a reload. */
  readonly config: () => Config;
  readonly store: Pick<Store, "encrypts" | "freeBlocks" | "keysWaiting" | "totalEntropy">;
  readonly channels: readonly Pick<PeerChannel, "kmeId" | "health">[];
  readonly counts: Counts;
  /** By the neighbour's id. */
  readonly stocks?: ReadonlyMap<KmeId, Pick<StockAgreement, "state">>;
  readonly phase: () => Phase;
  /** Absent: there is no audit log. */
  readonly audit?: () => AuditState;
  /** Why no key can be handed out, besides the phase and a database that does not answer. */
  readonly obstacle?: () => Promise<string | undefined>;
  /** Told while the program runs: why no key can be handed out any more, or undefined when they can again. */
  readonly onReadiness?: (reason: string | undefined) => void;
  /** Of the links with a QKD device. */
  readonly devices?: () => readonly DeviceState[];
  /** Key files that are refused now; undefined: not known. */
  readonly refusedFiles?: () => readonly Pick<RefusedFile, "link" | "file">[] | undefined;
  /** Milliseconds for the database to answer. */
  readonly timeout?: number;
  /** Milliseconds for which the status is not collected again, however many ask; 500. */
  readonly freshMs?: number;
}

/** Counting the keys that wait reads all of them, so it may take at most a five-hundredth of the time. */
const WAITING_REST = 500;

/** What is kept across a restart. */
export interface KeptFacts {
  readonly problems: readonly (readonly [name: string, since: string])[];
  /** Links that were in use. */
  readonly used: readonly KmeId[];
  /** Milliseconds since 1970. */
  readonly seen: readonly (readonly [sae: SaeId, at: number])[];
}

export class Facts {
  readonly #options: FactsOptions;
  readonly #begin = performance.now();
  readonly #free: ReadonlyMap<KmeId, () => Promise<number | null>>;
  readonly #waiting: () => Promise<number | null>;
  readonly #entropy: () => Promise<number | null>;
  readonly #obstacle: () => Promise<string | null>;
  readonly #times = new ProblemTimes();
  readonly #used = new Set<KmeId>();
  /** What was told last. */
  #toldReason = "";
  #readiness: { readonly ready: boolean; readonly since: string } | undefined;
  #certificates: { readonly config: Config; readonly known: readonly KnownCertificate[] } | undefined;
  #collecting: Promise<KmeStatus> | undefined;
  #collected: { readonly at: number; readonly phase: Phase; readonly status: KmeStatus } | undefined;

  constructor(options: FactsOptions) {
    this.#options = options;
    const { store, obstacle, timeout = 2000 } = options;
    this.#free = new Map(
      this.links.map((kme) => [kme, limitQuestion(() => store.freeBlocks(kme), { timeout })]),
    );
    this.#waiting = limitQuestion(() => store.keysWaiting(), { timeout, rest: WAITING_REST });
    this.#entropy = limitQuestion(() => store.totalEntropy(), { timeout });
    // A file system that hangs must not block the program.
    this.#obstacle = limitQuestion(async () => await obstacle?.() ?? "", { timeout });
  }

  /** KMEs that a pool is shared with, this one first. */
  get links(): KmeId[] {
    const { thisKme, otherKmes } = this.#options.config();
    return [thisKme.id.text, ...otherKmes.filter(isNeighbour).map((kme) => kme.id.text)];
  }

  get kept(): KeptFacts {
    return {
      problems: this.#times.entries,
      used: [...this.#used],
      seen: [...this.#options.counts.saes].map(([sae, { lastSeen }]) => [sae, lastSeen]),
    };
  }

  /** Puts back what an earlier process has saved; called before the first status. */
  restore({ problems, used, seen }: KeptFacts): void {
    this.#times.restore(problems);
    for (const link of used) this.#used.add(link);
    for (const [sae, lastSeen] of seen) {
      this.#options.counts.saes.set(sae, { lastSeen, certificateEnd: undefined });
    }
  }

  /** The status now, or that of half a second ago. Never rejects because of the database. */
  async get(): Promise<KmeStatus> {
    const collected = this.#collected;
    const { phase, freshMs = 500 } = this.#options;
    const isFresh = collected !== undefined && performance.now() - collected.at < freshMs &&
      collected.phase === phase();
    if (isFresh) return collected.status;
    return await (this.#collecting ??= this.#collect().finally(() => this.#collecting = undefined));
  }

  async #collect(): Promise<KmeStatus> {
    const { channels, counts } = this.#options;
    const config = this.#options.config();
    const { thisKme, otherKmes } = config;
    const [obstacle, entropy, keysWaiting, ...free] = await Promise.all([
      this.#obstacle(),
      this.#entropy(),
      this.#waiting(),
      ...this.links.map((kme) => this.#free.get(kme)?.() ?? null),
    ]);
    const phase = this.#options.phase();
    const now = new Date();
    // Of all that is asked, this one always goes to the database.
    const reason = phase !== "running"
      ? phase
      : entropy === null
      ? "the database does not answer"
      : obstacle ?? "the file system does not answer";
    const ready = reason === "";
    if (this.#readiness?.ready !== ready) this.#readiness = { ready, since: now.toISOString() };
    if (phase === "running" && reason !== this.#toldReason) {
      this.#toldReason = reason;
      this.#options.onReadiness?.(ready ? undefined : reason);
    }
    const facts: StatusFacts = {
      kme: thisKme.id.text,
      nickname: thisKme.nickname,
      version: VERSION,
      ready,
      reason: ready ? null : reason,
      uptime: Math.round(performance.now() - this.#begin) / 1000,
      links: this.links.map((kme, i) => this.#link(kme, free[i] ?? null, thisKme.maxKeyCount)),
      keysWaiting,
      relayed: otherKmes.flatMap((kme) =>
        isNeighbour(kme) ? [] : [{ kme: kme.id.text, through: kme.reachedThrough }]
      ),
      peers: channels.map(({ kmeId, health: { up, since, lastError } }) => ({
        kme: kmeId,
        up: up ?? null,
        since: since?.toISOString() ?? null,
        lastError: lastError ?? null,
      })),
      saes: this.#saes(config, now),
      certificates: this.#certificatesOf(config).map((known) => ({
        ...known,
        daysLeft: daysLeft(known, now),
      })),
      storeEncrypted: this.#options.store.encrypts,
      entropy,
      burnt: sum(Object.values(counts.burnt)),
      limited: counts.limited.size === 0
        ? undefined
        : [...counts.limited.values()].map((each) => ({ ...each })),
      audit: this.#audit(),
    };
    const status: KmeStatus = {
      ...facts,
      since: this.#readiness!.since,
      delivery: {
        links: deliverable(facts),
        problems: this.#times.update(findProblems(facts), now),
      },
    };
    this.#collected = { at: performance.now(), phase, status };
    return status;
  }

  #audit(): KmeStatus["audit"] {
    const state = this.#options.audit?.();
    if (state === undefined) return undefined;
    const { chain, sequence, hash, failure, dropped } = state;
    return { chain, sequence, head: hash, failure: failure ?? null, dropped };
  }

  #link(kme: KmeId, free: number | null, max: number): LinkStatus {
    const { requested, ingestion } = this.#options.counts;
    const { last, recent = [], stored = 0, servedAgain = 0 } = ingestion.get(kme) ?? {};
    if (this.#options.counts.devices.has(kme)) this.#used.add(kme);
    if ((free ?? 0) > 0 || stored > 0 || (requested.get(kme) ?? 0) > 0) this.#used.add(kme);
    return {
      kme,
      free,
      max,
      used: this.#used.has(kme),
      servedAgain,
      ...this.#agreement(kme),
      ...this.#device(kme),
      lastIngestion: last === undefined ? null : { at: last.at.toISOString(), file: last.file },
      files: recent.filter((record) => this.#isCurrent(kme, record)).map(({ at, error, ...file }) => ({
        ...file,
        at: at.toISOString(),
        error: error ?? null,
      })).toReversed(),
    };
  }

  /** A file that was refused is not shown any more once it is gone. */
  #isCurrent(link: KmeId, { file, error }: FileRecord): boolean {
    if (error === undefined) return true;
    const refused = this.#options.refusedFiles?.();
    return refused === undefined || refused.some((each) => each.link === link && each.file === file);
  }

  #device(kme: KmeId): Pick<LinkStatus, "device"> {
    const state = this.#options.devices?.().find(({ link }) => link === kme);
    if (state === undefined) return {};
    const { device, up, since, problem, stock, asks, lastMinute, unconfirmed } = state;
    return {
      device: {
        device,
        up: up ?? null,
        since: since?.toISOString() ?? null,
        problem: problem ?? null,
        stock: stock ?? null,
        asks,
        lastMinute,
        unconfirmed,
      },
    };
  }

  #agreement(kme: KmeId): Pick<LinkStatus, "unmatched" | "comparedAt" | "unmatchedSince" | "unmatchedFiles"> {
    const state = this.#options.stocks?.get(kme)?.state;
    if (state === undefined) return {};
    return {
      unmatched: state.blocks,
      comparedAt: state.comparedAt?.toISOString() ?? null,
      unmatchedSince: state.since?.toISOString() ?? null,
      unmatchedFiles: [...state.files],
    };
  }

  #saes({ thisKme, saes }: Config, now: Date): SaeStatus[] {
    return saes.filter(({ kmeId }) => kmeId === thisKme.id.text).map(({ id }) => {
      const { lastSeen, certificateEnd } = this.#options.counts.saes.get(id.text) ?? {};
      return {
        sae: id.text,
        lastSeen: lastSeen === undefined ? null : new Date(lastSeen).toISOString(),
        certificateDaysLeft: certificateEnd === undefined ? null : daysUntil(certificateEnd, now),
      };
    });
  }

  #certificatesOf(config: Config): readonly KnownCertificate[] {
    if (this.#certificates?.config !== config) this.#certificates = { config, known: certificatesOf(config) };
    return this.#certificates.known;
  }
}
