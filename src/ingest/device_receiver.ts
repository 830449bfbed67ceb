/** Fetches keys from this end's QKD device that the other end of the link has got from its own. */
import { hash } from "node:crypto";
import { type Block, blocksOf, type KeyIdBytes } from "../domain/block.ts";
import { mapKey, overwrite, sameBytes } from "../domain/bytes.ts";
import type { DeviceKey, DeviceKeysAnswer, DeviceKeysQuestion } from "../domain/device_keys.ts";
import type { DeviceSource } from "../config/config.ts";
import type { DeviceDirection } from "../domain/device_direction.ts";
import type { KmeId } from "../domain/ids.ts";
import { BlockPresence } from "../domain/stock_questions.ts";
import { errorMessage } from "../domain/text.ts";
import { within } from "../domain/within.ts";
import { log } from "../log.ts";
import { RateLimitedLog } from "../rate_limited_log.ts";
import type { Store } from "../store/store.ts";
import { healthProblemOf } from "./device_blocks.ts";
import { type DeviceClient, DeviceRefusal, type GivenKey, wrongSaes } from "./device_client.ts";
import type { DeviceObserver, LastMinute } from "./device_observer.ts";
import type { HealthAction } from "./ingestion_options.ts";

/** Questions that are worked on at the same time: more than the other end asks. */
const MAX_RUNNING = 16;

/** Requests to the device for one question. Keys that are not decided then are asked for at the next question. */
const MAX_REQUESTS = 64;

/** Refused keys that are remembered. */
const MAX_REFUSED = 100_000;

/**
 * Blocks that are remembered as lost although this end never had them, besides as many as came into stock. The other end can name
 * any, so without a limit it could fill the database.
 */
export const MAX_LOST = 10_000;

const warnings = new RateLimitedLog("ingest");

export interface DeviceReceiverOptions {
  readonly link: KmeId;
  /** Which end requests keys. */
  readonly direction: DeviceDirection;
  readonly device: Pick<DeviceSource, "url" | "localSae" | "remoteSae">;
  readonly client: Pick<DeviceClient, "decKeys" | "status" | "name">;
  readonly store: Pick<Store, "link" | "presenceOf" | "receiveDeviceKeys">;
  readonly health: HealthAction;
  /** Milliseconds after which an answer is given, whatever the device does: less than the other KME waits. */
  readonly answerMs: number;
  readonly observer: DeviceObserver;
  readonly rate: LastMinute;
  /** Milliseconds from the first refusal of a key until a refusal is believed. */
  readonly believedMs: number;
}

/** What the device said of some keys. */
interface Fetched {
  readonly given: GivenKey[];
  /** key_IDs of the device. */
  readonly refused: string[];
  /** Why others are not decided. */
  reason?: string;
  requests: number;
}

export class DeviceReceiver {
  readonly direction: DeviceDirection;
  readonly #options: DeviceReceiverOptions;
  /** What is being fetched, by a digest of the question: the other end asks again with the same keys. */
  readonly #running = new Map<string, Promise<DeviceKeysAnswer>>();
  /** The device has given its status for the SAEs of the configuration. */
  #isRightPair = false;
  /** When the device refused a key first, in milliseconds of the monotonic clock. */
  readonly #refusedAt = new Map<string, number>();
  /** Lost blocks that may still be remembered. */
  #lostRoom = MAX_LOST;

  constructor(options: DeviceReceiverOptions) {
    this.#options = options;
    this.direction = options.direction;
  }

  /** The device is called with other certificates from now on: it may know this KME as another SAE. */
  renewed(): void {
    this.#isRightPair = false;
  }

