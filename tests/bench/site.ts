/** Two KMEs to be measured, with a stock that is kept up between runs. */
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { eventually } from "../harness/eventually.ts";
import type { KmeProcess } from "../harness/kme_process.ts";
import { makeTestNetwork, type TestNetwork } from "../harness/network.ts";
import { load } from "./load_process.ts";
import type { LoadJob, LoadResult } from "./load.ts";

/** One line per event would be what is measured. */
export const ENV = { LOG_LEVEL: "info,event=warning" };

export type Way = "status" | "enc" | "enc+dec";

export interface Request {
  readonly way: Way;
  /** `local`: both SAEs at KME 1; `remote`: the slave at KME 2. */
  readonly slave: "local" | "remote";
  readonly keys?: number;
  readonly handshakes?: boolean;
  readonly connections?: number;
  /** Blocks in stock before, where a run takes more than the measurement's pool. */
  readonly stock?: number;
}

export interface Times {
  readonly seconds: number;
  readonly warmup: number;
}

export class Site implements AsyncDisposable {
  #file = 0;

  private constructor(
    readonly network: TestNetwork,
    readonly processes: KmeProcess[],
    readonly blocks: number,
  ) {}

  /** @param databases of KME 1 and KME 2: `:memory:`, `sqlite`, or a URI. */
  static async start(databases: readonly [string, string], blocks: number): Promise<Site> {
    const options = { max_key_count: 100_000_000, key_lifetime_seconds: 86400 };
    const network = await makeTestNetwork({
      kmes: [
        { id: 1, saes: [1, 2], database: databases[0], options },
        { id: 2, saes: [3], database: databases[1], options },
      ],
    });
    const processes = await network.startAll({ env: ENV });
    return new Site(network, processes, blocks);
  }

  /** Brings the stock of a link back to what the measurement is about. */
  async fill(slave: "local" | "remote", blocks = this.blocks): Promise<void> {
    const [sae, link] = slave === "local" ? ["2", "1"] as const : ["3", "2"] as const;
    const one = this.network.client("1");
    const missing = blocks - (await one.status(sae)).json.stored_key_count;
    if (missing > 0) {
      const directories = [this.network.keyDirectory("1", link)];
      if (link !== "1") directories.push(this.network.keyDirectory("2", "1"));
      await this.#write(directories, missing);
    }
    const masters = slave === "local"
      ? [[one, sae] as const]
      : [[one, sae], [this.network.client("3"), "1"]] as const;
    for (const [client, to] of masters) {
      await eventually(async () => (await client.status(to)).json.stored_key_count >= blocks, {
        timeout: 600_000,
        what: `${blocks} blocks in stock`,
      });
    }
  }

  async run(request: Request, times: Times): Promise<LoadResult> {
    if (request.way !== "status") await this.fill(request.slave, request.stock);
    return await load(this.job(request, times));
  }

  job({ way, slave, keys = 1, handshakes, connections = 32 }: Request, times: Times): LoadJob {
    const one = this.network.sae("1");
    const to = slave === "local" ? this.network.sae("2") : this.network.sae("3");
    const number = keys === 1 ? "" : `?number=${keys}`;
    return {
      ...times,
      connections,
      handshakes,
      port: this.network.kme("1").saesPort,
      ca: one.ca,
      cert: one.cert,
      key: one.key,
      path: `/api/v1/keys/${to.id}/${way === "status" ? "status" : `enc_keys${number}`}`,
      then: way === "enc+dec"
        ? {
          port: this.network.kme(to.kmeId).saesPort,
          ca: to.ca,
          cert: to.cert,
          key: to.key,
          path: "/api/v1/keys/1/dec_keys",
        }
        : undefined,
    };
  }

  async #write(directories: readonly string[], blocks: number): Promise<void> {
    const name = `bench-${++this.#file}`;
    for (const directory of directories) await Deno.writeFile(join(directory, name), new Uint8Array());
    for (let rest = blocks; rest > 0; rest -= 65536) {
      const bytes: Buffer = randomBytes(Math.min(rest, 65536) * 32);
      for (const directory of directories) {
        await Deno.writeFile(join(directory, name), bytes, { append: true });
      }
    }
    for (const directory of directories) {
      await Deno.rename(join(directory, name), join(directory, `${name}.cor`));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.network.remove();
  }
}
