/** The figures as Prometheus reads them. */
import { collectDefaultMetrics, Counter, Gauge, type Metric, Registry } from "prom-client";
import type { KmeStatus } from "../console/status.ts";
import { VERSION } from "../version.ts";
import type { Counts } from "./counts.ts";
import type { Watch } from "./watch.ts";

/** prom-client's own that break Prometheus' naming, or say nothing about Deno. */
const LEFT_OUT = [
  "nodejs_active_handles",
  "nodejs_active_handles_total",
  "nodejs_active_requests",
  "nodejs_active_requests_total",
  "nodejs_active_resources",
  "nodejs_active_resources_total",
  "nodejs_heap_space_size_total_bytes",
  "nodejs_heap_space_size_used_bytes",
  "nodejs_heap_space_size_available_bytes",
  "nodejs_version_info",
];

interface Family<Label extends string> {
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly Label[];
}

/** Value of each combination of labels; without a value there is no line. */
type Sample<Label extends string> = readonly [
  labels: Record<Label, string>,
  value: number | null | undefined,
];

type Read<Label extends string> = (counts: Counts, status: KmeStatus) => Iterable<Sample<Label>>;

export class Exposition {
  readonly #registry = new Registry();
  readonly #watch: Watch;
  readonly #fill: ((status: KmeStatus) => void)[] = [];

  constructor(watch: Watch) {
    this.#watch = watch;
    collectDefaultMetrics({ register: this.#registry });
    for (const name of LEFT_OUT) this.#registry.removeSingleMetric(name);
    this.#registry.registerMetric(watch.activations.histogram as unknown as Metric);
    this.#define();
  }

  /** `Content-Type` of the text. */
  get contentType(): string {
    return this.#registry.contentType;
  }

  /** @param status what is known now; the rest was counted. */
  async text(status: KmeStatus): Promise<string> {
    for (const fill of this.#fill) fill(status);
    return await this.#registry.metrics();
  }

  #define(): void {
    this.#gauge({
      name: "kme_build_info",
      help: "Always 1; the program's version and that of its runtime",
      labels: ["version", "deno"],
    }, () => [[{ version: VERSION, deno: Deno.version.deno }, 1]]);
    this.#gauge(
      { name: "kme_ready", help: "Whether requests of SAEs can be answered (1) or not (0)" },
      (_, { ready }) => [[{}, ready ? 1 : 0]],
    );

