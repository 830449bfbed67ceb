/** The rules: which SAE may have which key, and which blocks it is made of. Wire formats and SQL are elsewhere. */
import type { Config } from "../config/config.ts";
import { type Events, EventText } from "../events/events.ts";
import { BLOCK_BITS, formatKeyId, type KeyIdBytes } from "../domain/block.ts";
import type { KmeId, SaeId } from "../domain/ids.ts";
import type { Sae } from "../domain/network.ts";
import { mapKey, overwrite } from "../domain/bytes.ts";
import { blocksPerKey, type Key, KeySize, MAX_REQUEST_BITS, newKeyIds } from "../domain/key.ts";
import { StoreUnavailable } from "../domain/store_errors.ts";
import { errorMessage } from "../domain/text.ts";
import type { Activated } from "../store/operations/activate.ts";
import type { Store } from "../store/store.ts";
import type { Directory } from "./directory.ts";
import {
  Damaged,
  InvalidRequest,
  LimitReached,
  NotAuthorized,
  NotRecorded,
  Refusal,
  Unavailable,
} from "../domain/refusals.ts";
import type { Peer, PeerAbility } from "./peer.ts";
import { BlockDelivery } from "./block_delivery.ts";
import { type KeyObserver, noopObserver } from "./key_observer.ts";
import { type FetchedKeys, type FetchOutcome, type KeyRecords, noKeyRecords } from "./key_records.ts";
import { makePlan, type Plan } from "./delivery_plan.ts";
import { Reception, type ReceptionAnswer } from "./reception.ts";
import { Recovery } from "./recovery.ts";
import { noLink, Routes } from "./routes.ts";
import { ReservationFinisher } from "./reservation_finisher.ts";
import { type ReceivedAdmission, SaeLimiter, type Wanted } from "./sae_limiter.ts";
import { shortage } from "./shortage.ts";
import type { AdmittedKeys } from "./waiting_keys.ts";
import {
  outcomeOf,
  type TakeBackAnswer,
  type TakeBackRequest,
  type Transaction,
} from "../domain/transaction.ts";
import type { StockAgreement } from "./stock_agreement.ts";
import { TransactionDelivery } from "./transaction_delivery.ts";
import { UnrecordedReads } from "./unrecorded_reads.ts";
import type { ClientIdentity, ConnectedClient } from "../x509/client_identity.ts";

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
  /** Only blocks stored at most this many seconds ago. */
  readonly maxAgeSeconds?: number;
}

/** Keys that were taken from the database. */
interface TakenKeys {
  readonly keys: readonly Key[];
  /** Resolves when their record is durable; absent: it is not begun. */
  readonly recorded?: Promise<void>;
}

/** Keys that a slave reads; the sets hold the `mapKey` of their key_IDs. */
interface CollectedKeys {
  readonly keys: readonly Key[];
  /** The slave had read them before. */
  readonly repeated: ReadonlySet<string>;
  /** Of these, those that another process gave, or this one before it was started again. */
  readonly readElsewhere: ReadonlySet<string>;
  /** How many of them no longer wait for any slave, by this read. */
  readonly finished: number;
}

/** Records keys of a request. */
type RecordKeys = (ids: readonly KeyIdBytes[]) => Promise<void>;

/** Milliseconds in which a repeated activation gets the same answer as the first one. */
const REPEATABLE_MS = 60_000;

const NONE: ReadonlySet<string> = new Set();

export type ActivationResult =
  | "activated"
  /** An SAE is unknown, or the remote SAE is not of this KME. */
  | "unknown"
  /** The caller may not act for the KME of the origin SAE. */
  | "unauthorized"
  /** A block is not free on the link. */
  | "refused"
  /** The master has reached its limit `max_waiting_keys`. */
  | "limited";

