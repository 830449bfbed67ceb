/** Two KMEs to be measured: started anew before each run, or with a stock that is refilled between runs. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { eventually } from "../harness/eventually.ts";
import type { KmeOptions, KmeProcess } from "../harness/kme_process.ts";
import { makeTestNetwork, type NetworkSpec, type TestNetwork } from "../harness/test_network.ts";
import type { SaeClient } from "../harness/sae_client.ts";
import { load } from "./load_process.ts";
import type { LoadEndpoint, LoadJob, LoadKind, LoadResult } from "./load_job.ts";

/** Environment of a KME that does not log its events: without it, three lines for each key. */
export const EVENTS_OFF = { LOG_LEVEL: "info,event=warning" };

/** As in operation, except for the limit of the pools. */
const OPTIONS = { max_key_count: 100_000_000, key_lifetime_seconds: 86400 };

const KMES = ["1", "2"] as const;

/** Milliseconds after its last change in which a KME leaves a file alone; a little longer. */
const REST_MS = 550;

/** Blocks of the largest key file that is written: 32 MB. */
const MAX_FILE_BLOCKS = 1_000_000;

/** Milliseconds for which the stock after a run is awaited; longer than the time between two comparisons of stocks. */
const SETTLE_MS = 30_000;

/** Keys that a run leaves in stock, for the requests under way at its end and so that the pool does not run empty. */
const RESERVE = 256;

/** `:memory:`, `sqlite`, or a database server. */
export type Database = string | DatabaseServer;

export interface DatabaseServer {
  createDatabase(): Promise<string>;
  dropDatabase(uri: string): Promise<void>;
}

export type Way = "status" | "enc" | "enc+dec";

export interface Request {
  readonly way: Way;
  /** `local`: both SAEs at KME 1; `remote`: the slave at KME 2. */
  readonly slave: "local" | "remote";
  readonly keys?: number;
  /** Bits of each key, 256 by default. */
  readonly size?: number;
  readonly handshakes?: boolean;
  readonly connections?: number;
  /** Requests per second; as many as are answered by default. */
  readonly pace?: number;
}

/** Of two KMEs with the default settings, but for these. */
export interface SiteOptions extends Pick<KmeOptions, "env" | "program"> {
  /** Last change to each configuration. */
  readonly edit?: NetworkSpec["edit"];
}

/** Of one run. */
export interface SiteResult extends LoadResult {
  /** Lines of their logs that the KMEs dropped, because they came faster than they could be written. */
  readonly droppedLines: number;
}

export interface Times {
  readonly seconds: number;
  readonly warmup: number;
  /** Most requests of a run. */
  readonly requests?: number;
}

/** KME 1 with SAE 1, the master, and SAE 2; KME 2 with SAE 3. */
export function makeBenchNetwork(
  [first, second]: readonly string[],
  edit?: NetworkSpec["edit"],
): Promise<TestNetwork> {
  return makeTestNetwork({
    edit,
    kmes: [
      { id: 1, saes: [1, 2], database: first, options: OPTIONS, console: true },
      { id: 2, saes: [3], database: second, options: OPTIONS, console: true },
    ],
  });
}

export class Site implements AsyncDisposable {
  readonly network: TestNetwork;
  readonly #databases: readonly [Database, Database];
  readonly #options: KmeOptions;
  readonly #uris: (string | undefined)[] = [];
  readonly #processes: KmeProcess[] = [];
  readonly #clients = new Map<string, SaeClient>();
  /** Blocks that were ingested, less those of the keys that came. */
  readonly #expected: Record<Request["slave"], number> = { local: 0, remote: 0 };
  #file = 0;

  private constructor(
    network: TestNetwork,
    databases: readonly [Database, Database],
    { env, program }: SiteOptions,
  ) {
    this.network = network;
    this.#databases = databases;
    // As with a journal: the log is read as fast as it comes.
    this.#options = { env, program, discardOutput: true };
  }

  /** Makes the network; {@linkcode renew} and {@linkcode runAfresh} start the KMEs. */
  static async make(databases: readonly [Database, Database], options: SiteOptions = {}): Promise<Site> {
    const uri = (database: Database) => typeof database === "string" ? database : ":memory:";
    return new Site(await makeBenchNetwork(databases.map(uri), options.edit), databases, options);
  }

  static async start(databases: readonly [Database, Database]): Promise<Site> {
    const site = await Site.make(databases);
    await site.renew();
    return site;
  }

  /** Processes of KME 1 and KME 2. */
  get pids(): number[] {
    return this.#processes.map((process) => process.pid);
  }

  /** Both KMEs as new processes on new, empty databases, with no key file left. */
  async renew(): Promise<void> {
    await this.#clear();
    await this.#startBoth();
  }