    this.#gauge(
      {
        name: "kme_link_free_blocks",
        help: "Blocks of 256 bits in stock, by the KME they are shared with",
        labels: ["kme"],
      },
      (_, { links }) => links.map(({ kme, free }) => [{ kme }, free]),
    );
    this.#gauge(
      { name: "kme_link_max_blocks", help: "Blocks that a link's stock may hold", labels: ["kme"] },
      (_, { links }) => links.map(({ kme, max }) => [{ kme }, max]),
    );
    this.#gauge(
      { name: "kme_keys_waiting", help: "Keys that a slave SAE of this KME has not fetched yet" },
      (_, { keysWaiting }) => [[{}, keysWaiting]],
    );
    this.#counter(
      {
        name: "kme_keys_delivered_total",
        help: "Keys given to master SAEs, by the KME of the (first) slave",
        labels: ["kme"],
      },
      ({ delivered }) => byKme(delivered),
    );
    this.#counter(
      {
        name: "kme_keys_activated_total",
        help: "Keys that masters of other KMEs got for slave SAEs here, by that KME",
        labels: ["kme"],
      },
      ({ activated }) => byKme(activated),
    );
    this.#counter(
      { name: "kme_keys_collected_total", help: "Keys fetched by slave SAEs" },
      ({ collected }) => [[{}, collected]],
    );
    this.#counter(
      { name: "kme_keys_expired_total", help: "Keys that expired before a slave SAE had fetched them" },
      ({ expired }) => [[{}, expired]],
    );
    this.#counter(
      {
        name: "kme_blocks_burnt_total",
        help:
          "Blocks that became part of no key: a peer refused them, or nobody can say whether it used them (unsettled)",
        labels: ["reason"],
      },
      ({ burnt }) => Object.entries(burnt).map(([reason, blocks]) => [{ reason }, blocks]),
    );
    this.#counter(
      {
        name: "kme_requests_refused_total",
        help: "Requests answered with an error, by listener, status code and reason",
        labels: ["listener", "status", "reason"],
      },
      ({ refusals }) =>
        refusals.values().map(({ listener, status, reason, count }) => [
          { listener, status: String(status), reason },
          count,
        ]),
    );

    this.#counter(
      { name: "kme_ingested_blocks_total", help: "Blocks stored from key files", labels: ["kme"] },
      ({ ingestion }) => ingestion.entries().map(([kme, { stored }]) => [{ kme }, stored]),
    );
    this.#counter(
      {
        name: "kme_ingestion_known_blocks_total",
        help: "Blocks of key files left out because they had been stored before",
        labels: ["kme"],
      },
      ({ ingestion }) => ingestion.entries().map(([kme, { known }]) => [{ kme }, known]),
    );
    this.#counter(
      { name: "kme_ingested_files_total", help: "Key files taken up completely", labels: ["kme"] },
      ({ ingestion }) => ingestion.entries().map(([kme, { files }]) => [{ kme }, files]),
    );
    this.#gauge(
      {
        name: "kme_last_ingestion_timestamp_seconds",
        help: "When blocks were last stored from a key file, since the process started",
        labels: ["kme"],
      },
      ({ ingestion }) =>
        ingestion.entries().map(([kme, { last }]) => [{ kme }, last && last.at.getTime() / 1000]),
    );

    this.#gauge(
      {
        name: "kme_peer_up",
        help: "Whether a peer answered the last message (1) or not (0)",
        labels: ["kme"],
      },
      (_, { peers }) => peers.map(({ kme, up }) => [{ kme }, up === null ? null : up ? 1 : 0]),
    );
    this.#counter(
      { name: "kme_database_errors_total", help: "Failures of the database" },
      ({ databaseErrors }) => [[{}, databaseErrors]],
    );
    this.#gauge(
      {
        name: "kme_certificate_expiry_timestamp_seconds",
        help: "When a certificate expires, by the configuration's member that names it",
        labels: ["member", "subject", "serial"],
      },
      (_, { certificates }) =>
        certificates.map(({ member, subject, serial, notAfter }) => [
          { member, subject, serial },
          Date.parse(notAfter) / 1000,
        ]),
    );
    this.#gauge(
      {
        name: "kme_key_entropy_ratio",
        help:
          "Shannon entropy of the bytes of all blocks ever stored, as a part of the 8 bits a byte can have",
      },
      (_, { entropy }) => [[{}, entropy === null ? null : entropy / 8]],
    );
    this.#counter(
      { name: "kme_events_total", help: "Events of keys that were published to log and console" },
      ({ events }) => [[{}, events]],
    );
  }

  #gauge<Label extends string = never>({ name, help, labels = [] }: Family<Label>, read: Read<Label>): void {
    const gauge = new Gauge({ name, help, labelNames: [...labels], registers: [this.#registry] });
    this.#fill.push((status) => {
      gauge.reset();
      // Without labels a reset leaves a 0 behind, which nobody has measured.
      if (labels.length === 0) gauge.remove();
      for (const [values, value] of read(this.#watch.counts, status)) {
        if (value !== null && value !== undefined) gauge.set(values, value);
      }
    });
  }

  #counter<Label extends string = never>(
    { name, help, labels = [] }: Family<Label>,
    read: Read<Label>,
  ): void {
    const counter = new Counter({ name, help, labelNames: [...labels], registers: [this.#registry] });
    this.#fill.push((status) => {
      counter.reset();
      for (const [values, value] of read(this.#watch.counts, status)) counter.inc(values, value ?? 0);
    });
  }
}

function byKme(counts: ReadonlyMap<string, number>): Iterable<Sample<"kme">> {
  return counts.entries().map(([kme, count]) => [{ kme }, count] as const);
}