export interface DeliveryOptions {
  readonly config: Config;
  readonly directory: Directory;
  readonly store: Store;
  readonly peers: ReadonlyMap<KmeId, Peer>;
  readonly events: Events;
  readonly observer?: KeyObserver;
  /** Absent: nothing is recorded. */
  readonly records?: KeyRecords;
  /** By the neighbour's id; absent: stocks are not compared. */
  readonly stocks?: ReadonlyMap<KmeId, StockAgreement>;
}

export class Delivery {
  readonly #config: Config;
  readonly #directory: Directory;
  readonly #store: Store;
  readonly #peers: ReadonlyMap<KmeId, Peer>;
  readonly #events: Events;
  readonly #observer: KeyObserver;
  readonly #records: KeyRecords;
  readonly #limiter: SaeLimiter;
  readonly #routes: Routes;
  readonly #reservations: ReservationFinisher;
  readonly #recovery: Recovery;
  readonly #reception: Reception;
  readonly #blocks: BlockDelivery;
  readonly #transactions: TransactionDelivery;
  readonly #unrecorded: UnrecordedReads;
  /** The last known ability of each neighbour. */
  readonly #abilities = new Map<KmeId, PeerAbility["kind"]>();
  /** Blocks of this KME's own pool that the database is taking. */
  #taking = 0;
  /** Get key requests so far; numbers their events. */
  #requests = 0;

