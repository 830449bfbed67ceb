/** One running KME: the only place where its parts are put together. */
import type { Access } from "./config/access.ts";
import type { Config, HttpsInterface, ThisKme } from "./config/config.ts";
import type { HttpsInterfaceName } from "./config/https_interfaces.ts";
import { watchedDirectories } from "./config/watched_directories.ts";
import type { AuditTrail } from "./audit/audit_trail.ts";
import { startTrail } from "./audit/configured_trail.ts";
import {
  keyRecords,
  noteIngested,
  noteNotIngested,
  recordedDevices,
  recordedKeys,
  recordedPeer,
  RefusalRecords,
} from "./audit/recording.ts";
import { startConsole } from "./console/console.ts";
import { Facts, type Phase } from "./console/facts.ts";
import { Delivery } from "./delivery/delivery.ts";
import { StockAgreement } from "./delivery/stock_agreement.ts";
import { isNeighbour } from "./domain/network.ts";
import { Directory } from "./delivery/directory.ts";
import { startHousekeeping } from "./delivery/housekeeping.ts";
import type { Peer } from "./delivery/peer.ts";
import { Events } from "./events/events.ts";
import { startClockWatch } from "./events/clock_watch.ts";
import { Incidents } from "./events/incidents.ts";
import { findObstacle } from "./console/obstacle.ts";
import { historyPath } from "./console/history_file.ts";
import { kmeApp } from "./inter_kme/kme_app.ts";
import { saeApp } from "./sae_api/sae_app.ts";
import { skipApp } from "./skip_api/skip_app.ts";
import { startGuard } from "./rollback_guard/rollback_guard.ts";
import { markerPath } from "./rollback_guard/marker.ts";
import { type Ingestion, startIngestion } from "./ingest/ingestion.ts";
import { type LinkDevice, openDevice } from "./ingest/link_device.ts";
import { log } from "./log.ts";
import { maxOpenFiles } from "./metrics/process.ts";
import type { Listener } from "./metrics/counts.ts";
import { Watch } from "./metrics/watch.ts";
import type { KmeId } from "./domain/ids.ts";
import { PeerChannel } from "./inter_kme/channel.ts";
import { PeerKme } from "./inter_kme/peer_kme.ts";
import { formatHello, PeerPath } from "./inter_kme/wire.ts";
import { Reloading } from "./reload/reloading.ts";
import { startHeartbeat } from "./delivery/heartbeat.ts";
import { startStoreWorker } from "./store/engine/worker_executor.ts";
import { Store } from "./store/store.ts";
import { describeStoreFailure, storeFailureLog } from "./store/failure_log.ts";
import { type ConnectionLimits, connectionLimits } from "./tls/connection_limits.ts";
import { CrlFile, type CrlKeeping } from "./tls/crl_file.ts";
import { type Front, type FrontOptions, startFront } from "./tls/front.ts";
import type { SaeRequestObserver } from "./http/request_observer.ts";
import type { RefusedClient } from "./tls/client_refusal.ts";
import type { VerifiedServer } from "./tls/verified_server.ts";
import { formatHostPort } from "./domain/address.ts";
import { errorMessage } from "./domain/text.ts";

/** Milliseconds in which requests under way may still be finished when the KME stops. */
const GRACE_MS = 5000;

/** Milliseconds for which the listeners wait for key files that are there at the start. */
const FIRST_KEYS_MS = 2000;

export interface Kme {
  /** Resolves, with why, when the KME must not go on by itself. */
  readonly failed: Promise<string>;
  /**
   * Takes certificates and SAEs from a changed configuration. Connections and keys stay; an SAE that is not in it any
   * more is refused from its next request on.
   *
   * @returns what would need a restart and is left out.
   * @throws Error with one line when a certificate cannot be used; then everything stays as it was.
   */
  reload(config: Config): readonly string[];
  /**
   * Applies what a configuration with mistakes says about access: all that it takes away, and what its correct parts
   * grant.
   *
   * @returns what changed, a line each.
   * @throws Error with one line when a CA certificate cannot be used; then the other changes are applied.
   */
  reloadAccess(access: Access): readonly string[];
  /** Reports to console and metrics that a changed configuration has mistakes and was not reloaded. */
  reloadRefused(reason: string): void;
  /** Stops accepting, finishes what is under way (bounded), closes the database. */
  stop(): Promise<void>;
}

/**
 * Starts a KME.
 *
 * @throws Error with one clear line when a listener or the database cannot be opened; nothing stays open.
 */
