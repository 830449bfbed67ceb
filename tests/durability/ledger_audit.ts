/**
 * Checks a network of two KMEs: SAEs at both ends ask for keys, and at the end the databases of the KMEs are compared with
 * what the SAEs received. Bits of keys are compared and not kept; no message contains them.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { blockKeyId, formatKeyId } from "../../src/domain/block.ts";
import type { TestNetwork } from "../harness/test_network.ts";
import type { SaeClient, SaeResponse } from "../harness/sae_client.ts";
import { findRecords } from "../../src/audit/find_records.ts";
import { verifyAudit } from "../../src/audit/verify_audit.ts";
import { type Ledger, readLedger } from "./delivery_record.ts";
import type { Random } from "./random.ts";

/** Sizes of keys in bits; the rest of the last block is long enough to identify the block. */
const SIZES = [256, 256, 256, 256, 64, 128, 192, 320, 512, 576, 1024];

/** Milliseconds after the end of a process in which its peers notice it. */
const NOTICE_MS = 50;

const BLOCK = 32;

interface Block {
  /** key_ID. */
  readonly id: string;
  readonly link: string;
  readonly bits: Uint8Array;
  /** The key that was made of it. */
  key?: string;
}

interface Handed {
  readonly keyId: string;
  readonly master: string;
  readonly slaves: readonly string[];
  readonly digest: string;
  /** By slave: read, or read although the KME was killed before it answered. */
  readonly readers: Map<string, "read" | "lost">;
}

/** A request that is under way. */
interface UnderWay {
  /** KMEs that take part in it. */
  readonly kmes: ReadonlySet<string>;
  /** One of these KMEs was killed meanwhile. */
  struck: boolean;
}

export interface AuditOptions {
  readonly network: TestNetwork;
  /** The two KMEs. */
  readonly kmes: readonly [string, string];
  /** SAEs by their KME. */
  readonly saes: Readonly<Record<string, readonly string[]>>;
  /** Ports of replicas' SAE interfaces, by KME; the configured one by default. */
  readonly ports?: Readonly<Record<string, readonly number[]>>;
  readonly random: Random;
  /** Chance that a request names several slaves; 0.2 by default. */
  readonly several?: number;
  /** Sizes of keys; many by default. */
  readonly sizes?: readonly number[];
  /** Numbers of keys in a request; 1 to 3 by default. */
  readonly numbers?: readonly number[];
  /** Only keys between the KMEs. */
  readonly remoteOnly?: boolean;
}

export interface Figures {
  kills: number;
  /** Keys handed to masters. */
  delivered: number;
  /** Blocks that were removed without a key. */
  burnt: number;
  /** Blocks of requests that were under way at kills and failed: the most that may be burnt. */
  inFlight: number;
  /** Requests that were answered with an error. */
  refused: number;
  /** Readings whose answer was lost because the KME was killed. */
  lostReadings: number;
}

export class Audit {
  readonly figures: Figures = {
    kills: 0,
    delivered: 0,
    burnt: 0,
    inFlight: 0,
    refused: 0,
    lostReadings: 0,
  };
  readonly #options: AuditOptions;
  readonly #random: Random;
  readonly #clients = new Map<string, SaeClient[]>();
  readonly #kmeOf = new Map<string, string>();
  readonly #blocks = new Map<string, Block>();
  readonly #imported = new Map<string, Set<string>>();
  readonly #handed = new Map<string, Handed>();
  readonly #underWay = new Set<UnderWay>();
  readonly #strikes = new Set<ReadonlySet<string>>();
  /** Blocks of requests in flight at kills, by link. */
  readonly #atRisk = new Map<string, number>();
  /** Blocks that served as pads, by link. */
  readonly #pads = new Map<string, number>();
  readonly #failures: string[] = [];
  readonly #workers: Promise<void>[] = [];
  readonly #readings = new Set<Promise<void>>();
  /** Called once with the next key. */
  readonly #nextKeys = new Set<() => void>();
  #stopping = false;
  #lastRefusal = "none";

