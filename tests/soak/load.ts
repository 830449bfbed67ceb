/** The mixed load of the soak, and what is wrong with the answers. */
import { hash } from "node:crypto";
import type { Random } from "../durability/random.ts";
import { postLargeBody } from "../harness/large_body.ts";
import { keysOf, type SaeClient } from "../harness/sae_client.ts";
import type { TestNetwork } from "../harness/test_network.ts";

/** SAEs by their KME. */
export const SAES = { 1: [11, 12], 2: [21, 22] } as const;

/** Links, each with itself or with the other KME. */
const LINKS = [[1, 1], [2, 2], [1, 2]] as const;

/** Bits; not so short that two random keys could be equal. */
const KEY_SIZES = [128, 256, 256, 256, 512, 1024];

/** Blocks of a link below which files arrive. */
const LOW = 3000;

/** Statuses that are no fault: 503 is that of a database that is away, or of a link whose file has not arrived yet. */
const EXPECTED = new Set([200, 503]);

export interface LoadFindings {
  delivered: number;
  /** Keys, or key_IDs, that were delivered before. */
  twice: number;
  /** Keys that a slave got with other bits than the master. */
  different: number;
  /** Keys that a master got and the slave was told not to exist. */
  lost: number;
  hungUp: number;
  refusedBodies: number;
  files: number;
  /** Answers by status. */
  readonly statuses: Map<number, number>;
  /** Answers and errors that must not occur, in words. */
  readonly wrong: string[];
}

export class SoakLoad {
  readonly found: LoadFindings = {
    delivered: 0,
    twice: 0,
    different: 0,
    lost: 0,
    hungUp: 0,
    refusedBodies: 0,
    files: 0,
    statuses: new Map(),
    wrong: [],
  };
  readonly #network: TestNetwork;
  readonly #random: Random;
  readonly #clients = new Map<number, SaeClient>();
  /** Digests of keys and of key_IDs: 64 bits of each, which do not collide among some millions. */
  readonly #seen = new Set<bigint>();
  #going = true;
  #running: Promise<unknown> = Promise.resolve();

  constructor(network: TestNetwork, random: Random) {
    this.#network = network;
    this.#random = random;
    for (const id of Object.values(SAES).flat()) this.#clients.set(id, network.client(id));
  }

  /** Files for all links, before anything is asked for. */
  async stockUp(): Promise<void> {
    for (const link of LINKS) await this.#addKeys(link, LOW);
  }

