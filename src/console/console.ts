/**
 * The operator's listener: a live page, `/messages`, `/incidents`, `/status`, `/metrics`, `/health/live` and `/health/ready`,
 * over plain HTTP and read-only. It shows who talks to whom, never a key's bits.
 */
import type { Events } from "../events/events.ts";
import type { Incidents } from "../events/incidents.ts";
import { LimitedHttpServer } from "../tls/limited_http_server.ts";
import { log } from "../log.ts";
import { DURATION_BOUNDS } from "../metrics/histogram.ts";
import { Exposition } from "../metrics/exposition.ts";
import type { Watch } from "../metrics/watch.ts";
import { EventRing, type Message } from "./event_ring.ts";
import { EventStreams, formatEvent, TooSlow } from "./event_stream.ts";
import type { Facts } from "./facts.ts";
import { complaintAbout } from "./request_guard.ts";
import { History, Sampler } from "./history.ts";
import { HistoryFile } from "./history_file.ts";
import { PAGE } from "./page.ts";
import { formatHostPort, type HostPort, isLoopback } from "../domain/address.ts";
import { errorMessage } from "../domain/text.ts";

export interface ConsoleOptions {
  readonly listen: HostPort;
  readonly facts: Facts;
  readonly watch: Watch;
  readonly events: Events;
  readonly incidents: Incidents;
  /** File that keeps the history across a restart; none by default. */
  readonly historyPath?: string;
  /** Milliseconds between two reports to the browsers; 2000. */
  readonly tickMs?: number;
  /** Maximum number of browsers at a time; 50. */
  readonly maxClients?: number;
  /** Maximum number of connections at a time; 200. */
  readonly maxConnections?: number;
  /** Connections that wait to be accepted; 511. */
  readonly backlog?: number;
}

export interface Console {
  readonly address: { readonly hostname: string; readonly port: number };
  /** Browsers that are connected. */
  readonly clients: number;
  /** Ends the live pages at once; everything else is still answered. */
  endStreams(): void;
  /** Cuts off everything. */
  close(): Promise<void>;
}

/** Events that are kept. */
const EVENTS = 1000;

/** Milliseconds between two messages with events to the browsers, and events in one message: the newest. */
const EVENTS_MS = 250;
const EVENTS_AT_ONCE = 200;

/** Incidents that a browser gets at once. */
const INCIDENTS_AT_ONCE = 100;

/** Milliseconds between two writes of the history's file. */
const SAVE_MS = 60_000;

