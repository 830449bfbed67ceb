/**
 * The source for keys of QKD devices: requests keys from this end's device, tells the other end their key_IDs, and takes the blocks
 * into stock when that end has fetched the same ones. `device_receiver.ts` is the other end's part.
 *
 * What is not in stock yet is in the database: the blocks as unconfirmed, and what they are to be confirmed by. So a crash of either
 * KME at any point leaves nothing that is not settled afterwards.
 */
import { BLOCK_BITS, blocksOf, type KeyIdBytes } from "../domain/block.ts";
import { type DeviceKey, MAX_DEVICE_BLOCKS, MAX_DEVICE_KEYS } from "../domain/device_keys.ts";
import type { DeviceKeyBits, DeviceKeysAnswer, DeviceKeysQuestion } from "../domain/device_keys.ts";
import type { DeviceSource } from "../config/config.ts";
import { type DeviceDirection, directionConflict, type ToldDirection } from "../domain/device_direction.ts";
import type { KmeId } from "../domain/ids.ts";
import { BlockPresence } from "../domain/stock_questions.ts";
import { errorMessage, toOneLine } from "../domain/text.ts";
import { overwrite, sameBytes } from "../domain/bytes.ts";
import { within } from "../domain/within.ts";
import { log } from "../log.ts";
import type { Store } from "../store/store.ts";
import { blocksFromKey, healthProblemOf } from "./device_blocks.ts";
import { type DeviceClient, DeviceFailure, type GivenKey, wrongSaes } from "./device_client.ts";
import type { DeviceObserver, DeviceState, LastMinute } from "./device_observer.ts";
import type { HealthAction } from "./ingestion_options.ts";
import type { KeySource } from "./key_source.ts";

const logger = log("ingest");

/** Batches that are not confirmed at the same time: while one is confirmed, the next is requested. */
const SIDE_BY_SIDE = 3;

/** Milliseconds before the first repetition of something that failed; doubled up to the limit. */
const FIRST_PAUSE_MS = 500;
const MAX_PAUSE_MS = 30_000;

/** Repetitions of a confirmation come at least so often: nothing is to be in stock at one end only for a minute. */
const MAX_CONFIRM_PAUSE_MS = 5000;

/** Milliseconds between two looks at the stock while keys are delivered. */
const LOOK_MS = 250;

/**
 * Milliseconds between two looks at the stock, and at what is not settled: other processes of this KME deliver keys too, and leave
 * batches behind when they end.
 */
const MAX_LOOK_MS = 5000;

/** The other KME, as far as a device needs it. */
export interface DevicePeer {
  readonly kme: KmeId;
  ability(): Promise<
    | { readonly kind: "transactions"; readonly sharesDeviceKeys: boolean }
    | { readonly kind: "blocks" }
    | { readonly kind: "unreached"; readonly reason: string }
  >;
  /** Which end requests keys, as it has it configured now; `undefined`: it does not answer, or does not tell. */
  deviceDirection(): Promise<ToldDirection | undefined>;
  askDeviceKeys(question: DeviceKeysQuestion): Promise<DeviceKeysAnswer | string>;
}

export interface DeviceIngestionOptions {
  readonly link: KmeId;
  readonly device: DeviceSource;
  /** Which end requests keys. */
  readonly direction: DeviceDirection;
  readonly client: Pick<DeviceClient, "status" | "encKeys" | "name" | "health">;
  readonly store: Pick<
    Store,
    | "freeBlocks"
    | "openDeviceBatch"
    | "storeDeviceBatch"
    | "giveUpDeviceBatch"
    | "settleDeviceBatch"
    | "openedDeviceBatches"
    | "processId"
  >;
  readonly peer: DevicePeer;
  readonly health: HealthAction;
  /** May this process ingest now? For several processes on one database. */
  readonly mayIngest: () => boolean;
  readonly observer: DeviceObserver;
  readonly rate: LastMinute;
}

/** Why no keys come; shown as it is. */
class DeviceProblem extends Error {}