  /**
   * Answers which of the blocks are in stock here. The first time it fetches them from the device. Repeating a question changes
   * nothing.
   *
   * @throws StoreUnavailable
   */
  async receive(question: DeviceKeysQuestion): Promise<DeviceKeysAnswer> {
    const name = digestOf(question);
    const blocks = question.keys.reduce((sum, key) => sum + key.blocks.length, 0);
    const undecided = (reason: string): DeviceKeysAnswer => ({ presence: new Uint8Array(blocks), reason });
    let running = this.#running.get(name);
    if (running === undefined && this.#running.size >= MAX_RUNNING) return undecided("too many questions");
    if (running === undefined) {
      running = this.#receive(question).finally(() => this.#running.delete(name));
      this.#running.set(name, running);
      // Whoever still waits gets the error.
      running.catch(() => {});
    }
    const { answerMs, client } = this.#options;
    return await within(running, answerMs, () => undecided(`the device ${client.name} has not answered yet`));
  }

  async #receive({ keys }: DeviceKeysQuestion): Promise<DeviceKeysAnswer> {
    const { store, link: kme, observer, rate, health, client } = this.#options;
    const link = store.link(kme)!;
    const ids = keys.flatMap(({ blocks }) => blocks);
    const presence = await store.presenceOf(link, ids);
    const known = new Map(ids.map((id, i) => [mapKey(id), presence[i]!]));
    const isAbsent = (id: KeyIdBytes) => known.get(mapKey(id)) === BlockPresence.absent;
    const wanted = keys.filter(({ blocks }) => blocks.some(isAbsent));
    if (wanted.length === 0) return { presence };

    // Keys of another pair of SAEs would be refused, and lost.
    if (!this.#isRightPair) {
      const wrong = await this.#wrongFor();
      if (wrong !== undefined) return { presence, reason: wrong };
      this.#isRightPair = true;
    }
    const fetched: Fetched = { given: [], refused: [], requests: 0 };
    await this.#fetch(wanted.map(({ id }) => id).filter((id) => this.#isDue(id)), fetched);
    const isNone = fetched.given.length === 0 && fetched.refused.length > 0;
    const wrong = isNone ? await this.#wrongFor() : undefined;
    if (wrong !== undefined) {
      // It would refuse any key.
      fetched.refused.length = 0;
      fetched.reason = wrong;
    }
    const given = new Map(fetched.given.map(({ id, bits }) => [id, bits]));
    const refused = new Set(fetched.refused);
    const [blocks, lost]: [Block[], KeyIdBytes[]] = [[], []];
    /** Lost blocks that only the other end says it has. */
    const named: KeyIdBytes[] = [];
    const reasons = new Set(fetched.reason === undefined ? [] : [fetched.reason]);
    for (const key of wanted) {
      const bits = given.get(key.id);
      if (bits === undefined) {
        if (!refused.has(key.id) && !this.#refusedAt.has(key.id)) continue;
        reasons.add(`the device ${client.name} does not have some of the keys`);
        if (!refused.has(key.id) || !this.#isBelieved(key.id)) continue;
        named.push(...key.blocks);
        observer.lost(kme, "refused", key.blocks.length);
        continue;
      }
      const cut = blocksOf(bits);
      if (isOf(cut, key)) {
        blocks.push(...cut);
        continue;
      }
      reasons.add("the two devices gave different bits for the same key_ID");
      named.push(...key.blocks);
      observer.lost(kme, "different", key.blocks.length);
    }
    const problem = healthProblemOf(blocks, health);
    if (problem !== undefined) {
      warnings.warn(
        `unhealthy ${kme}`,
        "keys of the device {device} of link {link} do not look random ({problem}){consequence}",
        {
          device: client.name,
          link: kme,
          problem,
          consequence: health === "refuse" ? "; they are not used" : "",
        },
      );
      if (health === "refuse") {
        reasons.add(`keys of the device do not look random (${problem})`);
        lost.push(...blocks.map(({ id }) => id));
        observer.lost(kme, "unhealthy", blocks.length);
        blocks.length = 0;
      }
    }
    const remembered = this.#remembered(named);
    lost.push(...remembered);
    if (blocks.length + lost.length > 0) {
      const received = await store.receiveDeviceKeys(kme, { blocks, lost }).catch((error) => {
        // The other end asks again.
        this.#lostRoom += remembered.length;
        throw error;
      });
      [...blocks.map(({ id }) => id), ...lost].forEach((id, i) =>
        known.set(mapKey(id), received.presence[i]!)
      );
      this.#lostRoom += received.stored;
      rate.add(received.stored);
      observer.stored(kme, received.stored, false);
    }
    overwrite(fetched.given);
    const beyond = named.slice(remembered.length);
    if (beyond.length > 0) {
      // Another process may have stored them. Otherwise they are gone too: the other end would wait for them for ever.
      const now = await store.presenceOf(link, beyond);
      beyond.forEach((id, i) =>
        known.set(mapKey(id), now[i] === BlockPresence.absent ? BlockPresence.gone : now[i]!)
      );
    }
    for (const key of keys) if (!key.blocks.some(isAbsent)) this.#refusedAt.delete(key.id);
    const reason = [...reasons].join("; ");
    if (reason !== "") {
      log("ingest").debug("keys of the device of link {link} are not there: {reason}", { link: kme, reason });
    }
    return {
      presence: Uint8Array.from(ids, (id) => known.get(mapKey(id))!),
      ...reason === "" ? {} : { reason },
    };
  }

  /** Those of the lost blocks for which there is room. */
  #remembered(named: readonly KeyIdBytes[]): readonly KeyIdBytes[] {
    if (named.length <= this.#lostRoom) {
      this.#lostRoom -= named.length;
      return named;
    }
    const remembered = named.slice(0, this.#lostRoom);
    this.#lostRoom = 0;
    warnings.warn(
      `lost ${this.#options.link}`,
      "KME {link} has named too many blocks that are not of the device {device}: no more of them are remembered as lost",
      { link: this.#options.link, device: this.#options.client.name },
    );
    return remembered;
  }

  /** Asks for all at once; where the device refuses that, for halves, so that one missing key does not cost the others. */
  async #fetch(ids: readonly string[], fetched: Fetched): Promise<void> {
    if (ids.length === 0) return;
    if (fetched.requests++ === MAX_REQUESTS) {
      fetched.reason = `the device ${this.#options.client.name} refuses many of the keys`;
      return;
    }
    try {
      const given = await this.#options.client.decKeys(ids);
      const asked = new Set(ids);
      // A key that comes twice counts once; one that was not asked for is left out.
      for (const key of given) if (asked.delete(key.id)) fetched.given.push(key);
      fetched.refused.push(...asked);
    } catch (error) {
      // Of a wrong request; anything else says nothing about the keys.
      const isAboutKeys = error instanceof DeviceRefusal && [400, 404, 410, 422].includes(error.status);
      if (!isAboutKeys) fetched.reason = errorMessage(error);
      else if (ids.length === 1) fetched.refused.push(...ids);
      else {
        const half = Math.ceil(ids.length / 2);
        await this.#fetch(ids.slice(0, half), fetched);
        if (fetched.reason === undefined) await this.#fetch(ids.slice(half), fetched);
      }
    }
  }

  /** Why the device would refuse any key, if it does not even give its status for this pair of SAEs. */
  async #wrongFor(): Promise<string | undefined> {
    const { client, device } = this.#options;
    try {
      return wrongSaes(device, await client.status())[0]?.message;
    } catch (error) {
      return errorMessage(error);
    }
  }

  /** Whether the device is asked for a key: not again until its refusal would be believed. */
  #isDue(id: string): boolean {
    const first = this.#refusedAt.get(id);
    return first === undefined || performance.now() - first >= this.#options.believedMs;
  }

  #isBelieved(id: string): boolean {
    const now = performance.now();
    const first = this.#refusedAt.get(id);
    if (first !== undefined) return now - first >= this.#options.believedMs;
    if (this.#refusedAt.size >= MAX_REFUSED) this.#refusedAt.clear();
    this.#refusedAt.set(id, now);
    return false;
  }
}

function isOf(cut: readonly Block[], { blocks }: DeviceKey): boolean {
  return cut.length === blocks.length && cut.every(({ id }, i) => sameBytes(id, blocks[i]!));
}

function digestOf({ keys }: DeviceKeysQuestion): string {
  return hash("sha256", JSON.stringify(keys.map(({ id, blocks }) => [id, blocks.map(mapKey)])));
}