  constructor(options: AuditOptions) {
    this.#options = options;
    this.#random = options.random;
    for (const kme of options.kmes) {
      const ports = options.ports?.[kme] ?? [options.network.kme(kme).saesPort];
      for (const sae of options.saes[kme]!) {
        this.#kmeOf.set(sae, kme);
        this.#clients.set(sae, ports.map((port) => options.network.client(sae, { port, timeout: 30_000 })));
      }
    }
  }

  /** Writes a key file of fresh blocks to both ends of a link and remembers them; returns its content. */
  async addKeys(a: string, b: string, count: number, name?: string): Promise<Uint8Array> {
    const content = new Uint8Array(count * BLOCK);
    for (let i = 0; i < content.length; i += 65536) crypto.getRandomValues(content.subarray(i, i + 65536));
    this.remember(a, b, content);
    await this.#options.network.writeKeyFile(a, b, content, { name });
    return content;
  }

  /** Records the blocks of a key file of a link. */
  remember(a: string, b: string, content: Uint8Array): void {
    const link = linkName(a, b);
    const imported = this.#imported.get(link) ?? new Set();
    this.#imported.set(link, imported);
    for (let i = 0; i + BLOCK <= content.length; i += BLOCK) {
      const bits = content.slice(i, i + BLOCK);
      const id = formatKeyId(blockKeyId(bits));
      this.#blocks.set(beginning(bits), { id, link, bits });
      imported.add(id);
    }
  }

  /** Blocks of all files that were put at a KME. */
  importedAt(kme: string): number {
    return [...this.#imported].reduce(
      (sum, [link, { size }]) => link.split("-").includes(kme) ? sum + size : sum,
      0,
    );
  }

