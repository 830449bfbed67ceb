/**
 * The metrics in the Prometheus text format. Written here: prom-client cannot be compiled into a single binary,
 * OpenTelemetry's exporter would add 13 MB to it, and the format is a few lines.
 */
import { droppedLogLines } from "../log.ts";
import type { DeviceStatusOfLink, KmeStatus } from "./kme_status.ts";
import { VERSION } from "../version.ts";
import type { Counts } from "./counts.ts";
import { DURATION_BOUNDS, type Histogram } from "./histogram.ts";
import { type ProcessFigures, watchProcess } from "./process.ts";
import type { Watch } from "./watch.ts";

interface Description {
  readonly name: string;
  readonly help: string;
}

/** A metric with all its combinations of labels. */
interface Family extends Description {
  readonly type: "counter" | "gauge";
  readonly read: Read;
}

/** Value for a combination of labels; without a value there is no line. */
type Sample = readonly [labels: Readonly<Record<string, string>>, value: number | null | undefined];

type Read = (counts: Counts, status: KmeStatus) => Iterable<Sample>;

export class Exposition {
  /** `Content-Type` of the text. */
  readonly contentType = "text/plain; version=0.0.4; charset=utf-8";
  readonly #families: Family[] = [];
  readonly #watch: Watch;
  readonly #processWatch = watchProcess();
  /** What the current answer is made of. */
  #status!: KmeStatus;
  #process!: ProcessFigures;

  constructor(watch: Watch) {
    this.#watch = watch;
    this.#define();
    this.#defineProcess();
  }

  /** @param status of the KME now. */
  text(status: KmeStatus): string {
    this.#status = status;
    this.#process = this.#processWatch.read();
    const lines = [
      ...this.#families.flatMap((family) => [...formatFamily(family, this.#watch.counts, status)]),
      ...this.#durations(),
    ];
    return lines.map((line) => `${line}\n`).join("");
  }

  /** Stops measuring the process. */
  close(): void {
    this.#processWatch.close();
  }

