/** Two KMEs with two SAEs each, whose processes are killed and restarted. */
import { eventually } from "../harness/eventually.ts";
import type { KmeProcess } from "../harness/kme_process.ts";
import { makeTestNetwork, type TestNetwork } from "../harness/test_network.ts";
import { type Audit, databaseOf, pause } from "./ledger_audit.ts";
import { readLedger } from "./delivery_record.ts";

export const KMES = ["1", "2"] as const;
export const SAES = { "1": ["1", "11"], "2": ["2", "22"] } as const;

export type KmeId = (typeof KMES)[number];

export interface PairOptions {
  /** `db_uri` of each; files by default. */
  readonly databases?: readonly [string, string];
  /** Members of `this_kme` of both. */
  readonly options?: Record<string, unknown>;
  /** Added to the environment of both. */
  readonly env?: Record<string, string>;
  readonly edit?: Parameters<typeof makeTestNetwork>[0]["edit"];
}

export interface FinishOptions {
  /** Has written the key files. */
  readonly audit?: Audit;
  /** Further processes on the databases, to be stopped too. */
  readonly more?: readonly KmeProcess[];
}

export interface Pair extends AsyncDisposable {
  readonly network: TestNetwork;
  start(...kmes: string[]): Promise<void>;
  /** SIGKILL, all at once. */
  kill(...kmes: string[]): Promise<void>;
  process(kme: string): KmeProcess;
  /** Free blocks at `kme` of the link with `other`, as an SAE is told. */
  stock(kme: KmeId, other: KmeId): Promise<number>;
  /** Waits until every link has this many free blocks at both ends. */
  untilStocked(blocks: number): Promise<void>;
  /** Waits until all reservations are finished, all key files ingested and the stocks of both ends equal, then stops both. */
  finish(options?: FinishOptions): Promise<void>;
  /** Stops both by SIGTERM. */
  stop(): Promise<void>;
}

export async function makePair(options: PairOptions = {}): Promise<Pair> {
  const network = await makeTestNetwork({
    kmes: KMES.map((id, i) => ({
      id: Number(id),
      saes: SAES[id].map(Number),
      database: options.databases?.[i] ?? "sqlite",
      options: {
        delete_key_file_after_read: false,
        inter_kme_timeout_seconds: 2,
        lease_seconds: 3,
        ...options.options,
      },
    })),
    edit: options.edit,
  });
  const running = new Map<string, KmeProcess>();
  const start = async (...kmes: string[]) => {
    await Promise.all(
      kmes.map(async (kme) => running.set(kme, await network.start(kme, { env: options.env }))),
    );
  };
  const stop = async () => {
    const processes = [...running.values()];
    running.clear();
    await Promise.all(processes.map((process) => process.stop()));
  };
  const finish = async ({ audit, more = [] }: FinishOptions = {}) => {
    const isSettled = async () => {
      const found = await Promise.all(KMES.map(async (kme) => {
        const ledger = await readLedger(databaseOf(network, kme));
        return ledger.reservations === 0 &&
          [...ledger.blocks.values()].every(({ state }) => state !== "unmatched") &&
          (audit === undefined || ledger.seen.size === audit.importedAt(kme));
      }));
      return found.every(Boolean);
    };
    if (options.databases !== undefined) {
      await eventually(isSettled, {
        what: "the end of all reservations and key files",
        timeout: 120_000,
        interval: 250,
      });
      await Promise.all([stop(), ...more.map((process) => process.stop())]);
      return;
    }
    for (let look = 1;; look++) {
      // A file can be opened only when its KME has ended, so there is no event to wait for.
      await pause(300 * look);
      await stop();
      if (await isSettled()) return;
      if (look === 10) throw new Error("reservations, or key files, are left after 10 looks");
      await start(...KMES);
    }
  };
  const stock = async (kme: KmeId, other: KmeId) => {
    const [first, second] = SAES[kme];
    const answer = await network.client(first).status(kme === other ? second : SAES[other][0]);
    return answer.json.stored_key_count;
  };
  const untilStocked = async (blocks: number) => {
    for (const [kme, other] of [["1", "1"], ["1", "2"], ["2", "1"], ["2", "2"]] as const) {
      await eventually(async () => await stock(kme, other) === blocks, {
        what: `the blocks of the link ${kme}-${other}`,
        timeout: 180_000,
      });
    }
  };
  return {
    network,
    start,
    stop,
    finish,
    stock,
    untilStocked,
    process: (kme) => running.get(kme)!,
    kill: async (...kmes) => {
      await Promise.all(kmes.map((kme) => running.get(kme)!.kill()));
      for (const kme of kmes) running.delete(kme);
    },
    [Symbol.asyncDispose]: () => network.remove(),
  };
}