export async function startKme(config: Config): Promise<Kme> {
  const { thisKme, otherKmes } = config;
  // What was opened is closed in reverse, whether the start fails or the KME stops.
  await using opened = new AsyncDisposableStack();

  let phase: Phase = "starting";
  const neighbours = otherKmes.filter(isNeighbour);
  const incidents = new Incidents();
  opened.defer(startClockWatch((ms) => {
    const message = `The system clock was set ${ms > 0 ? "forward" : "back"} by ${
      Math.round(Math.abs(ms) / 1000)
    } s; keys expire by elapsed time, so none expires early`;
    log("kme").warn("{message}", { message });
    incidents.report({ kind: "program", severity: "warning", message });
  }));
  const { skipInterface } = thisKme;
  const watch = new Watch(
    [thisKme, ...neighbours].map((kme) => kme.id.text),
    incidents,
    skipInterface === undefined ? ["sae", "kme"] : ["sae", "kme", "skip"],
  );
  for (const { id, device } of neighbours) if (device !== undefined) watch.hasDevice(id.text);
  const trail = await startTrail(thisKme, config.file, (failure) => watch.auditFailed(failure));
  opened.defer(() => trail?.close({ kind: "stop" }));
  const refusals = trail && new RefusalRecords(trail);
  opened.defer(() => refusals?.close());
  const logFailure = storeFailureLog();
  let ingestion: Ingestion | undefined;
  const store = await Store.open({
    database: thisKme.database,
    encryption: thisKme.storeEncryption,
    thisKme: thisKme.id,
    neighbours: neighbours.map((kme) => kme.id),
    // In memory there is no disk to wait for, and going to another thread and back costs as much as the work itself.
    worker: thisKme.database.kind === "sqlite" ? startStoreWorker : undefined,
    onBlocksUsed: (link) => ingestion?.roomMade(link),
    onFailure: (error) => {
      watch.databaseFailed(describeStoreFailure(error));
      logFailure(error);
    },
    onDamaged: (key) => watch.damaged(key),
  });
  opened.defer(() => store.close());
  const marker = markerPath(config);
  const guard = marker === undefined
    ? undefined
    : await startGuard({ store, path: marker, config: config.file });
  opened.defer(() => guard?.close());
  const heartbeat = await startHeartbeat(store, thisKme.leaseSeconds);
  opened.defer(() => heartbeat.close());

  const crlKeeping: CrlKeeping = {
    kept: await store.keptCrls(),
    keep: ({ number, ...crl }) => store.keepCrl({ ...crl, number: number?.toString() }),
  };

  const watchServerCrl = (path: string | undefined, use: string, server: RevocableServer) => {
    if (path === undefined) return;
    const crl = new CrlFile({
      path,
      name: use,
      keeping: crlKeeping,
      onStatus: (status) => watch.crl(use, status),
    });
    opened.defer(() => crl.close());
    server.useRevocations((authorities) => crl.revocations(authorities));
    crl.watch(() => server.revocationsChanged());
  };

  const peers = new Map<KmeId, Peer>();
  const kmes = new Map<KmeId, PeerKme>();
  const channels = new Map<KmeId, PeerChannel>();
  for (const neighbour of neighbours) {
    const channel = new PeerChannel(neighbour, thisKme);
    opened.defer(() => channel.close());
    channels.set(neighbour.id.text, channel);
    watchServerCrl(neighbour.serverCrl, `server of KME ${neighbour.id.text}`, channel);
    startProbing(channel, thisKme, incidents);
    const kme = new PeerKme(thisKme.id.text, channel);
    kmes.set(neighbour.id.text, kme);
    const peer = watch.peer(kme);
    peers.set(neighbour.id.text, trail === undefined ? peer : recordedPeer(peer, trail));
  }

  const stocks = new Map<KmeId, StockAgreement>();
  for (const [kme, peer] of peers) {
    const stock = new StockAgreement({
      store,
      link: store.link(kme)!,
      peer,
      onChange: (state) => watch.stockDiffers(state),
    });
    opened.defer(() => stock.close());
    stocks.set(kme, stock);
  }

  const events = new Events(thisKme.nickname);
  const directory = new Directory(config);
  const observer = trail === undefined ? watch.keys : recordedKeys(watch.keys, trail);
  const records = trail && keyRecords(trail);
  const delivery = new Delivery({ config, directory, store, peers, stocks, events, observer, records });
  opened.defer(async () => {
    const closed = delivery.close();
    // Do not wait for open requests to neighbours: the next start finishes them.
    for (const channel of channels.values()) channel.close();
    await closed;
  });
  delivery.start();
  opened.defer(startHousekeeping({ store, observer, ...thisKme }));

  const devices = new Map<KmeId, LinkDevice>();
  let current = () => config;
  const limits = connectionLimits(maxOpenFiles(), neighbours.length, skipInterface !== undefined);
  const operator = thisKme.consoleInterface && await startConsole({
    ...limits.console,
    listen: thisKme.consoleInterface,
    facts: new Facts({
      config: () => current(),
      store,
      channels: [...channels.values()],
      counts: watch.counts,
      stocks,
      phase: () => phase,
      audit: trail && (() => trail.state),
      obstacle: () => findObstacle(current(), guard?.failure ?? notRecordable(trail)),
      onReadiness: (reason) => watch.readiness(reason),
      devices: () => [...devices.values()].map(({ source }) => source.state),
      refusedFiles: () => ingestion?.states.flatMap(({ refused }) => refused),
    }),
    watch,
    events,
    incidents,
    historyPath: historyPath(config),
  });
  if (operator) opened.defer(() => operator.close());

  for (const neighbour of neighbours) {
    const { id: { text: link }, device } = neighbour;
    if (device === undefined) continue;
    const opening = openDevice({
      device,
      neighbour,
      thisKme,
      store,
      peer: kmes.get(link)!,
      mayIngest: () => heartbeat.mayIngest,
      observer: trail === undefined ? watch.devices : recordedDevices(watch.devices, trail),
    });
    opened.defer(() => opening.client.close());
    watchServerCrl(device.serverCrl, `device of the link with KME ${link}`, opening.client.server);
    devices.set(link, opening);
  }

  let comparing = false;
  const ingesting = ingestion = startIngestion({
    kme: thisKme.id.text,
    directories: watchedDirectories(config),
    store: watch.blockStore(store),
    onIngested: (file) => {
      watch.ingested(file);
      if (trail) noteIngested(trail, file);
      if (comparing) stocks.get(file.link)?.changed();
    },
    onRefused: (file) => {
      watch.notIngested(file);
      if (trail) noteNotIngested(trail, "refused", file);
    },
    onServedAgain: (file) => {
      watch.servedAgain(file);
      if (trail) noteNotIngested(trail, "served again", file);
    },
    health: thisKme.keyFileHealth,
    servedFiles: thisKme.database.kind === "memory" || thisKme.reingestServedFiles ? "ingest" : "refuse",
    maxKeyCount: thisKme.maxKeyCount,
    deleteAfterRead: thisKme.deleteKeyFileAfterRead,
    quietMs: thisKme.keyFileQuietSeconds * 1000,
    mayIngest: () => heartbeat.mayIngest,
  }, [...devices.values()].map(({ source }) => source));
  opened.defer(async () => {
    const timer = setTimeout(() => devices.forEach(({ client }) => client.close()), GRACE_MS);
    await ingesting.close();
    clearTimeout(timer);
  });
  // An SAE that connects at once finds the keys that were there; a large number of files does not delay the start.
  await Promise.race([ingesting.started, unlessBusy(FIRST_KEYS_MS)]);
  // Not before: files that are not ingested yet would be a difference.
  comparing = true;
  for (const stock of stocks.values()) stock.changed();

  const requests = (listener: Listener): SaeRequestObserver => {
    const counted = watch.requests(listener);
    return refusals === undefined ? counted : {
      ...counted,
      refused: (request) => {
        counted.refused(request);
        refusals.request(listener, request);
      },
    };
  };
  const onRefused = (listener: Listener) => (client: RefusedClient) => {
    watch.clientRefused(listener, client);
    refusals?.client(listener, client);
  };
  const receivers = new Map([...devices].map(([link, { receiver }]) => [link, receiver] as const));
  const kmesApp = kmeApp({ delivery, directory, stocks, devices: receivers, observer: requests("kme") });
  const kmesFront = await openFront(thisKme, "kme", limits.kme, watch, opened, {
    name: "inter-KME",
    onRefused: onRefused("kme"),
    ...thisKme.kmesInterface,
    handler: (request, connection) => kmesApp.fetch(request, { connection }),
    crlKeeping,
  });
  const saes = saeApp({ delivery, directory, observer: requests("sae") });
  const saesFront = await openFront(thisKme, "sae", limits.sae, watch, opened, {
    name: "SAE",
    onRefused: onRefused("sae"),
    ...thisKme.saesInterface,
    handler: (request, connection) => saes.fetch(request, { connection }),
    crlKeeping,
  });
  const fronts = new Map<HttpsInterfaceName, Front>([["saesInterface", saesFront], [
    "kmesInterface",
    kmesFront,
  ]]);
  let skipAddress = "";
  if (skipInterface !== undefined) {
    const skip = skipApp({ delivery, directory, observer: requests("skip") });
    const front = await openFront(thisKme, "skip", limits.skip, watch, opened, {
      name: "SKIP",
      onRefused: onRefused("skip"),
      ...skipInterface,
      handler: (request, connection) => skip.fetch(request, { connection }),
      crlKeeping,
    });
    fronts.set("skipInterface", front);
    skipAddress = `, SKIP interface on ${formatHostPort(front.address)}`;
  }

  const reloading = new Reloading(config, { fronts, channels, devices, directory });
  current = () => reloading.running;

  phase = "running";
  log("kme").info("KME {id} is ready: SAE interface on {saes}, inter-KME interface on {kmes}{skip}", {
    id: thisKme.id.text,
    saes: formatHostPort(saesFront.address),
    kmes: formatHostPort(kmesFront.address),
    skip: skipAddress,
  });
  const running = opened.move();
  const reloadRefused = (reason: string) => {
    watch.reloadRefused(reason);
    trail?.note({ kind: "reload", outcome: "refused", reason });
  };
  return {
    failed: Promise.race(guard === undefined ? [store.failed] : [store.failed, guard.replaced]),
    reload: (changed) => {
      try {
        const ignored = reloading.reload(changed);
        const rest = ignored.length === 0 ? "" : `; not until the next start: ${ignored.join("; ")}`;
        watch.reloadApplied(`certificates and ${changed.saes.length} SAEs were reloaded${rest}`);
        trail?.note({ kind: "reload", outcome: "applied", left_out: ignored });
        return ignored;
      } catch (error) {
        reloadRefused(errorMessage(error));
        throw error;
      }
    },
    reloadRefused,
    reloadAccess: (access) => {
      const changes = reloading.reloadAccess(access);
      if (changes.length > 0) trail?.note({ kind: "reload", outcome: "access only", changes });
      return changes;
    },
    stop: async () => {
      phase = "stopping";
      operator?.endStreams();
      await running.disposeAsync();
    },
  };
}