const HEADERS = {
  "cache-control": "no-store",
  "content-security-policy": [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join("; "),
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
} as const;

/**
 * Opens the listener.
 *
 * @throws Error with one clear line when it cannot be opened.
 */
export async function startConsole(options: ConsoleOptions): Promise<Console> {
  const { listen: { hostname, port }, maxConnections = 200, backlog = 511 } = options;
  let console: ConsoleServer | undefined;
  let server: LimitedHttpServer;
  try {
    server = await LimitedHttpServer.open({
      name: "console",
      hostname,
      port,
      maxConnections,
      backlog,
      onError: (error) => {
        const reason = errorMessage(error);
        if (error instanceof TooSlow) log("console").debug("{reason}", { reason });
        else log("console").error("request failed: {reason}", { reason });
        return answer(500, "internal error\n");
      },
      handler: (request) => console!.answer(request),
    });
  } catch (cause) {
    const reason = errorMessage(cause);
    throw new Error(`console: cannot listen on ${formatHostPort({ hostname, port })}: ${reason}`, { cause });
  }
  return console = new ConsoleServer(options, server);
}

class ConsoleServer implements Console {
  readonly #options: ConsoleOptions;
  readonly #exposition: Exposition;
  readonly #ring = new EventRing(EVENTS);
  readonly #history = new History();
  readonly #historyFile: HistoryFile | undefined;
  readonly #sampler: Sampler;
  readonly #streams: EventStreams;
  readonly #server: LimitedHttpServer;
  readonly #unsubscribe: () => void;
  readonly #ticker: ReturnType<typeof setInterval>;
  readonly #saver: ReturnType<typeof setInterval> | undefined;
  #saving: Promise<void> = Promise.resolve();
  #toldIncidents = 0;
  #ticking = false;
  #toldEvents = 0;
  #telling: ReturnType<typeof setTimeout> | undefined;

  constructor(options: ConsoleOptions, server: LimitedHttpServer) {
    this.#options = options;
    const { listen: { hostname, port }, facts, watch, events, incidents, historyPath } = options;
    const { tickMs = 2000, maxClients = 50 } = options;
    this.#streams = new EventStreams(maxClients);
    this.#server = server;
    this.#exposition = new Exposition(watch);
    this.#unsubscribe = events.subscribe((event) => {
      watch.happened();
      this.#ring.add(event);
      if (this.#streams.clients > 0) this.#telling ??= setTimeout(() => this.#tellEvents(), EVENTS_MS);
    });
    if (historyPath !== undefined) {
      const kme = facts.links[0]!;
      this.#historyFile = new HistoryFile(historyPath, { kme, history: this.#history, incidents, facts });
      this.#historyFile.load();
      this.#saver = setInterval(() => this.#save(), SAVE_MS);
    }
    this.#sampler = new Sampler(watch.counts, performance.now());
    this.#ticker = setInterval(() => this.#tick(), tickMs);
    void this.#tick();
    if (!isLoopback(hostname)) {
      log("console").warn(
        "the console on {address} can be reached from other hosts: it shows who talks to whom and has no authentication",
        { address: formatHostPort({ hostname, port }) },
      );
    }
  }

  get address(): Console["address"] {
    const { hostname, port } = this.#server.address;
    return { hostname, port };
  }

  get clients(): number {
    return this.#streams.clients;
  }

  endStreams(): void {
    this.#streams.close();
  }

  async close(): Promise<void> {
    clearInterval(this.#ticker);
    clearInterval(this.#saver);
    clearTimeout(this.#telling);
    this.#unsubscribe();
    this.#streams.close();
    this.#exposition.close();
    await this.#server.close();
    this.#save();
    await this.#saving;
  }

  #save(): void {
    this.#saving = this.#saving.then(() => this.#historyFile?.save());
  }

  async answer(request: Request): Promise<Response> {
    const complaint = complaintAbout(request.headers, this.#options.listen.hostname);
    if (complaint !== undefined) return answer(403, `${complaint}\n`);
    if (request.method !== "GET" && request.method !== "HEAD") {
      return answer(405, "this listener is read-only\n", { allow: "GET, HEAD" });
    }
    const isHead = request.method === "HEAD";
    const { pathname } = new URL(request.url);
    const file = PAGE.get(pathname);
    if (file !== undefined) return answer(200, file.text, { "content-type": file.type }, isHead);
    switch (pathname) {
      case "/events":
        return await this.#openStream(isHead);
      case "/messages":
        return json(200, this.#messages(), isHead);
      case "/incidents":
        return json(200, this.#options.incidents.since(), isHead);
      case "/status":
        return json(200, await this.#options.facts.get(), isHead);
      case "/metrics": {
        const text = this.#exposition.text(await this.#options.facts.get());
        return answer(200, text, { "content-type": this.#exposition.contentType }, isHead);
      }
      case "/health/live":
        return json(200, { live: true }, isHead);
      case "/health/ready": {
        const { ready, reason } = await this.#options.facts.get();
        return json(ready ? 200 : 503, { ready, reason }, isHead);
      }
      default:
        return answer(404, "no such page\n", {}, isHead);
    }
  }

  async #openStream(isHead: boolean): Promise<Response> {
    const headers = { "content-type": "text/event-stream" };
    if (isHead) return answer(200, null, headers);
    const status = await this.#options.facts.get();
    const body = this.#streams.open(formatEvent("begin", {
      status,
      live: this.#history.live,
      fine: this.#history.fine,
      coarse: this.#history.coarse,
      bounds: DURATION_BOUNDS,
      incidents: this.#options.incidents.since().slice(-INCIDENTS_AT_ONCE),
      ...this.#ring.since(0),
      now: Date.now(),
    }));
    if (body === undefined) return answer(503, "too many pages are open\n", { "retry-after": "10" });
    return answer(200, body, headers);
  }

  async #tick(): Promise<void> {
    if (this.#ticking) return;
    this.#ticking = true;
    try {
      const isNeeded = this.#history.isFineNext || this.#streams.clients > 0;
      const status = isNeeded ? await this.#options.facts.get() : undefined;
      const now = Date.now();
      const tick = this.#sampler.sample(performance.now(), now, status?.links);
      const { fine, coarse } = this.#history.add(tick);
      if (status === undefined) return;
      const incidents = this.#newIncidents();
      const { live } = this.#history;
      this.#streams.send(formatEvent("status", { status, live, fine, coarse, incidents, now }));
    } catch (error) {
      log("console").error("the console was not updated: {reason}", { reason: errorMessage(error) });
    } finally {
      this.#ticking = false;
    }
  }

  /** Those that were reported since the last call; undefined if there are none. */
  #newIncidents() {
    const { incidents } = this.#options;
    const news = incidents.since(this.#toldIncidents).slice(-INCIDENTS_AT_ONCE);
    this.#toldIncidents = incidents.number;
    return news.length === 0 ? undefined : news;
  }

  /** In the form that tools of `qkd_kme_server` read. */
  #messages(): Message[] {
    return this.#ring.since(0).messages.map(({ message, datetime }) => ({ message, datetime }));
  }

  #tellEvents(): void {
    this.#telling = undefined;
    // By the numbers a page knows which of them it has, and whether some were left out.
    this.#streams.send(formatEvent("messages", this.#ring.since(this.#toldEvents, EVENTS_AT_ONCE)));
    this.#toldEvents = this.#ring.count;
  }
}

function json(status: number, value: unknown, isHead: boolean): Response {
  return answer(status, `${JSON.stringify(value)}\n`, { "content-type": "application/json" }, isHead);
}

function answer(
  status: number,
  body: string | ReadableStream<Uint8Array> | null,
  headers: Readonly<Record<string, string>> = {},
  isHead = false,
): Response {
  const type = { "content-type": "text/plain; charset=utf-8" };
  // Otherwise the answer to a HEAD would announce an empty body.
  const length: Record<string, string> = isHead && typeof body === "string"
    ? { "content-length": String(new TextEncoder().encode(body).length) }
    : {};
  return new Response(isHead ? null : body, {
    status,
    headers: { ...HEADERS, ...type, ...length, ...headers },
  });
}