export class DeviceIngestion implements KeySource {
  readonly link: KmeId;
  /** Does not wait for the device. */
  readonly started = Promise.resolve();
  readonly #options: DeviceIngestionOptions;
  #isStopped = false;
  /** Ends each pause under way. */
  readonly #pauses = new Set<() => void>();
  #wake: (() => void) | undefined;
  #lookedAt = -Infinity;
  #polledAt = -Infinity;
  #failures = 0;
  /** Below `low_stock` since then, `target_stock` is not reached yet. */
  #fetching = false;
  #problem: string | undefined;
  /** Why a batch is not confirmed yet, by its id in hex. */
  readonly #waiting = new Map<string, string>();
  #reported: string | undefined;
  #conflict: string | undefined;
  /** Batches that the other end has not decided yet; none of them keeps the loop from turning. */
  readonly #confirming = new Set<Promise<void>>();
  /** Why a batch will never be confirmed; reported by the next turn. */
  #failure: Error | undefined;
  /** Keys at the device, as far as is known. */
  #left = 0;
  #stock: number | undefined;
  #maxPerRequest = Infinity;
  /** Blocks of each batch under way, by its id in hex. */
  readonly #underWay = new Map<string, number>();

  constructor(options: DeviceIngestionOptions) {
    this.#options = options;
    this.link = options.link;
  }

  get state(): DeviceState {
    const { client, rate } = this.#options;
    const { up, since } = client.health;
    return {
      link: this.link,
      device: client.name,
      up,
      since,
      problem: this.#reported,
      stock: this.#stock,
      asks: this.#asks,
      lastMinute: rate.sum,
      unconfirmed: this.#unconfirmed,
    };
  }