  start(workers: number): void {
    this.#going = true;
    this.#running = Promise.all([
      ...Array.from({ length: workers }, () => this.#repeat(() => this.#exchange(), 20)),
      this.#repeat(() => this.#hangUp(), 50),
      this.#repeat(() => this.#sendTooMuch(), 500),
      this.#repeat(() => this.#askInVain(), 200),
      this.#repeat(() => this.#lookAtConsole(), 300),
      this.#repeat(() => this.#supply(), 1000),
    ]);
  }

  /** Ends the load and closes all its connections. */
  async stop(): Promise<void> {
    this.#going = false;
    await this.#running;
    for (const client of this.#clients.values()) client.close();
  }

  async #repeat(action: () => Promise<void>, pauseMs: number): Promise<void> {
    while (this.#going) {
      try {
        await action();
      } catch (error) {
        this.#wrong(String(error));
      }
      await new Promise((resolve) => setTimeout(resolve, pauseMs * 2 * this.#random.next()));
    }
  }

  #wrong(what: string): void {
    if (this.found.wrong.length < 100) this.found.wrong.push(what);
  }

  #count(status: number, what: string): void {
    const { statuses } = this.found;
    statuses.set(status, (statuses.get(status) ?? 0) + 1);
    if (!EXPECTED.has(status)) this.#wrong(`${what}: ${status}`);
  }

  /** A master gets keys, the slave fetches them. */
  async #exchange(): Promise<void> {
    const random = this.#random;
    const saes = Object.values(SAES).flat();
    const master = random.pick(saes);
    const slave = random.pick(saes.filter((sae) => sae !== master));
    const request = { number: random.pick([1, 1, 2, 10]), size: random.pick(KEY_SIZES) };
    const answer = await this.#withClient(master, (client) => client.encKeys(slave, request));
    this.#count(answer.status, "enc_keys");
    if (answer.status !== 200) return;
    const keys = new Map(keysOf(answer).map(({ key_ID, key }) => [key_ID, key]));
    for (const [id, key] of keys) {
      this.found.delivered++;
      for (const value of [`id ${id}`, `key ${key}`]) {
        const digest = hash("sha256", value, "buffer").readBigUInt64BE();
        if (this.#seen.has(digest)) this.found.twice++;
        this.#seen.add(digest);
      }
    }
    const read = await this.#withClient(slave, (client) => client.decKeys(master, [...keys.keys()]));
    if (read.status === 400) {
      this.found.lost += keys.size;
      return;
    }
    this.#count(read.status, "dec_keys");
    if (read.status !== 200) return;
    for (const { key_ID, key } of keysOf(read)) if (keys.get(key_ID) !== key) this.found.different++;
  }

  /** On a kept connection, or with a handshake for the request alone. */
  async #withClient<T>(sae: number, ask: (client: SaeClient) => Promise<T>): Promise<T> {
    if (!this.#random.chance(0.1)) return await ask(this.#clients.get(sae)!);
    using client = this.#network.client(sae, { agent: false });
    return await ask(client);
  }

  /** A client that goes away in the middle of a handshake, a request or an answer. */
  async #hangUp(): Promise<void> {
    const random = this.#random;
    const [sae, slave] = random.pick([SAES[1], SAES[2]]);
    const client = this.#clients.get(sae)!;
    const socket = await client.openSocket({});
    const body = JSON.stringify({ number: 2, size: 256 });
    const request = `POST /api/v1/keys/${slave}/enc_keys HTTP/1.1\r\nHost: kme\r\n` +
      `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    socket.write(request.slice(0, random.between(0, request.length)));
    await new Promise((resolve) => setTimeout(resolve, random.between(0, 20)));
    socket.destroy();
    this.found.hungUp++;
  }

  async #sendTooMuch(): Promise<void> {
    const kme = this.#random.pick([1, 2] as const);
    const [sae, slave] = SAES[kme];
    const { cert, key } = this.#network.sae(sae);
    const { saesPort, zoneCa } = this.#network.kme(kme);
    const text = await postLargeBody({ port: saesPort, ca: zoneCa.ca, cert, key }, slave, 20_000_000);
    if (!text.startsWith("HTTP/1.1 413 ")) this.#wrong(`a large body: ${text.slice(0, 100)}`);
    this.found.refusedBodies++;
  }

  /** Requests that are refused. */
  async #askInVain(): Promise<void> {
    const [sae, slave] = this.#random.pick([SAES[1], SAES[2]]);
    const client = this.#clients.get(sae)!;
    const answers = [
      await client.decKeys(slave, crypto.randomUUID()),
      await client.encKeys(slave, { size: 77 }),
      await client.raw({ path: "/nothing" }),
    ];
    for (const { status } of answers) {
      if (status !== 503 && (status < 400 || status > 404)) this.#wrong(`a request in vain: ${status}`);
    }
  }

  async #lookAtConsole(): Promise<void> {
    const origin = `http://127.0.0.1:${this.#network.kme(this.#random.pick([1, 2])).consolePort}`;
    const path = this.#random.pick(["/metrics", "/status", "/incidents", "/events"]);
    const stop = new AbortController();
    const answer = await fetch(`${origin}${path}`, { signal: stop.signal });
    if (path === "/events") stop.abort();
    else await answer.text();
    if (answer.status !== 200) this.#wrong(`${path}: ${answer.status}`);
  }

  /** Large and small key files for the links that need them. */
  async #supply(): Promise<void> {
    for (const link of LINKS) {
      const [a, b] = link;
      const [sae, other] = SAES[a];
      const status = await this.#clients.get(sae)!.status(a === b ? other : SAES[b][0]);
      if (status.status !== 200) continue;
      if (status.json.stored_key_count < LOW) await this.#addKeys(link, LOW);
      await this.#addKeys(link, 2);
    }
  }

  async #addKeys([a, b]: (typeof LINKS)[number], blocks: number): Promise<void> {
    await this.#network.writeKeyFile(a, b, blocks);
    this.found.files += a === b ? 1 : 2;
  }
}
