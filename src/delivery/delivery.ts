/** The rules: which SAE may have which key, and where it comes from. Wire formats and SQL are elsewhere. */
import type { Config } from "../config/config.ts";
import { type Events, EventText } from "../events/events.ts";
import { BLOCK_BITS, formatKeyId, type KeyIdBytes } from "../model/block.ts";
import type { KmeId, SaeId } from "../model/ids.ts";
import type { Sae } from "../config/config.ts";
import { mapKey } from "../store/bytes.ts";
import type { Key } from "../store/keys.ts";
import type { Store } from "../store/store.ts";
import type { Directory } from "./directory.ts";
import { InvalidRequest, NotAuthorized, Unavailable } from "./errors.ts";
import type { Peer } from "./peer.ts";
import { RemoteDelivery } from "./remote_delivery.ts";
import { Settling } from "./settling.ts";

/** Facts of the Status data format (clause 6.1); sizes in bits. */
export interface Status {
  readonly sourceKme: KmeId;
  readonly targetKme: KmeId;
  readonly master: SaeId;
  readonly slave: SaeId;
  readonly keySize: number;
  readonly storedKeyCount: number;
  readonly maxKeyCount: number;
  readonly maxKeyPerRequest: number;
  readonly maxKeySize: number;
  readonly minKeySize: number;
  readonly maxSaeIdCount: number;
}

/** What "Get key" asks for (clause 6.2), defaults filled in. */
export interface KeyRequest {
  readonly number: number;
  /** Bits of each key. */
  readonly size: number;
  readonly additionalSlaves: readonly SaeId[];
}

/** Sizes that can be delivered, in bits. */
export const KeySize = { default: BLOCK_BITS, min: BLOCK_BITS, max: BLOCK_BITS } as const;

/** Milliseconds in which a peer may repeat an activation and is answered as before. */
const REPEATABLE_MS = 60_000;

export type ActivationResult =
  | "activated"
  /** An SAE is unknown or not of the KME that the message says. */
  | "unknown"
  /** The caller may not speak for the origin's KME. */
  | "unauthorized"
  /** A key is not free on the link. */
  | "refused";

export interface DeliveryOptions {
  readonly config: Config;
  readonly directory: Directory;
  readonly store: Store;
  readonly peers: ReadonlyMap<KmeId, Peer>;
  readonly events: Events;
}

export class Delivery {
  readonly #config: Config;
  readonly #directory: Directory;
  readonly #store: Store;
  readonly #peers: ReadonlyMap<KmeId, Peer>;
  readonly #events: Events;
  readonly #settling: Settling;
  readonly #remote: RemoteDelivery;

  constructor(options: DeliveryOptions) {
    this.#config = options.config;
    this.#directory = options.directory;
    this.#store = options.store;
    this.#peers = options.peers;
    this.#events = options.events;
    this.#settling = new Settling(options.store);
    this.#remote = new RemoteDelivery(options.store, this.#settling);
  }

  /** What can be delivered to `master` for `slave` now (clause 5.2). */
  async status(master: Sae, slaveId: SaeId): Promise<Status> {
    const slave = this.#requireSae(slaveId);
    const { thisKme } = this.#config;
    const link = this.#store.link(slave.kmeId);
    return {
      sourceKme: thisKme.id.text,
      targetKme: slave.kmeId,
      master: master.id.text,
      slave: slave.id.text,
      keySize: KeySize.default,
      storedKeyCount: link === undefined ? 0 : await this.#store.freeBlocks(slave.kmeId),
      maxKeyCount: thisKme.maxKeyCount,
      maxKeyPerRequest: thisKme.maxKeyPerRequest,
      maxKeySize: KeySize.max,
      minKeySize: KeySize.min,
      maxSaeIdCount: 0,
    };
  }

