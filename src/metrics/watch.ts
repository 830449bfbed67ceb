/** Observes the parts of a KME at work, counts, and reports what an operator has to know. */
import type { KeyObserver } from "../delivery/key_observer.ts";
import type { AgreementState } from "../delivery/stock_agreement.ts";
import { log } from "../log.ts";
import type { Peer } from "../delivery/peer.ts";
import type { Incidents } from "../events/incidents.ts";
import type { RefusedRequest, SaeRequestObserver } from "../http/request_observer.ts";
import type { BlockStore } from "../store/block_store.ts";
import { type DamagedKey, describeDamaged } from "../store/damaged_key.ts";
import type { IngestedFile, RefusedFile } from "../ingest/ingestion_options.ts";
import type { KmeId, SaeId } from "../domain/ids.ts";
import type { Limit } from "../domain/refusals.ts";
import type { RefusedClient } from "../tls/client_refusal.ts";
import { RateLimitedLog } from "../rate_limited_log.ts";
import { DEVICE_KEYS_NAME } from "../domain/stock_questions.ts";
import { DEVICE_LOSSES, type DeviceLoss, type DeviceObserver } from "../ingest/device_observer.ts";
import {
  add,
  type Counts,
  type DeviceCounts,
  type FileRecord,
  type Listener,
  noCounts,
  type Outcome,
} from "./counts.ts";
import { Histogram } from "./histogram.ts";

/** Files of a link that are kept. */
const MAX_FILES = 20;

/** SAEs whose last request is remembered: more than a KME has, unless its configuration is reloaded again and again. */
const MAX_SAES = 10_000;

const LISTENER_NAMES: Record<Listener, string> = { sae: "SAE", kme: "inter-KME", skip: "SKIP" };

type Refusal = Omit<RefusedRequest, "client">;

export class Watch {
  readonly counts: Counts;
  readonly #incidents: Incidents;
  readonly #refusedLog = new RateLimitedLog("http");
  readonly #damageLog = new RateLimitedLog("store");
  readonly #stockLog = new RateLimitedLog("delivery");

  /**
   * @param links ids of the KMEs that a pool is shared with, including this one.
   * @param listeners that this KME has.
   */
  constructor(
    links: readonly KmeId[],
    incidents: Incidents,
    listeners: readonly Listener[] = ["sae", "kme"],
  ) {
    this.counts = noCounts(links, listeners);
    this.#incidents = incidents;
  }

  /** For delivery and housekeeping. */
  readonly keys: KeyObserver = {
    requested: (kme) => add(this.counts.requested, kme, 1),
    delivered: (kme, keys) => add(this.counts.delivered, kme, keys),
    activated: (origin, keys) => add(this.counts.activated, origin, keys),
    repeated: (keys) => {
      this.counts.repeated += keys;
    },
    collected: (keys) => {
      this.counts.collected += keys;
    },
    expired: (keys) => {
      this.counts.expired += keys.length;
    },
    blocksRefused: (kme, blocks, files) => this.#blocksRefused(kme, blocks, files),
    limited: (sae, limit) => this.#limited(sae, limit),
    burnt: (reason, blocks) => {
      this.counts.burnt[reason] += blocks;
    },
  };