  /** Whether this end requests keys. */
  get #asks(): boolean {
    return this.#options.direction !== "other";
  }

  get #unconfirmed(): number {
    return [...this.#underWay.values()].reduce((sum, blocks) => sum + blocks, 0);
  }

  async run(): Promise<void> {
    while (!this.#isStopped) {
      try {
        const isMore = await this.#turn();
        // While batches are undecided, nothing shows yet that keys come again.
        if (this.#confirming.size === 0) this.#failures = 0;
        this.#problem = undefined;
        this.#report();
        if (isMore) continue;
        const poll = this.#polledAt + 1000 * this.#options.device.pollSeconds - performance.now();
        await this.#pause(Math.min(MAX_LOOK_MS, poll), true);
      } catch (error) {
        this.#problem = errorMessage(error);
        this.#report();
        // The stock may have changed meanwhile, so the device is asked for it again.
        this.#polledAt = -Infinity;
        const pause = Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(this.#failures++, 10));
        await this.#pause(pause);
      }
    }
    await Promise.all(this.#confirming);
  }

  stop(): void {
    this.#isStopped = true;
    for (const end of this.#pauses) end();
  }

  /** The device is called with other certificates from now on: keys are requested when its status says that it is the same SAE. */
  renewed(): void {
    this.#polledAt = -Infinity;
    this.#left = 0;
    this.#wake?.();
  }

  roomMade(): void {
    if (this.#wake === undefined || performance.now() - this.#lookedAt < LOOK_MS) return;
    this.#lookedAt = performance.now();
    this.#wake();
  }

  /** @returns whether more keys can be requested at once. */
  async #turn(): Promise<boolean> {
    const { client, device, peer, mayIngest } = this.#options;
    this.#throwFailure();
    await this.#resume();
    if (performance.now() >= this.#polledAt + 1000 * device.pollSeconds) {
      this.#polledAt = performance.now();
      const [status, theirs] = await Promise.all([client.status(), peer.deviceDirection()]);
      // The certificates were renewed meanwhile.
      if (this.#polledAt === -Infinity) return true;
      this.#stock = this.#left = status.stored_key_count;
      this.#maxPerRequest = status.max_key_per_request || Infinity;
      const [wrong] = wrongSaes(device, status);
      if (wrong !== undefined) throw new DeviceProblem(wrong.message);
      if (theirs !== undefined) this.#compare(theirs);
      // Another process may have ended meanwhile.
      await this.#resume();
    }
    return this.#asks && mayIngest() && await this.#fill();
  }

  /** @throws DeviceProblem when the other end has refused a whole batch: the next one comes after a pause. */
  #throwFailure(): void {
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure;
  }

  /** @throws DeviceProblem when no keys can come. */
  #compare(theirs: ToldDirection): void {
    const { direction, observer } = this.#options;
    const conflict = directionConflict(direction, theirs, this.link);
    if (conflict?.stopsKeys) throw new DeviceProblem(`${conflict.message}; ${conflict.fix}`);
    const message = conflict && `${conflict.message}; ${conflict.fix}`;
    if (message === this.#conflict) return;
    this.#conflict = message;
    observer.conflict(this.link, message);
  }

  /**
   * Continues with batches that a failure of the database has left, and, if this process may ingest, with those of processes that have
   * ended.
   */
  async #resume(): Promise<void> {
    const { store, observer, mayIngest } = this.#options;
    // One of them may be settled while the database answers.
    const underWay = new Set(this.#underWay.keys());
    const opened = await store.openedDeviceBatches(this.link);
    for (const { batch, processId, asked, keys } of opened) {
      const name = batch.toHex();
      const own = sameBytes(processId, store.processId);
      if (underWay.has(name) || !own && !mayIngest()) continue;
      if (keys === undefined) {
        if (!await store.giveUpDeviceBatch(batch)) continue;
        logger.warn("{blocks} blocks that were requested from the device of link {link} are lost: {why}", {
          blocks: asked,
          link: this.link,
          why: own ? "they could not be stored" : "the KME ended before they were stored",
        });
        observer.lost(this.link, "unanswered", asked);
        continue;
      }
      this.#startConfirming(batch, keys);
    }
  }

  /** @returns what ends, without an error, when the batch is settled or this source stops. */
  #startConfirming(batch: Uint8Array, keys: readonly DeviceKey[]): Promise<void> {
    const name = batch.toHex();
    this.#underWay.set(name, blocksOfKeys(keys).length);
    const confirming = this.#confirm(batch, keys)
      .then(() => {
        this.#failures = 0;
      }, (error) => {
        this.#failure = error;
        this.#left = 0;
      })
      .finally(() => {
        this.#underWay.delete(name);
        this.#confirming.delete(confirming);
        this.#wake?.();
      });
    this.#confirming.add(confirming);
    return confirming;
  }

  /**
   * Fetches keys until there are enough, the device has no more, or it is time for another turn.
   *
   * @returns whether more can be requested at once.
   */
  async #fill(): Promise<boolean> {
    const { store, device: { lowStock, targetStock, pollSeconds }, peer, mayIngest } = this.#options;
    this.#lookedAt = performance.now();
    const free = await store.freeBlocks(this.link);
    if (free < lowStock) this.#fetching = true;
    if (free >= targetStock) this.#fetching = false;
    const lanes = SIDE_BY_SIDE - this.#confirming.size;
    if (!this.#fetching || lanes <= 0) return false;
    const ability = await peer.ability();
    if (ability.kind === "unreached") throw new DeviceProblem(ability.reason);
    if (ability.kind === "blocks" || !ability.sharesDeviceKeys) {
      throw new DeviceProblem(`KME ${peer.kme} runs a version that cannot fetch keys from a device`);
    }
    const until = Math.min(performance.now() + MAX_LOOK_MS, this.#polledAt + 1000 * pollSeconds);
    const ends = await Promise.allSettled(Array.from({ length: lanes }, () => this.#lane(until)));
    for (const end of ends) if (end.status === "rejected") throw end.reason;
    this.#throwFailure();
    // Otherwise the device has no more, or this source ends.
    const isEnough = ends.every((end) => end.status === "fulfilled" && end.value);
    if (isEnough && this.#left > 0) this.#fetching = false;
    return !isEnough && this.#confirming.size < SIDE_BY_SIDE && mayIngest();
  }

  /**
   * One batch after the other, until another lane fails, or until that time. A batch that is not decided by then is left to itself.
   *
   * @returns whether no more keys are needed or there.
   */
  async #lane(until: number): Promise<boolean> {
    const { store, device: { targetStock }, mayIngest } = this.#options;
    while (!this.#isStopped && this.#fetching && mayIngest() && performance.now() < until) {
      const need = targetStock - await store.freeBlocks(this.link) - this.#unconfirmed;
      const number = this.#numberOfKeys(need);
      if (number === 0) return true;
      try {
        // In an object, as `await` would wait for it too.
        const { settled } = await this.#batch(number);
        await within(settled, Math.max(0, until - performance.now()), () => {});
      } catch (error) {
        this.#left = 0;
        throw error;
      }
    }
    return false;
  }

  #numberOfKeys(need: number): number {
    const { keySize, keysPerRequest } = this.#options.device;
    const blocks = blocksFromKey(keySize);
    return Math.max(
      0,
      Math.min(
        Math.ceil(need / blocks),
        keysPerRequest,
        this.#maxPerRequest,
        this.#left,
        MAX_DEVICE_KEYS,
        Math.floor(MAX_DEVICE_BLOCKS / blocks),
      ),
    );
  }

  /** @returns what ends when the batch is settled. */
  async #batch(number: number): Promise<{ readonly settled: Promise<void> }> {
    const { store, client, device: { keySize }, observer } = this.#options;
    const asked = number * blocksFromKey(keySize);
    this.#left -= number;
    const reserved = crypto.randomUUID();
    this.#underWay.set(reserved, asked);
    let name: string = reserved;
    let settled: Promise<void> | undefined;
    try {
      const batch = await store.openDeviceBatch(this.link, asked);
      this.#underWay.delete(reserved);
      this.#underWay.set(name = batch.toHex(), asked);
      let given: GivenKey[];
      try {
        given = await client.encKeys(number, keySize);
      } catch (error) {
        const isGivenUp = await store.giveUpDeviceBatch(batch);
        if (isGivenUp && error instanceof DeviceFailure && error.sent) {
          observer.lost(this.link, "unanswered", asked);
        }
        throw error;
      }
      const { keys, problem } = this.#accept(given, number);
      const stored = keys.length === 0 ? [] : await store.storeDeviceBatch(this.link, batch, keys);
      if (keys.length === 0) await store.giveUpDeviceBatch(batch);
      overwrite(given);
      // Without a problem it would be asked again at once.
      if (given.length === 0) throw new DeviceProblem(`the device ${client.name} gave no keys`);
      if (stored === undefined) {
        throw new DeviceProblem("another process of this KME has taken over while keys were requested");
      }
      const left = keys.reduce((sum, key) => sum + key.blocks.length, 0) - blocksOfKeys(stored).length;
      if (left > 0) observer.lost(this.link, "repeated", left);
      if (stored.length > 0) settled = this.#startConfirming(batch, stored);
      if (problem !== undefined) throw new DeviceProblem(problem);
      if (left > 0) throw new DeviceProblem(`the device ${client.name} gave ${left} blocks a second time`);
      return { settled: settled ?? Promise.resolve() };
    } finally {
      if (settled === undefined) this.#underWay.delete(name);
    }
  }

  /** The keys of an answer that are usable, and what is wrong with others. */
  #accept(given: readonly GivenKey[], number: number): { keys: DeviceKeyBits[]; problem?: string } {
    const { device: { keySize }, observer, health, client } = this.#options;
    const per = blocksFromKey(keySize);
    const keys: DeviceKeyBits[] = [];
    const [ids, blocks] = [new Set<string>(), new Set<string>()];
    let problem: string | undefined;
    // An answer can have many odd keys, and each call makes a record.
    const lost = { size: 0, repeated: 0, unhealthy: 0 };
    for (const { id, bits } of given) {
      if (bits.length * 8 !== keySize || keys.length === number) {
        problem = `the device ${client.name} gave ${
          keys.length === number
            ? "more keys than were requested"
            : `a key of another size than ${keySize} bits`
        }`;
        lost.size += Math.max(1, blocksFromKey(8 * bits.length));
        continue;
      }
      const cut = blocksOf(bits);
      if (ids.has(id) || cut.some((block) => blocks.has(block.id.toHex()))) {
        problem = `the device ${client.name} gave a key twice`;
        lost.repeated += per;
        continue;
      }
      ids.add(id);
      for (const block of cut) blocks.add(block.id.toHex());
      keys.push({ id, blocks: cut });
    }
    const rest = keySize - BLOCK_BITS * per;
    if (rest > 0) observer.rest(this.link, rest * keys.length);
    const unhealthy = healthProblemOf(keys.flatMap((key) => key.blocks), health);
    if (unhealthy !== undefined) {
      problem = `keys of the device ${client.name} do not look random (${unhealthy})`;
      if (health === "warn") {
        logger.warn("{problem}; they are used all the same", { problem });
        problem = undefined;
      } else {
        lost.unhealthy = per * keys.length;
        keys.length = 0;
      }
    }
    for (const loss of ["size", "repeated", "unhealthy"] as const) {
      if (lost[loss] > 0) observer.lost(this.link, loss, lost[loss]);
    }
    return { keys, problem };
  }

  /** Tells the other end which keys there are, until it has them or will not have them. Ends early when this source stops. */
  async #confirm(batch: Uint8Array, keys: readonly DeviceKey[]): Promise<void> {
    const { peer, store, observer, rate } = this.#options;
    const name = batch.toHex();
    const ids = blocksOfKeys(keys);
    let inStock = false;
    const decided = () => {
      this.#waiting.delete(name);
      this.#report();
    };
    for (let attempt = 0; !this.#isStopped; attempt++) {
      try {
        const answer = await peer.askDeviceKeys({ keys });
        if (typeof answer === "string") throw new DeviceProblem(answer);
        const { presence, reason } = answer;
        if (presence.length !== ids.length) {
          throw new DeviceProblem(`KME ${peer.kme} answered with something else`);
        }
        const of = (kind: number): KeyIdBytes[] => ids.filter((_, i) => presence[i] === kind);
        const [held, gone] = [of(BlockPresence.held), of(BlockPresence.gone)];
        const done = held.length + gone.length === ids.length;
        const { confirmed, removed } = await store.settleDeviceBatch(this.link, { batch, held, gone, done });
        rate.add(confirmed);
        if (confirmed > 0) observer.stored(this.link, confirmed, true);
        if (removed > 0) observer.lost(this.link, "unconfirmed", removed);
        inStock ||= held.length > 0;
        const why = `KME ${peer.kme} does not have keys of the devices: ${
          toOneLine(reason ?? "it gives no reason").slice(0, 200)
        }`;
        if (done) decided();
        if (done && !inStock) throw new NothingConfirmed(why);
        if (done) return;
        throw new DeviceProblem(why);
      } catch (error) {
        // Keys that no one gets are lost: the next ones come after a pause.
        if (error instanceof NothingConfirmed) throw error;
        this.#waiting.set(name, errorMessage(error));
        this.#report();
        const pause = Math.min(MAX_CONFIRM_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(attempt, 10));
        await this.#pause(pause);
      }
    }
  }

  /** Tells what keeps keys from coming, when that changes. */
  #report(): void {
    const [waiting] = this.#waiting.values();
    const problem = this.#problem ?? waiting;
    if (this.#isStopped || problem === this.#reported) return;
    this.#reported = problem;
    this.#options.observer.problem(this.link, problem);
  }

  /** @param wakeable whether use of blocks ends it. */
  async #pause(ms: number, wakeable = false): Promise<void> {
    if (this.#isStopped || ms <= 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, ms);
    this.#pauses.add(resolve);
    if (wakeable) this.#wake = resolve;
    await promise;
    clearTimeout(timer);
    this.#pauses.delete(resolve);
    if (wakeable) this.#wake = undefined;
  }
}

/** The other end has none of the keys, and will not have them. */
class NothingConfirmed extends DeviceProblem {}

function blocksOfKeys(keys: readonly DeviceKey[]): KeyIdBytes[] {
  return keys.flatMap(({ blocks }) => blocks);
}