  /**
   * "Get key" (clause 5.3): new keys for `master` and the slave, all or none.
   *
   * @throws InvalidRequest, Unavailable, StoreUnavailable: nothing is spent.
   */
  async getKeys(master: Sae, slaveId: SaeId, request: KeyRequest): Promise<readonly Key[]> {
    const slave = this.#requireSae(slaveId);
    this.#check(request);
    this.#events.publish(EventText.requested(master.id.text, slave.id.text));
    const link = this.#store.link(slave.kmeId);
    if (link === undefined) throw noLink(slave.kmeId);
    const common = {
      link,
      number: request.number,
      origin: this.#config.thisKme.id.text,
      expiresAt: this.#expiry(),
    };
    const keys = this.#directory.isLocal(slave)
      ? await this.#store.deliver({
        ...common,
        size: request.size,
        master: master.id.text,
        slaves: [slave.id.text],
      })
      : await this.#deliverRemotely(master, slave, common);
    if (keys === undefined) throw new Unavailable("not enough keys are in stock");
    for (const key of keys) {
      this.#events.publish(EventText.activated(formatKeyId(key.id), master.id.text, slave.id.text));
    }
    return keys;
  }

  /**
   * "Get key with key IDs" (clause 5.4): each key once to each slave.
   *
   * @throws NotAuthorized when a key is not the caller's, InvalidRequest when one cannot be had; nothing is read then.
   * @throws StoreUnavailable
   */
  async getKeysWithIds(slave: Sae, masterId: SaeId, ids: readonly KeyIdBytes[]): Promise<readonly Key[]> {
    const { maxKeyPerRequest } = this.#config.thisKme;
    if (ids.length > maxKeyPerRequest) {
      throw new InvalidRequest(`key_IDs: at most ${maxKeyPerRequest} can be requested at once`);
    }
    const unique = [...new Map(ids.map((id) => [mapKey(id), id])).values()];
    const collected = await this.#store.collect({ caller: slave.id.text, master: masterId, ids: unique });
    switch (collected.kind) {
      case "foreign":
        throw new NotAuthorized("a requested key was not made for this SAE");
      case "missing":
        throw new InvalidRequest("one or more keys specified are not found on KME");
      case "keys": {
        for (const key of collected.keys) {
          this.#events.publish(EventText.collected(slave.id.text, formatKeyId(key.id), masterId));
        }
        const byId = new Map(collected.keys.map((key) => [mapKey(key.id), key]));
        return ids.map((id) => byId.get(mapKey(id))!);
      }
    }
  }

  /** A peer's master got these keys for a slave here. `caller` is the serial of the peer's certificate. */
  async activate(
    caller: bigint,
    originId: SaeId,
    remoteId: SaeId,
    ids: readonly KeyIdBytes[],
  ): Promise<ActivationResult> {
    const origin = this.#directory.sae(originId);
    const remote = this.#directory.sae(remoteId);
    if (origin === undefined || remote === undefined || !this.#directory.isLocal(remote)) return "unknown";
    if (this.#directory.isLocal(origin)) return "unauthorized";
    if (!this.#directory.maySpeakFor(caller, origin.kmeId)) return "unauthorized";
    const link = this.#store.link(origin.kmeId);
    if (link === undefined) return "unknown";
    const unique = [...new Map(ids.map((id) => [mapKey(id), id])).values()];
    const result = await this.#store.activate({
      link,
      keys: unique.map((id) => ({ id, size: BLOCK_BITS, blocks: [id] })),
      master: origin.id.text,
      slaves: [remote.id.text],
      expiresAt: this.#expiry(),
      repeatableSince: Date.now() - REPEATABLE_MS,
    });
    if (result.kind === "refused") return "refused";
    if (result.kind === "activated") {
      for (const id of unique) {
        this.#events.publish(EventText.activated(formatKeyId(id), origin.id.text, remote.id.text));
      }
    }
    return "activated";
  }

  /** Shannon entropy in bits per byte over the bytes of all keys stored. */
  totalEntropy(): Promise<number> {
    return this.#store.totalEntropy();
  }

  close(): void {
    this.#settling.close();
  }

  #deliverRemotely(
    master: Sae,
    slave: Sae,
    common: Omit<Parameters<RemoteDelivery["deliver"]>[0], "peer" | "master" | "slave">,
  ) {
    const peer = this.#peers.get(slave.kmeId);
    if (peer === undefined) throw noLink(slave.kmeId);
    this.#events.publish(EventText.activating(slave.id.text, slave.kmeId));
    return this.#remote.deliver({ ...common, peer, master: master.id, slave: slave.id });
  }

  #requireSae(id: SaeId): Sae {
    const sae = this.#directory.sae(id);
    if (sae === undefined) throw new InvalidRequest(`SAE ${JSON.stringify(id)} is unknown`);
    return sae;
  }

  #check({ number, size, additionalSlaves }: KeyRequest): void {
    const { maxKeyPerRequest } = this.#config.thisKme;
    if (number > maxKeyPerRequest) {
      throw new InvalidRequest(`number: at most ${maxKeyPerRequest} keys can be requested at once`);
    }
    if (size % 8 !== 0) throw new InvalidRequest("size shall be a multiple of 8");
    if (size < KeySize.min || size > KeySize.max) {
      throw new InvalidRequest(`size: keys of ${KeySize.min} to ${KeySize.max} bits can be delivered`);
    }
    if (additionalSlaves.length > 0) {
      throw new InvalidRequest(
        "additional_slave_SAE_IDs: this KME delivers to one slave only (max_SAE_ID_count is 0)",
      );
    }
  }

  #expiry(): number {
    return Date.now() + this.#config.thisKme.keyLifetimeSeconds * 1000;
  }
}

function noLink(kme: KmeId): Unavailable {
  return new Unavailable("the slave's KME cannot be reached", [{
    peer: `no link with KME ${kme} is configured`,
  }]);
}