  /** key_IDs of all keys handed out so far. */
  keyIds(): string[] {
    return [...this.#handed.keys()];
  }

  /** Keys handed out so far. */
  get delivered(): number {
    return this.figures.delivered;
  }

  /** Starts workers for every SAE; each asks, again and again, until {@linkcode stopLoad}. */
  startLoad(workers: number): void {
    this.#stopping = false;
    for (const sae of this.#kmeOf.keys()) {
      for (let i = 0; i < workers; i++) this.#workers.push(this.#work(sae));
    }
  }

  /** Resolves when so many more keys have been handed out; rejects when none is handed out for a minute. */
  async untilDelivered(more: number): Promise<void> {
    const at = this.delivered + more;
    while (this.delivered < at) {
      const next = Promise.withResolvers<void>();
      this.#nextKeys.add(next.resolve);
      const timer = setTimeout(() => {
        const facts =
          `${this.#underWay.size} requests are under way, the last refusal was: ${this.#lastRefusal}`;
        const failures = this.#failures.slice(0, 10).join("\n");
        const missing = `${at - this.delivered} of ${more} more keys are missing, none came within 60 s`;
        next.reject(new Error(`${missing} ${this.#say()}: ${facts}\n${failures}`));
      }, 60_000);
      await next.promise.finally(() => clearTimeout(timer));
    }
  }

  /** Ends the load; every key has then been read by its slaves. */
  async stopLoad(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#workers.splice(0));
    while (this.#readings.size > 0) await Promise.all(this.#readings);
    this.#check();
  }

  /** Kills KMEs, some of their processes, or their databases; requests under way may be lost. */
  async kill(kmes: readonly string[], kill: () => Promise<unknown>): Promise<void> {
    const struck = new Set(kmes);
    this.figures.kills++;
    this.#strikes.add(struck);
    for (const request of this.#underWay) {
      if (kmes.some((kme) => request.kmes.has(kme))) request.struck = true;
    }
    await kill();
    setTimeout(() => this.#strikes.delete(struck), NOTICE_MS);
  }

  /** One request of a master. @returns the answer; its keys have been checked and recorded. */
  async ask(
    master: string,
    slaves: readonly string[],
    request: { number?: number; size?: number } = {},
  ): Promise<SaeResponse | undefined> {
    const { number = 1, size = 256 } = request;
    const [slave, ...more] = slaves as [string, ...string[]];
    const here = this.#kmeOf.get(master)!;
    const blocks = number * Math.ceil(size / 256);
    const takes = new Map([[linkName(here, this.#kmeOf.get(slave)!), blocks]]);
    const pads = new Map<string, number>();
    for (const kme of new Set(slaves.map((each) => this.#kmeOf.get(each)!))) {
      if (kme !== here && kme !== this.#kmeOf.get(slave)) pads.set(linkName(here, kme), blocks);
    }
    for (const [link, count] of pads) takes.set(link, (takes.get(link) ?? 0) + count);
    const asking = this.#begin([here, ...slaves.map((each) => this.#kmeOf.get(each)!)]);
    let answer: SaeResponse | undefined;
    try {
      answer = await this.#client(master).encKeys(
        slave,
        more.length === 0 ? request : { ...request, additional_slave_SAE_IDs: more },
      );
    } catch {
      // The KME was killed.
    }
    this.#underWay.delete(asking);
    if (answer?.status === 200) {
      const keys = answer.json.keys as { key_ID: string; key: string }[];
      if (keys.length !== number) this.#fail(`${keys.length} keys instead of ${number}`);
      for (const [link, count] of pads) add(this.#pads, link, count);
      for (const key of keys) this.#handOver(key, master, slaves, size);
      return answer;
    }
    this.figures.refused++;
    this.#lastRefusal = `${master} for ${slaves}: ${answer === undefined ? "cut off" : answer.text}`;
    if (asking.struck) {
      for (const [link, count] of takes) {
        add(this.#atRisk, link, count);
        this.figures.inFlight += count;
      }
    }
    if (answer !== undefined && answer.status !== 503) {
      this.#fail(`enc_keys: ${answer.status} ${answer.text}`);
    }
    return answer;
  }

  /** A slave reads keys; it retries while its KME does not run. */
  async read(slave: string, master: string, keyIds: readonly string[]): Promise<void> {
    const reading = this.#begin([this.#kmeOf.get(slave)!]);
    try {
      await this.#read(slave, master, keyIds, reading);
    } finally {
      this.#underWay.delete(reading);
    }
  }

  async #read(slave: string, master: string, keyIds: readonly string[], reading: UnderWay): Promise<void> {
    const before: string[] = [];
    for (let end = Date.now() + 60_000;;) {
      let answer: SaeResponse | undefined;
      try {
        answer = await this.#client(slave).decKeys(master, keyIds);
      } catch {
        before.push("cut off");
      }
      if (answer?.status === 200) return this.#checkRead(slave, answer, keyIds);
      // The KME may have recorded that the key was read, and then been killed.
      const mayHaveRead = before.includes("cut off") || reading.struck && before.length > 0;
      if (answer?.status === 400 && mayHaveRead) {
        for (const id of keyIds) this.#handed.get(id)!.readers.set(slave, "lost");
        this.figures.lostReadings += keyIds.length;
        return;
      }
      const what = `SAE ${slave} cannot read ${keyIds}`;
      if (answer !== undefined && answer.status !== 503) {
        return this.#fail(`${what}: ${answer.status} ${answer.text}, before: ${before}`);
      }
      if (this.#isStruck(this.#kmeOf.get(slave)!)) end = Date.now() + 60_000;
      if (Date.now() > end) return this.#fail(`${what} within a minute after its KME was back`);
      if (answer !== undefined) before.push(answer.text);
      await pause(50);
    }
  }

  #checkRead(slave: string, answer: SaeResponse, keyIds: readonly string[]): void {
    const keys = answer.json.keys as { key_ID: string; key: string }[];
    if (keys.length !== keyIds.length) this.#fail(`${keys.length} keys read instead of ${keyIds.length}`);
    for (const { key_ID, key } of keys) {
      const handed = this.#handed.get(key_ID);
      if (handed === undefined) this.#fail(`key ${key_ID} read that no SAE asked for`);
      else if (handed.digest !== digest(Buffer.from(key, "base64"))) {
        this.#fail(`key ${key_ID} has other bits`);
      } else if (handed.readers.has(slave)) this.#fail(`key ${key_ID} read twice by SAE ${slave}`);
      else handed.readers.set(slave, "read");
    }
  }

  /** Keys that have been read cannot be read again, by their slaves or by other SAEs. */
  async checkClosed(count: number): Promise<void> {
    const all = [...this.#handed.values()];
    const sample = all.length <= count ? all : Array.from({ length: count }, () => this.#random.pick(all));
    for (const { keyId, master, slaves } of sample) {
      for (const sae of this.#kmeOf.keys()) {
        if (sae === master) continue;
        const { status } = await this.#client(sae).decKeys(master, keyId);
        const right = slaves.includes(sae) ? [400] : [400, 401];
        if (!right.includes(status)) this.#fail(`SAE ${sae} asks for key ${keyId} of others: ${status}`);
      }
    }
    this.#check();
  }

  /**
   * Compares the databases of both KMEs with what was seen. No request is under way and no reservation is left.
   *
   * @param options.burnt the most blocks that may be burnt; those of the requests in flight at kills by default.
   */
  async checkLedgers(options: { burnt?: number } = {}): Promise<void> {
    const [a, b] = this.#options.kmes;
    const ledgers = new Map<string, Ledger>();
    for (const kme of [a, b]) ledgers.set(kme, await readLedger(databaseOf(this.#options.network, kme)));
    for (const { keyId, slaves, readers } of this.#handed.values()) {
      for (const slave of slaves) {
        if (!readers.has(slave)) this.#fail(`key ${keyId} has not been read by SAE ${slave}`);
      }
    }
    const used = new Map<string, Set<string>>();
    for (const block of this.#blocks.values()) {
      if (block.key === undefined) continue;
      const ids = used.get(block.link) ?? new Set();
      used.set(block.link, ids.add(block.id));
    }
    for (const [kme, ledger] of ledgers) {
      const imported = this.importedAt(kme);
      if (ledger.reservations > 0) this.#fail(`KME ${kme}: ${ledger.reservations} reservations are left`);
      if (ledger.seen.size !== imported) {
        this.#fail(`KME ${kme}: ${ledger.seen.size} blocks were ever stored, ${imported} were in files`);
      }
      for (const [id, block] of ledger.blocks) {
        const link = linkName(kme, block.link);
        if (block.state !== "free") this.#fail(`KME ${kme}: block ${id} is still ${block.state}`);
        if (!ledger.seen.has(id)) this.#fail(`KME ${kme}: block ${id} is stored but not remembered`);
        if (!this.#imported.get(link)?.has(id)) {
          this.#fail(`KME ${kme}: block ${id} is in no file of ${link}`);
        }
        if (used.get(link)?.has(id)) this.#fail(`KME ${kme}: block ${id} was delivered and is in the pool`);
      }
      for (const [other, count] of ledger.stock) {
        const free = freeOf(ledger, other).size;
        if (count !== free) {
          this.#fail(`KME ${kme}: the stock with KME ${other} is ${count}, free are ${free}`);
        }
      }
      for (const keyId of ledger.waiting.keys()) {
        if (this.#handed.has(keyId)) this.#fail(`KME ${kme}: key ${keyId} was read and waits still`);
      }
    }
    for (const [link, imported] of this.#imported) {
      const [left, right] = link.split("-") as [string, string];
      const leftFree = freeOf(ledgers.get(left)!, right);
      const rightFree = freeOf(ledgers.get(right)!, left);
      const common = [...leftFree].filter((id) => rightFree.has(id)).length;
      const spent = (used.get(link)?.size ?? 0) + (this.#pads.get(link) ?? 0);
      const burnt = imported.size - common - spent;
      this.figures.burnt += burnt;
      const limit = options.burnt ?? this.#atRisk.get(link) ?? 0;
      const facts =
        `${imported.size} stored, ${leftFree.size} and ${rightFree.size} free, ${common} of them on ` +
        `both ends, ${spent} delivered`;
      if (burnt < 0 || burnt > limit) {
        this.#fail(`link ${link}: ${burnt} blocks burnt, at most ${limit} may be (${facts})`);
      }
    }
    this.#check();
  }

  /** Compares the audit logs of both KMEs with what the SAEs received: no key came without a record. */
  async checkRecords(directoryOf: (kme: string) => string): Promise<void> {
    const recorded = new Set<string>();
    for (const kme of this.#options.kmes) {
      const { findings } = await verifyAudit({ directory: directoryOf(kme) });
      for (const { severity, place, line, message } of findings) {
        if (severity === "problem") this.#fail(`audit log of KME ${kme}: ${place} line ${line}: ${message}`);
      }
      for await (const { record } of findRecords(directoryOf(kme), {})) {
        const { kind, key_IDs, master, slaves, sae } = record.content as Record<string, string & string[]>;
        for (const id of key_IDs ?? []) recorded.add(`${kme} ${kind} ${id} ${master} ${sae ?? slaves}`);
      }
    }
    for (const { keyId, master, slaves, readers } of this.#handed.values()) {
      const expected = [`${this.#kmeOf.get(master)} delivery ${keyId} ${master} ${slaves}`];
      for (const [slave, how] of readers) {
        if (how === "read") expected.push(`${this.#kmeOf.get(slave)} fetch ${keyId} ${master} ${slave}`);
      }
      for (const record of expected) if (!recorded.has(record)) this.#fail(`no record: ${record}`);
    }
    this.#check();
  }

  /** Prints a line for the output of the tests. */
  report(what: string): void {
    const { kills, delivered, burnt, inFlight, refused, lostReadings } = this.figures;
    console.log(
      `${what}: ${kills} kills, ${delivered} keys delivered, ${burnt} blocks burnt of ${inFlight} in flight, ` +
        `${refused} requests refused, ${lostReadings} readings lost on the way ${this.#say()}`,
    );
  }

  async #work(master: string): Promise<void> {
    const { several = 0.2, sizes = SIZES, numbers = [1, 2, 3], remoteOnly = false } = this.#options;
    const here = this.#kmeOf.get(master)!;
    const others = [...this.#kmeOf.keys()].filter((sae) =>
      sae !== master && (!remoteOnly || this.#kmeOf.get(sae) !== here)
    );
    const random = this.#random;
    while (!this.#stopping && this.#failures.length === 0) {
      const slaves = new Set([random.pick(others)]);
      if (random.chance(several)) slaves.add(random.pick(others));
      const answer = await this.ask(master, [...slaves], {
        number: random.pick(numbers),
        size: random.pick(sizes),
      });
      if (answer?.status !== 200) {
        // When a pool is nearly empty both ends ask for the same blocks; other tests cover that.
        if (answer?.json?.message?.includes("in stock")) {
          this.#fail("the key files are too small for this load");
        }
        await pause(random.between(20, 100));
        continue;
      }
      const ids = (answer.json.keys as { key_ID: string }[]).map((key) => key.key_ID);
      for (const slave of slaves) this.#track(this.#readLater(slave, master, ids));
      await pause(random.between(0, 60));
    }
  }

  async #readLater(slave: string, master: string, ids: readonly string[]): Promise<void> {
    const random = this.#random;
    await pause(random.between(0, 300));
    if (random.chance(0.1)) await this.#intrude(master, ids[0]!);
    if (random.chance(0.5)) await this.read(slave, master, ids);
    else for (const id of ids) await this.read(slave, master, [id]);
  }

  /** An SAE asks for a key of other SAEs. */
  async #intrude(master: string, keyId: string): Promise<void> {
    const { slaves } = this.#handed.get(keyId)!;
    const others = [...this.#kmeOf.keys()].filter((sae) => sae !== master && !slaves.includes(sae));
    if (others.length === 0) return;
    const sae = this.#random.pick(others);
    const answer = await this.#client(sae).decKeys(master, keyId).catch(() => undefined);
    if (answer !== undefined && ![400, 401, 503].includes(answer.status)) {
      this.#fail(`SAE ${sae} asks for key ${keyId} of others: ${answer.status}`);
    }
  }

  #track(reading: Promise<void>): void {
    const tracked = reading.catch((error) => this.#fail(`reading failed: ${error}`))
      .finally(() => this.#readings.delete(tracked));
    this.#readings.add(tracked);
  }

  #handOver(
    { key_ID, key }: { key_ID: string; key: string },
    master: string,
    slaves: readonly string[],
    size: number,
  ): void {
    const bits = Buffer.from(key, "base64");
    if (bits.length * 8 !== size) this.#fail(`key ${key_ID} has ${bits.length * 8} bits, not ${size}`);
    if (this.#handed.has(key_ID)) this.#fail(`key ${key_ID} was handed out twice`);
    const link = linkName(this.#kmeOf.get(master)!, this.#kmeOf.get(slaves[0]!)!);
    for (let i = 0; i < bits.length; i += BLOCK) {
      const part = bits.subarray(i, i + BLOCK);
      const block = this.#blocks.get(beginning(part));
      if (block === undefined || Buffer.compare(block.bits.subarray(0, part.length), part) !== 0) {
        this.#fail(`key ${key_ID} holds bits that are in no file`);
        continue;
      }
      if (block.key !== undefined) this.#fail(`block ${block.id} is in the keys ${block.key} and ${key_ID}`);
      if (block.link !== link) {
        this.#fail(`key ${key_ID} of link ${link} holds a block of link ${block.link}`);
      }
      if (block.id === key_ID) this.#fail(`the key_ID ${key_ID} is the digest of the key`);
      block.key = key_ID;
    }
    this.#handed.set(key_ID, { keyId: key_ID, master, slaves, digest: digest(bits), readers: new Map() });
    this.figures.delivered++;
    for (const delivered of this.#nextKeys) delivered();
    this.#nextKeys.clear();
  }

  #begin(kmes: readonly string[]): UnderWay {
    const request: UnderWay = { kmes: new Set(kmes), struck: kmes.some((kme) => this.#isStruck(kme)) };
    this.#underWay.add(request);
    return request;
  }

  /** Whether a KME is being killed, or waits for what {@linkcode kill} takes away. */
  #isStruck(kme: string): boolean {
    return [...this.#strikes].some((strike) => strike.has(kme));
  }

  #client(sae: string): SaeClient {
    return this.#random.pick(this.#clients.get(sae)!);
  }

  #fail(message: string): void {
    this.#failures.push(message);
  }

  #check(): void {
    if (this.#failures.length === 0) return;
    const more = this.#failures.length > 20 ? `\nand ${this.#failures.length - 20} more` : "";
    assert.fail(`${this.#say()}\n${this.#failures.slice(0, 20).join("\n")}${more}`);
  }

  #say(): string {
    return `(KME_TEST_SEED=${this.#random.seed})`;
  }
}

/** The `db_uri` that a KME is configured with. */
export function databaseOf(network: TestNetwork, kme: string): string {
  return network.kme(kme).config.this_kme.db_uri;
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function linkName(a: string, b: string): string {
  return [a, b].sort().join("-");
}

function freeOf(ledger: Ledger, other: string): Set<string> {
  return new Set(
    [...ledger.blocks].filter(([, block]) => block.state === "free" && block.link === other).map(([id]) =>
      id
    ),
  );
}

function beginning(bits: Uint8Array): string {
  return bits.subarray(0, 8).toHex();
}

function digest(bits: Uint8Array): string {
  return createHash("sha256").update(bits).digest("base64");
}

function add(map: Map<string, number>, name: string, count: number): void {
  map.set(name, (map.get(name) ?? 0) + count);
}