  /** For the QKD devices of links. */
  readonly devices: DeviceObserver = {
    stored: (link, blocks, asked) => {
      this.#device(link)[asked ? "requested" : "fetched"] += blocks;
      const counts = this.counts.ingestion.get(link);
      if (counts === undefined || blocks === 0) return;
      counts.stored += blocks;
      counts.last = { at: new Date(), file: DEVICE_KEYS_NAME };
    },
    lost: (link, loss, blocks) => {
      this.#device(link).lost[loss] += blocks;
      const message = `${blocks} blocks of the device of the link with KME ${link} are not used: ${loss}`;
      this.#stockLog.warn(`device ${link} ${loss}`, "{message}", { message });
      this.#incidents.report({ kind: "device", severity: "warning", message, same: `${link} ${loss}` });
    },
    rest: (link, bits) => {
      this.#device(link).restBits += bits;
    },
    problem: (link, problem) => {
      const message = problem === undefined
        ? `the devices of the link with KME ${link} give keys again`
        : `the devices of the link with KME ${link} give no keys: ${problem}`;
      log("ingest")[problem === undefined ? "info" : "warn"]("{message}", { message });
      this.#incidents.report({
        kind: "device",
        severity: problem === undefined ? "info" : "warning",
        message,
        same: `${link} ${problem === undefined}`,
      });
    },
    conflict: (link, conflict) => {
      const ended = conflict === undefined;
      const message = ended
        ? `both ends of the link with KME ${link} agree on which of them requests keys from its device`
        : `key_source of the link with KME ${link}: ${conflict}`;
      log("ingest")[ended ? "info" : "warn"]("{message}", { message });
      const severity = ended ? "info" : "warning";
      this.#incidents.report({ kind: "device", severity, message, same: `${link} direction ${ended}` });
    },
  };

  /** Counts from the start, so that the first block is an increase. */
  hasDevice(link: KmeId): void {
    this.#device(link);
  }

  #device(link: KmeId): DeviceCounts {
    return this.counts.devices.getOrInsertComputed(link, () => ({
      requested: 0,
      fetched: 0,
      lost: Object.fromEntries(DEVICE_LOSSES.map((loss) => [loss, 0])) as Record<DeviceLoss, number>,
      restBits: 0,
    }));
  }

  /** For the application of a listener. */
  requests(listener: Listener): Omit<SaeRequestObserver, "refused"> & { refused(request: Refusal): void } {
    const { saes, durations } = this.counts;
    return {
      refused: (request) => this.#refused(listener, request),
      seen: (sae, certificateEnd) => {
        const known = saes.get(sae);
        if (known !== undefined) {
          known.lastSeen = Date.now();
          known.certificateEnd = certificateEnd;
        } else if (saes.size < MAX_SAES) saes.set(sae, { lastSeen: Date.now(), certificateEnd });
      },
      answered: (operation, milliseconds) => durations[operation].record(milliseconds / 1000),
    };
  }

  #refused(listener: Listener, { status, reason, caller, request, message }: Refusal): void {
    const { refusals } = this.counts;
    const name = `${listener} ${status} ${reason}`;
    const known = refusals.get(name);
    if (known === undefined) refusals.set(name, { listener, status, reason, count: 1 });
    else known.count++;
    this.#refusedLog.warn(
      name,
      "the {listener} interface refused a request of {caller}: {request}: {status} {reason}: {answer}",
      { listener: LISTENER_NAMES[listener], caller, request, status, reason, answer: message },
    );
    this.#incidents.report({
      kind: "refused request",
      severity: reason === "internal" || reason === "database" ? "error" : "warning",
      message: `${caller}: ${request}: ${status} ${message}`,
      same: `${listener} ${status} ${reason} ${caller}`,
    });
  }

  /** For a file of CRLs, which logs its problems itself. */
  crl(use: string, { problems, nextUpdate }: { problems: readonly unknown[]; nextUpdate?: number }): void {
    this.counts.crls.set(use, { problems: problems.length, nextUpdate });
  }

  /** For the front of a listener, which logs them itself. */
  clientRefused(
    listener: Listener,
    { reason, message }: RefusedClient,
  ): void {
    const name = `${listener} ${reason}`;
    this.counts.refusedClients.get(name)!.count++;
    this.#incidents.report({
      kind: "refused handshake",
      severity: "warning",
      message: `${LISTENER_NAMES[listener]} interface: ${message}`,
      same: name,
    });
  }

  /** @param reason one line without statements and parameters. */
  databaseFailed(reason: string): void {
    this.counts.databaseErrors++;
    this.#incidents.report({
      kind: "database",
      severity: "error",
      message: `the database failed: ${reason}`,
      same: "failed",
    });
  }

  /** The stored bits of a block or key were altered or moved. */
  damaged(key: DamagedKey): void {
    this.counts.damaged[key.what]++;
    const message = describeDamaged(key);
    this.#damageLog.warn(key.what, "{message}", { message });
    this.#incidents.report({ kind: "database", severity: "error", message, same: `damaged ${key.what}` });
  }

  /** The audit log cannot be written, or, without a reason, can be written again. */
  auditFailed(reason: string | undefined): void {
    if (reason !== undefined) this.counts.auditFailures++;
    this.#incidents.report({
      kind: "audit",
      severity: reason === undefined ? "info" : "error",
      message: reason === undefined
        ? "the audit log can be written again"
        : `the audit log cannot be written, so no key is given out: ${reason}`,
    });
  }

  /** No key can be handed out any more for this reason; without one: they can again. */
  readiness(reason: string | undefined): void {
    const message = reason === undefined
      ? "keys can be handed out again"
      : `no keys can be handed out: ${reason}`;
    log("kme")[reason === undefined ? "info" : "error"]("{message}", { message });
    this.#incidents.report({ kind: "program", severity: reason === undefined ? "info" : "error", message });
  }

  /** A key event was published. */
  happened(): void {
    this.counts.events++;
  }

  /** A changed configuration was applied. */
  reloadApplied(message: string): void {
    this.counts.reloads.applied++;
    this.#incidents.report({ kind: "reload", severity: "info", message });
  }

  /** A changed configuration was refused: the KME continues with the one before. */
  reloadRefused(reason: string): void {
    this.counts.reloads.refused++;
    this.#incidents.report({
      kind: "reload",
      severity: "error",
      message: `the configuration was not reloaded: ${reason}`,
    });
  }

  /** Counts what ingestion stores; passes everything on. */
  blockStore(store: BlockStore): BlockStore {
    return {
      databaseId: store.databaseId,
      get blocking() {
        return store.blocking;
      },
      get requests() {
        return store.requests;
      },
      fileProgress: (link, names) => store.fileProgress(link, names),
      freeBlocks: (link) => store.freeBlocks(link),
      addBlocks: async (batch) => {
        const added = await store.addBlocks(batch);
        const counts = this.counts.ingestion.get(batch.link);
        if (counts !== undefined) {
          counts.stored += added.stored;
          counts.known += added.known;
          if (added.stored > 0) counts.last = { at: new Date(), file: batch.file.name };
          const record = this.#file(batch.link, batch.file.name);
          record.stored += added.stored;
          record.known += added.known;
        }
        return added;
      },
    };
  }

  ingested({ link, file }: IngestedFile): void {
    const counts = this.counts.ingestion.get(link);
    if (counts === undefined) return;
    counts.files++;
    const record = this.#file(link, file);
    record.complete = true;
    record.error = undefined;
  }

  /** A key file could not be read, or was refused. */
  notIngested({ link, file, reason }: RefusedFile): void {
    const counts = this.counts.ingestion.get(link);
    if (counts === undefined) return;
    counts.refused++;
    this.#file(link, file).error = reason;
    this.#incidents.report({
      kind: "key files",
      severity: "warning",
      message: `key file ${file} of link ${link} was not ingested: ${reason}`,
    });
  }

  /** A file of a link has different blocks at the two ends, or all files agree again. */
  stockDiffers({ link, since, files }: AgreementState): void {
    const names = files.slice(0, 5).map(({ name, here, there }) =>
      `${name} (${here} here, ${there} there only)`
    );
    const message = since === undefined
      ? `both ends of the link with KME ${link} have the same blocks again`
      : `the ends of the link with KME ${link} have different blocks: ${names.join(", ")}${
        files.length > 5 ? ", ..." : ""
      }`;
    if (since === undefined) log("delivery").info("{message}", { message });
    else this.#stockLog.warn(`different blocks ${link}`, "{message}", { message });
    this.#incidents.report({
      kind: "stock",
      severity: since === undefined ? "info" : "warning",
      message,
      same: `${link} ${since === undefined}`,
    });
  }

  #blocksRefused(kme: KmeId, blocks: number, files: readonly string[]): void {
    add(this.counts.refusedBlocks, kme, blocks);
    const names = files.length === 0 ? "" : `: blocks of ${files.slice(0, 5).join(", ")}`;
    const message = `KME ${kme} refused ${blocks} blocks, which are tried again later${names}${
      files.length > 5 ? ", ..." : ""
    }`;
    this.#stockLog.warn(`refused blocks ${kme}`, "{message}", { message });
    this.#incidents.report({ kind: "stock", severity: "warning", message, same: `refused blocks ${kme}` });
  }

  #limited(sae: SaeId, limit: Limit): void {
    this.counts.limited.getOrInsertComputed(`${sae} ${limit}`, () => ({ sae, limit, count: 0 })).count++;
  }

  /** A key file is ingested whose keys another database may have given out. */
  servedAgain({ link, file, reason }: RefusedFile): void {
    const counts = this.counts.ingestion.get(link);
    if (counts === undefined) return;
    counts.servedAgain++;
    this.#incidents.report({
      kind: "key files",
      severity: "warning",
      message: `key file ${file} of link ${link} ${reason}`,
      same: `served again ${link}`,
    });
  }

  #file(link: KmeId, file: string): FileRecord {
    const { recent } = this.counts.ingestion.get(link)!;
    const place = recent.findIndex((record) => record.file === file);
    const record = place < 0
      ? { file, at: new Date(), stored: 0, known: 0, complete: false }
      : recent.splice(place, 1)[0]!;
    record.at = new Date();
    recent.push(record);
    if (recent.length > MAX_FILES) recent.shift();
    return record;
  }

  /** Measures the activations at a peer; passes everything on. */
  peer(peer: Peer): Peer {
    const { kme } = peer;
    return {
      kme,
      ability: () => peer.ability(),
      takeBack: (request) => peer.takeBack(request),
      askStock: (question) => peer.askStock(question),
      activate: async (request) => {
        const begin = performance.now();
        const answer = await peer.activate(request);
        const { activated } = answer;
        const outcome = activated.length === request.keyIds.length ? "activated" : outcomeOf(answer);
        this.activation(kme, outcome, performance.now() - begin);
        return answer;
      },
      send: async (transaction) => {
        const begin = performance.now();
        const answer = await peer.send(transaction);
        const outcome = answer.kind === "rejected" ? "refused" : answer.kind;
        this.activation(kme, outcome, performance.now() - begin);
        return answer;
      },
    };
  }

  /** An exchange with a peer in which keys were to be activated. */
  activation(kme: KmeId, outcome: Outcome, milliseconds: number): void {
    const { activations } = this.counts;
    const name = `${kme} ${outcome}`;
    let known = activations.get(name);
    if (known === undefined) activations.set(name, known = { kme, outcome, durations: new Histogram() });
    known.durations.record(milliseconds / 1000);
  }
}

function outcomeOf(
  { unknown, untouched }: { unknown: readonly unknown[]; untouched: readonly unknown[] },
): Outcome {
  if (unknown.length > 0) return "unknown";
  return untouched.length > 0 ? "unreached" : "refused";
}