  #durations(): string[] {
    const { durations, activations } = this.#watch.counts;
    return [
      ...formatHistograms(
        "kme_request_duration_seconds",
        "Time from a complete request of an SAE to its answer with keys",
        Object.entries(durations).map(([operation, histogram]) => [{ operation }, histogram] as const),
      ),
      ...formatHistograms(
        "kme_activation_duration_seconds",
        "Time from sending keys to a peer until its answer, by the outcome",
        [...activations.values()].map((each) =>
          [{ kme: each.kme, outcome: each.outcome }, each.durations] as const
        ),
      ),
    ];
  }

  #define(): void {
    this.#gauge({
      name: "kme_build_info",
      help: "Always 1; the program's version and that of its runtime",
    }, () => [[{ version: VERSION, deno: Deno.version.deno }, 1]]);
    this.#gauge(
      { name: "kme_ready", help: "Whether requests of SAEs can be answered (1) or not (0)" },
      (_, { ready }) => [[{}, ready ? 1 : 0]],
    );

    this.#gauge(
      {
        name: "kme_link_free_blocks",
        help: "Free blocks of 256 bits, by the KME with which they are shared",
      },
      (_, { links }) => links.map(({ kme, free }) => [{ kme }, free]),
    );
    this.#gauge(
      { name: "kme_link_max_blocks", help: "Limit of a link's stock" },
      (_, { links }) => links.map(({ kme, max }) => [{ kme }, max]),
    );
    this.#gauge(
      { name: "kme_keys_waiting", help: "Keys that a slave SAE of this KME has not fetched yet" },
      (_, { keysWaiting }) => [[{}, keysWaiting]],
    );
    this.#counter(
      {
        name: "kme_key_requests_total",
        help: "Get key requests, by the link whose blocks the keys are made of",
      },
      ({ requested }) => byKme(requested),
    );
    this.#counter(
      {
        name: "kme_keys_delivered_total",
        help: "Keys delivered to master SAEs, by the KME of the (first) slave",
      },
      ({ delivered }) => byKme(delivered),
    );
    this.#counter(
      {
        name: "kme_keys_activated_total",
        help: "Keys that masters of other KMEs got for slave SAEs here, by that KME",
      },
      ({ activated }) => byKme(activated),
    );
    this.#counter(
      { name: "kme_keys_collected_total", help: "Keys fetched by slave SAEs" },
      ({ collected }) => [[{}, collected]],
    );
    this.#counter(
      {
        name: "kme_keys_repeated_total",
        help: "Keys that slave SAEs fetched again within answer_repeat_seconds",
      },
      ({ repeated }) => [[{}, repeated]],
    );
    this.#counter(
      { name: "kme_keys_expired_total", help: "Keys that expired before a slave SAE had fetched them" },
      ({ expired }) => [[{}, expired]],
    );
    this.#counter(
      {
        name: "kme_blocks_burnt_total",
        help:
          "Blocks that became part of no key: a peer refused them, or it is not known whether it used them (unresolved)",
      },
      ({ burnt }) => Object.entries(burnt).map(([reason, blocks]) => [{ reason }, blocks]),
    );
    this.#counter(
      {
        name: "kme_peer_refused_blocks_total",
        help: "Blocks that a qkd_kme_server refused, by its KME; a block counts each time",
      },
      ({ refusedBlocks }) => byKme(refusedBlocks),
    );
    this.#counter(
      {
        name: "kme_requests_refused_total",
        help: "Requests answered with an error, by listener, status code and reason",
      },
      ({ refusals }) =>
        refusals.values().map(({ listener, status, reason, count }) => [
          { listener, status: String(status), reason },
          count,
        ]),
    );

    this.#counter(
      {
        name: "kme_limited_requests_total",
        help: "Requests of master SAEs that were refused because of a limit, by SAE and limit",
      },
      ({ limited }) => limited.values().map(({ sae, limit, count }) => [{ sae, limit }, count]),
    );

    this.#gauge(
      {
        name: "kme_link_unmatched_blocks",
        help: "Blocks of this KME that the other end of the link does not have",
      },
      (_, { links }) =>
        links.flatMap(({ kme, unmatched }) => unmatched === undefined ? [] : [[{ kme }, unmatched]]),
    );
    this.#gauge(
      {
        name: "kme_link_unmatched_since_seconds",
        help: "Seconds for which the two ends of a link have had different blocks; 0: they agree",
      },
      (_, { links }) =>
        links.flatMap(({ kme, unmatchedSince }) =>
          unmatchedSince === undefined ? [] : [
            [
              { kme },
              unmatchedSince === null ? 0 : (Date.now() - Date.parse(unmatchedSince)) / 1000,
            ],
          ]
        ),
    );

    this.#counter(
      {
        name: "kme_tls_refused_clients_total",
        help: "TLS clients that were refused, by listener and reason",
      },
      ({ refusedClients }) =>
        refusedClients.values().map(({ listener, reason, count }) => [{ listener, reason }, count]),
    );

    this.#gauge(
      {
        name: "kme_crl_problems",
        help:
          "Problems of a file of certificate revocation lists: unreadable, not of the CA, older, out of date, not stored",
      },
      ({ crls }) => crls.entries().map(([crl, { problems }]) => [{ crl }, problems]),
    );
    this.#gauge(
      {
        name: "kme_crl_next_update_timestamp_seconds",
        help: "When the first certificate revocation list of a file is out of date",
      },
      ({ crls }) => crls.entries().map(([crl, { nextUpdate }]) => [{ crl }, nextUpdate && nextUpdate / 1000]),
    );

    this.#counter(
      { name: "kme_ingested_blocks_total", help: "Blocks stored from key files and QKD devices" },
      ({ ingestion }) => ingestion.entries().map(([kme, { stored }]) => [{ kme }, stored]),
    );
    this.#counter(
      {
        name: "kme_ingestion_known_blocks_total",
        help: "Blocks of key files that were skipped because they had been stored before",
      },
      ({ ingestion }) => ingestion.entries().map(([kme, { known }]) => [{ kme }, known]),
    );
    this.#counter(
      { name: "kme_ingested_files_total", help: "Key files ingested completely" },
      ({ ingestion }) => ingestion.entries().map(([kme, { files }]) => [{ kme }, files]),
    );
    this.#counter(
      { name: "kme_refused_files_total", help: "Key files that were refused or could not be read" },
      ({ ingestion }) => ingestion.entries().map(([kme, { refused }]) => [{ kme }, refused]),
    );
    this.#gauge(
      {
        name: "kme_served_again_files",
        help: "Key files ingested by this process that were ingested into another database before",
      },
      ({ ingestion }) => ingestion.entries().map(([kme, { servedAgain }]) => [{ kme }, servedAgain]),
    );
    this.#gauge(
      {
        name: "kme_last_ingestion_timestamp_seconds",
        help: "When blocks were last stored from a key file or QKD device, since the process started",
      },
      ({ ingestion }) =>
        ingestion.entries().map(([kme, { last }]) => [{ kme }, last && last.at.getTime() / 1000]),
    );

    this.#gauge(
      {
        name: "kme_device_up",
        help: "Whether the QKD device of a link answered the last request (1) or not (0)",
      },
      (_, { links }) => ofDevices(links, ({ up }) => up === null ? null : up ? 1 : 0),
    );
    this.#gauge(
      {
        name: "kme_device_problem",
        help: "Whether something keeps keys of the QKD devices of a link from coming (1) or not (0)",
      },
      (_, { links }) => ofDevices(links, ({ problem }) => problem === null ? 0 : 1),
    );
    this.#gauge(
      {
        name: "kme_device_stored_keys",
        help: "Keys in the stock of a link's QKD device, as its status says",
      },
      (_, { links }) => ofDevices(links, ({ stock }) => stock),
    );
    this.#gauge(
      {
        name: "kme_device_unconfirmed_blocks",
        help: "Blocks requested from a link's QKD device that the other end has not confirmed yet",
      },
      (_, { links }) => ofDevices(links, ({ unconfirmed }) => unconfirmed),
    );
    this.#counter(
      {
        name: "kme_device_blocks_total",
        help: "Blocks from a link's QKD device that came into stock, by the KME that had requested them",
      },
      ({ devices }) =>
        devices.entries().flatMap(([kme, { requested, fetched }]): Sample[] => [
          [{ kme, requested_by: "this" }, requested],
          [{ kme, requested_by: "other" }, fetched],
        ]),
    );
    this.#counter(
      {
        name: "kme_device_lost_blocks_total",
        help: "Blocks of a link's QKD device that came into no stock, by the reason",
      },
      ({ devices }) =>
        devices.entries().flatMap(([kme, { lost }]) =>
          Object.entries(lost).map(([reason, blocks]): Sample => [{ kme, reason }, blocks])
        ),
    );
    this.#counter(
      {
        name: "kme_device_rest_bits_total",
        help: "Bits of keys of a link's QKD device that do not make a whole block of 256 bits",
      },
      ({ devices }) => devices.entries().map(([kme, { restBits }]) => [{ kme }, restBits]),
    );

    this.#gauge(
      {
        name: "kme_peer_up",
        help: "Whether a peer answered the last message or probe (1) or not (0)",
      },
      (_, { peers }) => peers.map(({ kme, up }) => [{ kme }, up ? 1 : 0]),
    );
    this.#counter(
      { name: "kme_database_errors_total", help: "Database errors" },
      ({ databaseErrors }) => [[{}, databaseErrors]],
    );
    this.#gauge(
      {
        name: "kme_store_encrypted",
        help: "Whether the bits of blocks and keys are encrypted in the database (1) or not (0)",
      },
      (_, { storeEncrypted }) => [[{}, storeEncrypted ? 1 : 0]],
    );
    this.#counter(
      {
        name: "kme_store_damaged_total",
        help:
          "Blocks taken out of the stock, and keys not delivered, because their stored bits were altered or moved",
      },
      ({ damaged }) => Object.entries(damaged).map(([what, count]) => [{ what }, count]),
    );
    this.#gauge(
      { name: "kme_audit_writable", help: "Whether the audit log can be written (1) or not (0)" },
      (_, { audit }) => audit === undefined ? [] : [[{}, audit.failure === null ? 1 : 0]],
    );
    this.#gauge(
      { name: "kme_audit_sequence", help: "Number of the last durable record of the audit log" },
      (_, { audit }) => audit === undefined ? [] : [[{ chain: String(audit.chain) }, audit.sequence]],
    );
    this.#gauge(
      {
        name: "kme_audit_head",
        help: "The first 52 bits of the hash of the last durable record of the audit log, as an integer",
      },
      (_, { audit }) =>
        audit === undefined
          ? []
          : [[{ chain: String(audit.chain) }, Number.parseInt(audit.head.slice(0, 13), 16)]],
    );
    this.#counter(
      {
        name: "kme_audit_failures_total",
        help: "Times at which the audit log could not be written any more",
      },
      ({ auditFailures }, { audit }) => audit === undefined ? [] : [[{}, auditFailures]],
    );
    this.#counter(
      {
        name: "kme_audit_dropped_records_total",
        help: "Records dropped while the audit log could not be written, none of a key that was given out",
      },
      (_, { audit }) => audit === undefined ? [] : [[{}, audit.dropped]],
    );
    this.#gauge(
      {
        name: "kme_certificate_expiry_timestamp_seconds",
        help: "When a certificate expires, by the member of the configuration that names it",
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
        help: "Shannon entropy of the bytes of all blocks ever stored, divided by the maximum of 8 bits",
      },
      (_, { entropy }) => [[{}, entropy === null ? null : entropy / 8]],
    );
    this.#counter(
      { name: "kme_reloads_total", help: "Reloads of the configuration, by their outcome" },
      ({ reloads }) => Object.entries(reloads).map(([outcome, count]) => [{ outcome }, count]),
    );
    this.#counter(
      { name: "kme_events_total", help: "Key events in the log and on the console" },
      ({ events }) => [[{}, events]],
    );
    this.#counter(
      { name: "kme_log_lines_dropped_total", help: "Log lines dropped because stderr was not read" },
      () => [[{}, droppedLogLines()]],
    );
  }

  #defineProcess(): void {
    this.#counter(
      { name: "process_cpu_seconds_total", help: "CPU time of the process" },
      () => [[{}, this.#process.cpuSeconds]],
    );
    this.#gauge(
      { name: "process_start_time_seconds", help: "When the process started" },
      () => [[{}, this.#process.startTime]],
    );
    this.#gauge(
      { name: "process_resident_memory_bytes", help: "Memory of the process" },
      () => [[{}, this.#process.residentBytes]],
    );
    this.#gauge(
      { name: "process_heap_bytes", help: "Memory of JavaScript objects" },
      () => [[{}, this.#process.heapBytes]],
    );
    this.#gauge(
      { name: "process_open_fds", help: "Open files and connections" },
      () => [[{}, this.#process.openFiles]],
    );
    this.#gauge(
      { name: "process_max_fds", help: "Files and connections that may be open" },
      () => [[{}, this.#process.maxFiles]],
    );
    this.#gauge(
      {
        name: "kme_event_loop_lag_p99_seconds",
        help: "99th percentile of the delay of the event loop since the last scrape",
      },
      () => [[{}, this.#process.eventLoopLag]],
    );
  }

  #gauge(description: Description, read: Read): void {
    this.#families.push({ ...description, type: "gauge", read });
  }

  #counter(description: Description, read: Read): void {
    this.#families.push({ ...description, type: "counter", read });
  }
}

/** Families without samples are left out. */
function* formatFamily(family: Family, counts: Counts, status: KmeStatus): Generator<string> {
  let isFirst = true;
  for (const [labels, value] of family.read(counts, status)) {
    if (value === null || value === undefined) continue;
    if (isFirst) yield* formatHead(family, family.type);
    isFirst = false;
    const text = formatLabels(labels);
    yield `${family.name}${text === "" ? "" : `{${text}}`} ${value}`;
  }
}

function* formatHead({ name, help }: Description, type: string): Generator<string> {
  yield `# HELP ${name} ${help}`;
  yield `# TYPE ${name} ${type}`;
}

function* formatHistograms(
  name: string,
  help: string,
  histograms: readonly (readonly [labels: Readonly<Record<string, string>>, histogram: Histogram])[],
): Generator<string> {
  yield* formatHead({ name, help }, "histogram");
  for (const [labels, { buckets, sum }] of histograms) {
    const text = formatLabels(labels);
    let count = 0;
    for (const [i, inBucket] of buckets.entries()) {
      count += inBucket;
      yield `${name}_bucket{${text},le="${DURATION_BOUNDS[i] ?? "+Inf"}"} ${count}`;
    }
    yield `${name}_sum{${text}} ${sum}`;
    yield `${name}_count{${text}} ${count}`;
  }
}

function formatLabels(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels).map(([label, value]) => `${label}="${escapeLabel(value)}"`).join();
}

function escapeLabel(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

function ofDevices(
  links: KmeStatus["links"],
  value: (device: DeviceStatusOfLink) => number | null,
): Iterable<Sample> {
  return links.flatMap(({ kme, device }): Sample[] => device === undefined ? [] : [[{ kme }, value(device)]]);
}

function byKme(counts: ReadonlyMap<string, number>): Iterable<Sample> {
  return counts.entries().map(([kme, count]) => [{ kme }, count] as const);
}