  constructor(options: DeliveryOptions) {
    this.#config = options.config;
    this.#directory = options.directory;
    this.#store = options.store;
    this.#peers = options.peers;
    this.#events = options.events;
    const observer = this.#observer = options.observer ?? noopObserver;
    this.#records = options.records ?? noKeyRecords;
    const { store, peers, directory } = options;
    this.#limiter = new SaeLimiter({ directory, store, observer });
    const { thisKme, otherKmes } = options.config;
    this.#routes = new Routes(otherKmes);
    this.#unrecorded = new UnrecordedReads(1000 * thisKme.answerRepeatSeconds, () => store.now());
    const reservations = this.#reservations = new ReservationFinisher(store, observer);
    const recovery = this.#recovery = new Recovery({ store, peers, observer, ...thisKme });
    this.#blocks = new BlockDelivery(store, reservations, observer);
    this.#transactions = new TransactionDelivery({
      store,
      peers,
      reservations,
      recovery,
      stocks: options.stocks ?? new Map(),
    });
    this.#reception = new Reception({
      thisKme: thisKme.id.text,
      directory,
      routes: this.#routes,
      store,
      peers,
      reservations,
      recovery,
      observer,
      expiry: () => this.#expiry(),
      admit: (transaction) => this.#admitReceived(transaction),
      onActivated: (key, master, slave) => this.#activated(key, master, slave),
    });
  }

  /** Starts to resolve the transactions that failed requests and ended processes have left unresolved. */
  start(): void {
    this.#recovery.start();
  }

  /** What can be delivered to `master` for `slave` now (clause 5.2). */
  async status(master: Sae, slaveId: SaeId): Promise<Status> {
    const slave = this.#requireSae(slaveId);
    this.#limiter.requireReach(master, [slaveId]);
    const { thisKme } = this.#config;
    const pool = this.#directory.isLocal(slave) ? slave.kmeId : this.#routes.nextHop(slave.kmeId);
    const onlyBlocks = pool !== undefined && this.#understandsOnlyBlocks(pool);
    const reached = pool !== undefined && (!onlyBlocks || pool === slave.kmeId);
    return {
      sourceKme: thisKme.id.text,
      targetKme: slave.kmeId,
      master: master.id.text,
      slave: slave.id.text,
      keySize: KeySize.default,
      storedKeyCount: reached ? await this.#stockFor(master, pool) : 0,
      maxKeyCount: thisKme.maxKeyCount,
      maxKeyPerRequest: thisKme.maxKeyPerRequest,
      maxKeySize: onlyBlocks ? BLOCK_BITS : thisKme.maxKeySize,
      minKeySize: onlyBlocks ? BLOCK_BITS : thisKme.minKeySize,
      maxSaeIdCount: onlyBlocks ? 0 : thisKme.maxSaeIdCount,
    };
  }

  /** Blocks that the master may use. */
  async #stockFor({ id }: Sae, link: KmeId): Promise<number> {
    return Math.max(0, await this.#store.freeBlocks(link) - this.#limiter.keptFrom(id.text, link));
  }

  /**
   * "Get key" (clause 5.3): new keys for `master` and the slave, all or none.
   *
   * @param client of the connection, for the audit log.
   * @throws InvalidRequest, Unavailable, StoreUnavailable: no keys are consumed.
   * @throws NotRecorded: no keys are consumed, unless the audit log failed while the keys were being delivered.
   */
  async getKeys(
    master: Sae,
    slaveId: SaeId,
    request: KeyRequest,
    client: ConnectedClient,
  ): Promise<readonly Key[]> {
    const slave = this.#requireSae(slaveId);
    this.#check(request);
    const slaves = [slave, ...this.#additionalSlaves(master, slave, request.additionalSlaves)];
    this.#limiter.requireReach(master, slaves.map(({ id }) => id.text));
    this.#records.require();
    const plan = makePlan(this.#config.thisKme.id.text, this.#routes, slaves);
    if (plan === undefined) throw noLink(slave.kmeId);
    const record = (ids: readonly KeyIdBytes[]) =>
      this.#records.delivered({
        client,
        master: master.id.text,
        slaves: slaves.map(({ id }) => id.text),
        size: request.size,
        ids,
      });
    const end = await this.#limiter.admit(master, wantedBy(request, plan));
    const { keys, recorded } = await this.#newKeys(master, slaves, request, plan, record).catch((error) => {
      end(afterError(error));
      // Of the database, or of the slave's KME, which applies its own.
      if (error instanceof LimitReached) this.#observer.limited(master.id.text, error.limit);
      throw error;
    });
    end("delivered");
    return await onceRecorded(keys, recorded ?? record(keys.map(({ id }) => id)));
  }

  async #newKeys(
    master: Sae,
    slaves: readonly Sae[],
    request: KeyRequest,
    plan: Plan,
    record: RecordKeys,
  ): Promise<TakenKeys> {
    const [slave] = slaves as [Sae, ...Sae[]];
    const number = this.#requests++;
    this.#events.publish(() => ({
      text: EventText.requested(master.id.text, slave.id.text),
      request: number,
    }));
    this.#observer.requested(plan.source);
    const taken = plan.hops.length === 0
      ? await this.#deliverHere(master, slaves, request, record)
      : await this.#deliverRemotely(master, slaves, request, plan, number);
    this.#observer.delivered(slave.kmeId, taken.keys.length);
    for (const key of taken.keys) {
      for (const { id } of slaves) this.#activated(key.id, master.id.text, id.text, number);
    }
    return taken;
  }

  /**
   * "Get key with key IDs" (clause 5.4): each key once to each slave, and again for `answer_repeat_seconds` with the same certificate.
   *
   * @throws NotAuthorized when a key is not the caller's, InvalidRequest when a key is not available; no key counts as read then.
   * @param client of the connection, for the audit log.
   * @throws Damaged, StoreUnavailable, NotRecorded
   */
  async getKeysWithIds(
    slave: Sae,
    masterId: SaeId,
    ids: readonly KeyIdBytes[],
    client: ConnectedClient,
  ): Promise<readonly Key[]> {
    const master = this.#directory.sae(masterId);
    if (master !== undefined) this.#limiter.requireReach(master, [slave.id.text]);
    this.#records.require();
    const fetched = this.#limiter.fetching(masterId);
    const { keys, repeated, readElsewhere, finished } = await this.#collect(
      slave,
      masterId,
      ids,
      client.identity,
    );
    fetched(finished);
    const record = { client, slave: slave.id.text, master: masterId };
    if (repeated.size === 0) {
      return await onceRecorded(keys, this.#fetched({ ...record, ids, outcome: "first" }));
    }
    // A record for each outcome.
    const outcomes = Map.groupBy(ids, (id): FetchOutcome => {
      if (!repeated.has(mapKey(id))) return "first";
      const isRecorded = !readElsewhere.has(mapKey(id)) && !this.#unrecorded.has(slave.id.text, id);
      return isRecorded ? "repeated" : "perhaps repeated";
    });
    const records = [...outcomes].map(([outcome, ids]) => this.#fetched({ ...record, ids, outcome }));
    return await onceRecorded(keys, Promise.all(records));
  }

  /** @throws NotRecorded */
  async #fetched(keys: FetchedKeys): Promise<void> {
    const { slave, ids, outcome } = keys;
    if (outcome === "first") this.#unrecorded.add(slave, ids);
    await this.#records.fetched(keys);
    this.#unrecorded.remove(slave, ids);
  }

  async #collect(
    slave: Sae,
    masterId: SaeId,
    ids: readonly KeyIdBytes[],
    { fingerprint }: ClientIdentity,
  ): Promise<CollectedKeys> {
    const { maxKeyPerRequest, answerRepeatSeconds } = this.#config.thisKme;
    if (ids.length > maxKeyPerRequest) {
      throw new InvalidRequest(`key_IDs: at most ${maxKeyPerRequest} can be requested at once`);
    }
    const unique = [...new Map(ids.map((id) => [mapKey(id), id])).values()];
    const collected = await this.#store.collect({
      caller: slave.id.text,
      master: masterId,
      ids: unique,
      repeat: answerRepeatSeconds === 0
        ? undefined
        : { certificate: Uint8Array.fromHex(fingerprint), ms: answerRepeatSeconds * 1000 },
    });
    switch (collected.kind) {
      case "foreign":
        throw new NotAuthorized("a requested key was not made for this SAE");
      case "missing":
        this.#requireSae(masterId);
        throw new InvalidRequest("one or more keys specified are not found on KME");
      case "damaged":
        throw new Damaged("a requested key cannot be delivered: its stored bits are damaged");
      case "keys": {
        const [repeated, readElsewhere] = [setOf(collected.repeated), setOf(collected.readElsewhere)];
        this.#observer.collected(collected.keys.length - repeated.size);
        if (repeated.size > 0) this.#observer.repeated(repeated.size);
        for (const key of collected.keys) {
          this.#events.publish(() => {
            const keyId = formatKeyId(key.id);
            return { text: EventText.collected(slave.id.text, keyId, masterId), keyId };
          });
        }
        const byId = new Map(collected.keys.map((key) => [mapKey(key.id), key]));
        const { finished } = collected;
        return { keys: ids.map((id) => byId.get(mapKey(id))!), repeated, readElsewhere, finished };
      }
    }
  }

  /** A master SAE of a peer got these keys for a slave SAE here. `caller` is the client of the connection. */
  async activate(
    caller: ClientIdentity,
    originId: SaeId,
    remoteId: SaeId,
    ids: readonly KeyIdBytes[],
  ): Promise<ActivationResult> {
    this.#records.require();
    const outcome = await this.#activate(caller, originId, remoteId, ids);
    const origin = this.#directory.sae(originId);
    // Without an origin it is not known for which KME the caller acts; the refused request has its own record.
    if (origin === undefined) return outcome;
    await this.#records.received({
      caller,
      kme: origin.kmeId,
      master: originId,
      slaves: [remoteId],
      ids,
      outcome,
    });
    return outcome;
  }

  async #activate(
    caller: ClientIdentity,
    originId: SaeId,
    remoteId: SaeId,
    ids: readonly KeyIdBytes[],
  ): Promise<ActivationResult> {
    const origin = this.#directory.sae(originId);
    const remote = this.#directory.sae(remoteId);
    if (origin === undefined || remote === undefined || !this.#directory.isLocal(remote)) return "unknown";
    if (this.#directory.isLocal(origin)) return "unauthorized";
    if (!this.#directory.mayActFor(caller, origin.kmeId)) return "unauthorized";
    const link = this.#store.link(origin.kmeId);
    if (link === undefined) return "unknown";
    const unique = [...new Map(ids.map((id) => [mapKey(id), id])).values()];
    const admission = await this.#limiter.admitReceived(origin, [remoteId], unique.length);
    const refused = "refusal" in admission;
    if (refused && admission.limit === undefined) return "unauthorized";
    const end = refused ? () => {} : admission.end;
    let activated: Activated;
    try {
      activated = await this.#store.activate({
        link,
        origin: origin.kmeId,
        keys: unique.map((id) => ({ id, size: BLOCK_BITS, blocks: [id] })),
        master: origin.id.text,
        slaves: [remote.id.text],
        expiresAt: this.#expiry(),
        repeatableSince: this.#store.now() - REPEATABLE_MS,
        // A repeated message must not be refused: its keys are here.
        onlyRepeated: refused,
      });
    } catch (error) {
      end(afterError(error));
      throw error;
    }
    end(activated.kind === "activated" ? "delivered" : "undelivered");
    switch (activated.kind) {
      case "repeated":
        return "activated";
      case "activated":
        this.#observer.activated(origin.kmeId, unique.length);
        for (const id of unique) this.#activated(id, origin.id.text, remote.id.text);
        return "activated";
    }
    if (!refused) return "refused";
    admission.refused?.();
    return "limited";
  }

  /** A neighbour sends keys in a transaction. `caller` is the client of the connection. */
  async receive(caller: ClientIdentity, sender: KmeId, transaction: Transaction): Promise<ReceptionAnswer> {
    const answer = await this.#reception.receive(caller, sender, transaction);
    await this.#records.received({
      caller,
      kme: sender,
      transaction: transaction.id,
      master: transaction.origin,
      slaves: transaction.recipients.flatMap(({ saes }) => saes),
      ids: transaction.keys.map(({ id }) => id),
      ...outcomeOf(answer),
    });
    return answer;
  }

  async #admitReceived({ origin, keys, recipients }: Transaction): Promise<ReceivedAdmission> {
    try {
      this.#records.require();
    } catch (error) {
      if (error instanceof NotRecorded) return { refusal: error.message };
      throw error;
    }
    const waiting = recipients.some(({ kme }) => kme === this.#config.thisKme.id.text) ? keys.length : 0;
    const slaves = recipients.flatMap(({ saes }) => saes);
    return await this.#limiter.admitReceived(this.#directory.sae(origin)!, slaves, waiting);
  }

  /** A neighbour takes a transaction back. */
  async takeBack(caller: ClientIdentity, sender: KmeId, request: TakeBackRequest): Promise<TakeBackAnswer> {
    const answer = await this.#reception.takeBack(caller, sender, request);
    this.#records.takenBack({
      caller,
      kme: sender,
      transaction: request.transaction,
      ...outcomeOf(answer),
    });
    return answer;
  }

  /** Shannon entropy in bits per byte over the bytes of all keys stored. */
  totalEntropy(): Promise<number> {
    return this.#store.totalEntropy();
  }

  /**
   * Starts no more work. Resolves when the transactions that are being resolved are finished. These may be waiting for the
   * answer of a neighbour; closing the channels ends that.
   */
  async close(): Promise<void> {
    this.#reservations.close();
    await this.#recovery.close();
  }

  /**
   * The keys are recorded while the database commits them, so that no answer waits for two disk writes one after the other. Both are
   * durable before the answer leaves, so no key leaves without a record. A crash in between may leave a record of keys that nobody
   * got; so may a commit that fails, and then a second record says so. Where the blocks may be too few, the record comes afterwards.
   */
  async #deliverHere(
    master: Sae,
    slaves: readonly Sae[],
    request: KeyRequest,
    record: RecordKeys,
  ): Promise<TakenKeys> {
    const { id } = this.#config.thisKme;
    const link = this.#store.link(id.text)!;
    const ids = newKeyIds(request.number);
    const blocks = request.number * blocksPerKey(request.size);
    const since = storedSince(request, this.#store.now());
    const keep = this.#limiter.keptFrom(master.id.text, id.text);
    let recorded: Promise<void> | undefined;
    let taking = 0;
    const onSent = () => {
      const free = this.#store.knownFreeBlocks(id.text) ?? 0;
      if (since === undefined && free - this.#taking - keep >= blocks) recorded = record(ids);
      // Whoever gets the keys waits for it.
      recorded?.catch(() => {});
      this.#taking += taking = blocks;
    };
    try {
      const keys = await this.#store.deliver({
        link,
        ids,
        size: request.size,
        origin: id.text,
        master: master.id.text,
        slaves: slaves.map((slave) => slave.id.text),
        expiresAt: this.#expiry(),
        storedSince: since,
        keep,
      }, onSent);
      if (keys === undefined) {
        throw await shortage(this.#store, master.id.text, [{ link, blocks, storedSince: since, keep }]);
      }
      return { keys, recorded };
    } catch (error) {
      const undelivered = { master: master.id.text, ids, reason: errorMessage(error) };
      recorded?.then(() => this.#records.undelivered(undelivered), () => {});
      throw error;
    } finally {
      this.#taking -= taking;
    }
  }

  async #deliverRemotely(
    master: Sae,
    slaves: readonly Sae[],
    request: KeyRequest,
    plan: Plan,
    number: number,
  ): Promise<TakenKeys> {
    const [slave] = slaves as [Sae, ...Sae[]];
    for (const { id, kmeId } of slaves) {
      if (kmeId !== this.#config.thisKme.id.text) {
        this.#events.publish(() => ({ text: EventText.activating(id.text, kmeId), request: number }));
      }
    }
    const common = {
      number: request.number,
      origin: this.#config.thisKme.id.text,
      expiresAt: this.#expiry(),
      storedSince: storedSince(request, this.#store.now()),
      keep: (link: KmeId) => this.#limiter.keptFrom(master.id.text, link),
    };
    const onlyBlocks = await this.#hopsWithBlocksOnly(plan);
    if (onlyBlocks.length === 0) {
      const keys = await this.#transactions.deliver({
        ...common,
        plan,
        size: request.size,
        master: master.id.text,
      });
      return { keys };
    }
    if (slaves.length > 1 || request.size !== BLOCK_BITS || slave.kmeId !== plan.source) {
      throw new Unavailable("the keys cannot be activated on every slave's KME", [
        {
          peer: `KME ${onlyBlocks.join(", ")} takes keys of ${BLOCK_BITS} bits for one slave of its own only`,
        },
      ]);
    }
    const keys = await this.#blocks.deliver({
      ...common,
      link: this.#store.link(slave.kmeId)!,
      peer: this.#peers.get(slave.kmeId)!,
      master: master.id,
      slave: slave.id,
    });
    return { keys };
  }

  /**
   * @returns hops whose KME does not understand transactions.
   * @throws Unavailable when a KME cannot be reached.
   */
  async #hopsWithBlocksOnly(plan: Plan): Promise<KmeId[]> {
    const abilities = await Promise.all(plan.hops.map(async ({ kme }) => {
      const peer = this.#peers.get(kme);
      if (peer === undefined) throw noLink(kme);
      return { kme, ability: await this.#ability(peer) };
    }));
    return abilities.flatMap(({ kme, ability }) => {
      if (ability.kind === "unreached") {
        throw new Unavailable("the keys cannot be activated on every slave's KME", [{
          peer: ability.reason,
        }]);
      }
      return ability.kind === "blocks" ? [kme] : [];
    });
  }

  async #ability(peer: Peer): Promise<PeerAbility> {
    const ability = await peer.ability();
    if (ability.kind !== "unreached") this.#abilities.set(peer.kme, ability.kind);
    return ability;
  }

  /** The last known ability. A neighbour whose ability is unknown is asked for it, without waiting for the answer. */
  #understandsOnlyBlocks(kme: KmeId): boolean {
    const peer = this.#peers.get(kme);
    if (peer !== undefined && !this.#abilities.has(kme)) void this.#ability(peer);
    return this.#abilities.get(kme) === "blocks";
  }

  #activated(key: KeyIdBytes, master: SaeId, slave: SaeId, request?: number): void {
    this.#events.publish(() => {
      const keyId = formatKeyId(key);
      return { text: EventText.activated(keyId, master, slave), keyId, request };
    });
  }

  #requireSae(id: SaeId): Sae {
    const sae = this.#directory.sae(id);
    if (sae === undefined) throw new InvalidRequest(`SAE ${JSON.stringify(id)} is unknown`);
    return sae;
  }

  #check({ number, size }: KeyRequest): void {
    const { maxKeyPerRequest, minKeySize, maxKeySize } = this.#config.thisKme;
    if (number > maxKeyPerRequest) {
      throw new InvalidRequest(`number: at most ${maxKeyPerRequest} keys can be requested at once`);
    }
    if (size > 0 && size % 8 !== 0) throw new InvalidRequest("size shall be a multiple of 8");
    if (size < minKeySize || size > maxKeySize) {
      throw new InvalidRequest(`size: keys of ${minKeySize} to ${maxKeySize} bits can be delivered`);
    }
    if (number * blocksPerKey(size) * BLOCK_BITS > MAX_REQUEST_BITS) {
      throw new InvalidRequest(
        `number and size: at most ${MAX_REQUEST_BITS} bits can be requested at once, in whole blocks of ${BLOCK_BITS} bits`,
      );
    }
  }

  #additionalSlaves(master: Sae, slave: Sae, ids: readonly SaeId[]): Sae[] {
    const { maxSaeIdCount } = this.#config.thisKme;
    const member = "additional_slave_SAE_IDs";
    if (ids.length > maxSaeIdCount) {
      throw new InvalidRequest(`${member}: at most ${maxSaeIdCount} can be named`);
    }
    const seen = new Set<SaeId>();
    return ids.map((id, i) => {
      if (id.trim() === "") throw new InvalidRequest(`${member}[${i}]: is blank`);
      if (id === slave.id.text) throw new InvalidRequest(`${member}[${i}]: ${id} is the slave already`);
      if (id === master.id.text) throw new InvalidRequest(`${member}[${i}]: ${id} is the master`);
      if (seen.has(id)) throw new InvalidRequest(`${member}[${i}]: ${id} is named twice`);
      seen.add(id);
      const sae = this.#directory.sae(id);
      if (sae === undefined) {
        throw new InvalidRequest(`${member}[${i}]: SAE ${JSON.stringify(id)} is unknown`);
      }
      return sae;
    });
  }

  #expiry(): number {
    return this.#store.now() + this.#config.thisKme.keyLifetimeSeconds * 1000;
  }
}

/** The keys when their record is durable. Without a record their bits are overwritten. */
async function onceRecorded(keys: readonly Key[], recorded: Promise<unknown>): Promise<readonly Key[]> {
  try {
    await recorded;
    return keys;
  } catch (error) {
    overwrite(keys);
    throw error;
  }
}

function setOf(ids: readonly KeyIdBytes[] | undefined): ReadonlySet<string> {
  return ids === undefined ? NONE : new Set(ids.map(mapKey));
}

/** What became of keys whose request failed. */
function afterError(error: unknown): AdmittedKeys {
  const isCertain = error instanceof Refusal || error instanceof StoreUnavailable && error.nothingDone;
  return isCertain ? "undelivered" : "unknown";
}

/** What a request takes of the limits of its master. */
function wantedBy({ number, size }: KeyRequest, { localSlaves }: Plan): Wanted {
  return { bits: number * size, waitingKeys: localSlaves.length > 0 ? number : 0 };
}

/** Milliseconds since 1970, a whole number. An age that reaches back before 1970 is no limit. */
function storedSince({ maxAgeSeconds = Infinity }: KeyRequest, now: number): number | undefined {
  const since = Math.floor(now - maxAgeSeconds * 1000);
  return since > 0 ? since : undefined;
}
