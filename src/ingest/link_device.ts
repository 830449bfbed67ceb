/** The QKD device of one link: the client, and the two parts that use it. */
import type { DeviceSource, NeighbourKme, ThisKme } from "../config/config.ts";
import type { DeviceDirection } from "../domain/device_direction.ts";
import { ownHalf } from "../domain/link.ts";
import type { Store } from "../store/store.ts";
import { type DeviceClient, deviceClient } from "./device_client.ts";
import { DeviceIngestion, type DevicePeer } from "./device_ingestion.ts";
import { type DeviceObserver, LastMinute } from "./device_observer.ts";
import { DeviceReceiver } from "./device_receiver.ts";
import type { ServerMaterial } from "../tls/verified_server.ts";

/** Milliseconds after which a device that refuses a key again is believed: at first it may not have the key yet. */
const BELIEVED_MS = 3000;

export interface LinkDevice {
  readonly client: DeviceClient;
  /** Requests keys, where this end does so. */
  readonly source: DeviceIngestion;
  /** Fetches keys that the other end has requested. */
  readonly receiver: DeviceReceiver;
  /**
   * Calls the device with other certificates, which may be those of another SAE.
   *
   * @throws Error with one line when the client certificate cannot be used; then the old one stays.
   */
  renew(material: ServerMaterial): void;
}

export interface LinkDeviceOptions {
  readonly device: DeviceSource;
  readonly neighbour: NeighbourKme;
  readonly thisKme: ThisKme;
  readonly store: Store;
  readonly peer: DevicePeer;
  readonly mayIngest: () => boolean;
  readonly observer: DeviceObserver;
}

/**
 * Opens no connection yet.
 *
 * @throws Error with one line when the client certificate cannot be used.
 */
export function openDevice(
  { device, neighbour, thisKme, store, peer, mayIngest, observer }: LinkDeviceOptions,
): LinkDevice {
  const link = neighbour.id.text;
  const client = deviceClient(device, neighbour, thisKme);
  const timeout = 1000 * thisKme.interKmeTimeoutSeconds;
  // The device refuses keys that it is giving to another process of this KME, which may wait for its answer so long.
  const isShared = ["postgres", "mysql"].includes(thisKme.database.kind);
  const common = {
    link,
    device,
    client,
    store,
    health: thisKme.keyFileHealth,
    observer,
    rate: new LastMinute(),
    direction: directionOf(device, thisKme, neighbour),
  };
  const source = new DeviceIngestion({ ...common, peer, mayIngest });
  const receiver = new DeviceReceiver({
    ...common,
    // The other KME most likely waits as long as this one would.
    answerMs: timeout / 2,
    believedMs: BELIEVED_MS + (isShared ? timeout : 0),
  });
  return {
    client,
    source,
    receiver,
    renew: (material) => {
      client.server.renew(material);
      source.renewed();
      receiver.renewed();
    },
  };
}

/** Which end requests keys from its device: without a direction, the KME with the lower id. */
export function directionOf(
  { direction }: DeviceSource,
  thisKme: Pick<ThisKme, "id">,
  neighbour: Pick<NeighbourKme, "id">,
): DeviceDirection {
  return direction ?? (ownHalf(thisKme.id, neighbour.id) === 0 ? "this" : "other");
}