function notRecordable(trail: AuditTrail | undefined): string | undefined {
  return trail?.failure && `the audit log cannot be written: ${trail.failure}`;
}

/** A server that is called, whose certificate may be revoked. */
type RevocableServer = Pick<VerifiedServer, "useRevocations" | "revocationsChanged">;

/** Opens an mTLS listener that closes with the KME, and watches the CRLs of its clients. */
async function openFront(
  thisKme: ThisKme,
  listener: Listener,
  limits: ConnectionLimits,
  watch: Watch,
  opened: AsyncDisposableStack,
  options: FrontOptions & Pick<HttpsInterface, "clientCrl"> & { readonly crlKeeping: CrlKeeping },
): Promise<Front> {
  const { clientCrl: path, name, crlKeeping: keeping } = options;
  const crl = path === undefined ? undefined : new CrlFile({
    path,
    name: `clients of the ${name} interface`,
    keeping,
    onStatus: (status) => watch.crl(listener, status),
  });
  const front = await startFront({
    ...options,
    ...limits,
    minVersion: `TLSv${thisKme.tlsMinVersion}`,
    revocations: crl && ((authorities) => crl.revocations(authorities)),
  });
  opened.defer(() => front.close(GRACE_MS));
  crl?.watch(() => front.revocationsChanged());
  opened.defer(() => crl?.close());
  return front;
}

/** A peer that goes down or comes back is an incident. */
function startProbing(channel: PeerChannel, { id, neighbourProbeSeconds }: ThisKme, incidents: Incidents) {
  let wasUp: boolean | undefined;
  channel.startProbing({
    seconds: neighbourProbeSeconds,
    path: PeerPath.hello,
    json: formatHello(id.text),
    onChange({ up, lastError }) {
      const before = wasUp;
      wasUp = up;
      if (!up) {
        const message = `KME ${channel.kmeId} is unreachable: ${lastError}`;
        incidents.report({ kind: "neighbour", severity: "error", message });
      } else if (before === false) {
        const message = `KME ${channel.kmeId} is reachable again`;
        incidents.report({ kind: "neighbour", severity: "info", message });
      }
    },
  });
}

function unlessBusy(ms: number): Promise<void> {
  return new Promise((resolve) => Deno.unrefTimer(setTimeout(resolve, ms)));
}
