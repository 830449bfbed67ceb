/** A console in the test's own process, with a store whose answers the test chooses. */
import type { AuditState } from "../../src/audit/audit_trail.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { Config } from "../../src/config/config.ts";
import { type Console, type ConsoleOptions, startConsole } from "../../src/console/console.ts";
import { Facts, type Phase } from "../../src/console/facts.ts";
import { Incidents } from "../../src/events/incidents.ts";
import { Events } from "../../src/events/events.ts";
import { Watch } from "../../src/metrics/watch.ts";
import type { StockAgreement } from "../../src/delivery/stock_agreement.ts";
import type { DeviceState } from "../../src/ingest/device_observer.ts";
import type { PeerHealth } from "../../src/inter_kme/channel.ts";
import { makeTestNetwork } from "../harness/test_network.ts";

/** What the store, the peer and the program report; a test may change it. */
export interface World {
  phase: Phase;
  free: Record<string, number>;
  keysWaiting: number;
  entropy: number;
  /** Instead of an answer: an error, or none at all. */
  database: "answers" | "fails" | "hangs";
  health: PeerHealth;
  /** Why no key can be handed out. */
  obstacle?: string;
  config: Config;
  audit: AuditState;
  /** QKD devices of links; none at first. */
  devices: DeviceState[];
}

export interface Served extends AsyncDisposable {
  readonly console: Console;
  readonly origin: string;
  readonly world: World;
  readonly watch: Watch;
  readonly events: Events;
  readonly incidents: Incidents;
  readonly facts: Facts;
  /** What was compared with the other end of a link; none at first. */
  readonly stocks: Map<string, Pick<StockAgreement, "state">>;
}

/** Serves KME 1, neighbour of KME 2, with short times. */
export async function serve(options: Partial<ConsoleOptions> = {}): Promise<Served> {
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, nickname: "Alice", saes: [1] }, { id: 2, saes: [3] }],
  });
  const loaded = await loadConfig(network.kme(1).configPath);
  if ("mistakes" in loaded) throw new Error(JSON.stringify(loaded.mistakes));
  const world: World = {
    phase: "running",
    free: { 1: 10, 2: 20 },
    keysWaiting: 3,
    entropy: 7.5,
    database: "answers",
    health: { up: undefined },
    config: loaded.config,
    devices: [],
    audit: { chain: 1, sequence: 7, hash: "5".repeat(64), dropped: 0 },
  };
  const ask = <T>(answer: () => T): Promise<T> => {
    if (world.database === "hangs") return new Promise(() => {});
    return world.database === "fails" ? Promise.reject(new Error("away")) : Promise.resolve(answer());
  };
  const incidents = new Incidents();
  const watch = new Watch(["1", "2"], incidents);
  const events = new Events("Alice");
  const stocks: Served["stocks"] = new Map();
  const facts = new Facts({
    config: () => world.config,
    store: {
      encrypts: false,
      freeBlocks: (kme) => ask(() => world.free[kme]!),
      keysWaiting: () => ask(() => world.keysWaiting),
      totalEntropy: () => ask(() => world.entropy),
    },
    channels: [{
      kmeId: "2",
      get health() {
        return world.health;
      },
    }],
    stocks,
    counts: watch.counts,
    phase: () => world.phase,
    audit: () => world.audit,
    devices: () => world.devices,
    obstacle: () => Promise.resolve(world.obstacle),
    timeout: 100,
    freshMs: 0,
  });
  const console = await startConsole({
    listen: { hostname: "127.0.0.1", port: 0 },
    facts,
    watch,
    events,
    incidents,
    tickMs: 50,
    ...options,
  });
  return {
    console,
    origin: `http://127.0.0.1:${console.address.port}`,
    world,
    watch,
    events,
    incidents,
    facts,
    stocks,
    [Symbol.asyncDispose]: () => console.close(),
  };
}

/** One event of a stream. */
export interface StreamEvent {
  readonly name: string;
  // deno-lint-ignore no-explicit-any
  readonly data: any;
}

/** Follows `/events` until the caller stops or the stream ends. */
export async function* follow(origin: string, signal?: AbortSignal): AsyncGenerator<StreamEvent> {
  const response = await fetch(`${origin}/events`, { signal });
  if (response.status !== 200) throw new Error(`status ${response.status}`);
  let rest = "";
  for await (const text of response.body!.pipeThrough(new TextDecoderStream())) {
    rest += text;
    for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
      const found = /^event: (\w+)\ndata: (.*)$/.exec(rest.slice(0, end));
      if (found === null) throw new Error(`no event: ${rest.slice(0, end)}`);
      yield { name: found[1]!, data: JSON.parse(found[2]!) };
      rest = rest.slice(end + 2);
    }
  }
}

/** The first matching event; the stream continues. */
export async function first(
  stream: AsyncIterator<StreamEvent>,
  fits: (event: StreamEvent) => boolean,
): Promise<StreamEvent> {
  while (true) {
    const { value, done } = await stream.next();
    if (done) throw new Error("the stream ended");
    if (fits(value)) return value;
  }
}