  async #clear(): Promise<void> {
    this.#closeClients();
    this.#expected.local = this.#expected.remote = 0;
    await Promise.all(this.#processes.splice(0).map((process) => process.kill()));
    for (const [i, id] of KMES.entries()) {
      const kme = this.network.kme(id);
      for (const directory of [kme.directory, ...kme.keyDirectories.values()]) {
        for (const name of filesIn(directory)) {
          const isLeft = directory !== kme.directory || name.startsWith("kme.db");
          if (isLeft) await Deno.remove(join(directory, name));
        }
      }
      const database = this.#databases[i]!;
      if (typeof database === "string") continue;
      const old = this.#uris[i];
      if (old !== undefined) await database.dropDatabase(old);
      const uri = this.#uris[i] = await database.createDatabase();
      await this.network.writeConfig(id, ({ this_kme }) => this_kme.db_uri = uri);
    }
  }

  async #startBoth(): Promise<void> {
    this.#processes.push(...await Promise.all(KMES.map((id) => this.network.start(id, this.#options))));
  }

  /** Stops KME 1 by SIGTERM and starts it again; returns the seconds until it was ready. */
  async restart(): Promise<number> {
    this.#closeClients();
    await this.#processes[0]!.stop();
    const begin = performance.now();
    this.#processes[0] = await this.network.start("1", this.#options);
    return (performance.now() - begin) / 1000;
  }

  /** Blocks in stock, as an SAE of KME 1 is told. */
  async stock(slave: Request["slave"]): Promise<number> {
    return (await this.#client("1").status(SLAVES[slave])).json.stored_key_count;
  }

  /** Brings the stock of a link up to `blocks` through key files, as in operation. */
  async fill(slave: Request["slave"], blocks: number): Promise<void> {
    for (let missing = blocks - await this.stock(slave); missing > 0; missing -= MAX_FILE_BLOCKS) {
      await (await this.prepare(slave, Math.min(missing, MAX_FILE_BLOCKS)))();
    }
    await this.#filled(slave, blocks);
  }

  /**
   * Writes a key file under a name that no KME looks at.
   *
   * @returns what makes it appear; resolves when all its blocks are in stock.
   */
  async prepare(slave: Request["slave"], blocks: number): Promise<() => Promise<void>> {
    const appear = await this.#writeFile(slave, blocks);
    // A complete file is ingested as soon as it appears.
    await new Promise((resolve) => setTimeout(resolve, REST_MS));
    return async () => {
      const before = await this.stock(slave);
      await appear();
      await this.#filled(slave, before + blocks);
    };
  }

  /** Lets a key file appear, as {@linkcode prepare} does, while keys are asked for. */
  async addFile(slave: Request["slave"], blocks: number): Promise<void> {
    await (await this.#writeFile(slave, blocks))();
  }

  async #writeFile(slave: Request["slave"], blocks: number): Promise<() => Promise<void>> {
    const link = slave === "local" ? "1" : "2";
    const directories = new Set([this.network.keyDirectory("1", link), this.network.keyDirectory(link, "1")]);
    const name = `bench-${++this.#file}`;
    for (let rest = blocks; rest > 0; rest -= 65536) {
      const bytes = randomBytes(Math.min(rest, 65536) * 32);
      for (const directory of directories) {
        await Deno.writeFile(join(directory, name), bytes, { append: true });
      }
    }
    return async () => {
      this.#expected[slave] += blocks;
      for (const directory of directories) {
        await Deno.rename(join(directory, name), join(directory, `${name}.cor`));
      }
    };
  }

  /**
   * Writes many small key files for SAEs of KME 1, under names that no KME looks at.
   *
   * @param blocks in each file.
   * @returns what makes them appear, one after the other; resolves when all their blocks are in stock and the files deleted.
   */
  async prepareSmall(files: number, blocks: number): Promise<() => Promise<void>> {
    const directory = this.network.keyDirectory("1", "1");
    const names = Array.from({ length: files }, (_, i) => join(directory, `small-${this.#file}-${i}`));
    this.#file++;
    for (const name of names) await Deno.writeFile(name, randomBytes(32 * blocks));
    await new Promise((resolve) => setTimeout(resolve, REST_MS));
    return async () => {
      const before = await this.stock("local");
      this.#expected.local += files * blocks;
      for (const name of names) await Deno.rename(name, `${name}.cor`);
      await this.#filled("local", before + files * blocks);
      await eventually(() => filesIn(directory).every((name) => !name.endsWith(".cor")), {
        timeout: 600_000,
        interval: 5,
      });
    };
  }

  /** One run that does not depend on those before: {@linkcode renew}, a stock, then the load. */
  async runAfresh(request: Request, times: Times, stock: number): Promise<SiteResult> {
    await this.renewWith(request.slave, stock);
    return await this.#run(request, times);
  }

  /** As {@linkcode runAfresh}, after another load on the same processes, which is not measured. */
  async runAfter(
    before: Request,
    beforeTimes: Times,
    request: Request,
    times: Times,
    stock: number,
  ): Promise<SiteResult> {
    await this.renewWith(request.slave, stock);
    const { failed, firstFailure } = await this.#run(before, beforeTimes);
    if (failed > 0) throw new Error(`the load before the run failed ${failed} times: ${firstFailure}`);
    return await this.#run(request, times);
  }

  /** {@linkcode renew}, and a stock. */
  async renewWith(slave: Request["slave"], stock: number): Promise<void> {
    await this.#clear();
    const [appear] = await Promise.all([this.prepare(slave, stock), this.#startBoth()]);
    await appear();
  }

  /** One run on the stock of the runs before, topped up. */
  async run(request: Request, times: Times, stock: number): Promise<SiteResult> {
    await this.fill(request.slave, stock);
    return await this.#run(request, times);
  }

  /** Ends before the stock is empty, and compares the stock with the keys that were delivered. */
  async #run(request: Request, times: Times): Promise<SiteResult> {
    const droppedBefore = await this.droppedLines();
    const droppedLines = async () => await this.droppedLines() - droppedBefore;
    if (request.way === "status") {
      return { ...await load(this.job([request], times)), droppedLines: await droppedLines() };
    }
    const most = Math.floor((this.#expected[request.slave] - RESERVE) / (request.keys ?? 1));
    const requests = Math.min(times.requests ?? Infinity, most);
    const result = await load(this.job([request], { ...times, requests }));
    const difference = await this.settle(request.slave, result.keys);
    const all = { ...result, droppedLines: await droppedLines() };
    if (difference === 0) return all;
    const firstFailure = result.firstFailure ??
      `the stock is ${difference} blocks from what ${result.keys} keys leave`;
    return { ...all, failed: result.failed + Math.abs(difference), firstFailure };
  }

  /**
   * Awaits the stock that so many keys leave: blocks of which the ends of a link have not agreed yet are added later.
   *
   * @returns the blocks by which it differs in the end.
   */
  async settle(slave: Request["slave"], keys: number): Promise<number> {
    const expected = this.#expected[slave] - keys;
    let stock = NaN;
    const isSettled = async () => (stock = await this.stock(slave)) === expected;
    await eventually(isSettled, { timeout: SETTLE_MS }).catch(() => {});
    this.#expected[slave] = stock;
    return stock - expected;
  }

  /** Lines of the log that the KMEs have dropped since they were started. */
  async droppedLines(): Promise<number> {
    let sum = 0;
    for (const id of KMES) {
      const answer = await fetch(`http://127.0.0.1:${this.network.kme(id).consolePort}/metrics`);
      sum += Number(/^kme_log_lines_dropped_total (\d+)$/m.exec(await answer.text())![1]);
    }
    return sum;
  }

  /**
   * @param requests kinds with their shares; connections and pace are those of the first.
   * @param master at KME 1; or at KME 2, and then its slave is at KME 1.
   */
  job(
    requests: readonly (Request & Pick<LoadKind, "share">)[],
    times: Times,
    master: "1" | "3" = "1",
  ): LoadJob {
    const { pace, connections = 32 } = requests[0]!;
    return {
      ...times,
      ...this.#endpoint(master),
      pace,
      connections,
      kinds: requests.map((request) => this.#kind(request, master)),
      pids: this.pids,
    };
  }

  #kind(
    { way, slave, keys = 1, size = 256, handshakes, share }: Request & Pick<LoadKind, "share">,
    master: "1" | "3",
  ): LoadKind {
    const to = master === "3" ? "1" : SLAVES[slave];
    const query = [...keys === 1 ? [] : [`number=${keys}`], ...size === 256 ? [] : [`size=${size}`]].join(
      "&",
    );
    return {
      path: `/api/v1/keys/${to}/${way === "status" ? "status" : `enc_keys${query && `?${query}`}`}`,
      then: way === "enc+dec"
        ? { ...this.#endpoint(to), path: `/api/v1/keys/${master}/dec_keys` }
        : undefined,
      keys: way === "status" ? undefined : keys,
      handshakes,
      share,
    };
  }

  #endpoint(sae: string): LoadEndpoint {
    const { kmeId, ca, cert, key } = this.network.sae(sae);
    return { host: "127.0.0.1", port: this.network.kme(kmeId).saesPort, ca, cert, key };
  }

  /** Awaits a stock, at both ends of the link. */
  async #filled(slave: Request["slave"], blocks: number): Promise<void> {
    const masters = slave === "local" ? [["1", "2"]] as const : [["1", "3"], ["3", "1"]] as const;
    for (const [master, to] of masters) {
      const client = this.#client(master);
      await eventually(async () => (await client.status(to)).json.stored_key_count >= blocks, {
        timeout: 600_000,
        what: `${blocks} blocks in stock`,
      });
    }
  }

  #client(sae: string): SaeClient {
    const client = this.#clients.get(sae) ?? this.network.client(sae);
    this.#clients.set(sae, client);
    return client;
  }

  #closeClients(): void {
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.network.remove();
  }
}

const SLAVES = { local: "2", remote: "3" } as const;

function filesIn(directory: string): string[] {
  return [...Deno.readDirSync(directory)].filter((entry) => entry.isFile).map((entry) => entry.name);
}
