/** The database in a separate thread. */
import type { ConfiguredId, KmeId } from "../../domain/ids.ts";
import type { Link } from "../../domain/link.ts";
import { StoreUnavailable, StoreUnusable } from "../../domain/store_errors.ts";
import { errorMessage } from "../../domain/text.ts";
import type { DamagedBits } from "../damaged_bits.ts";
import type { DatabaseTime } from "../store_clock.ts";
import type { Call, Executor, Outcome, Query } from "./executor.ts";
import {
  type Batch,
  type BatchAnswer,
  type Read,
  type ReadAnswer,
  receiveError,
  type Reply,
  type Request,
  type SentError,
} from "./messages.ts";
import { isPacked, pack, type Packed, transferOf, unpack } from "./packing.ts";

/** Starts the thread of the program. */
export function startStoreWorker(): Worker {
  return new Worker(new URL("./store_worker.ts", import.meta.url), { type: "module", name: "store" });
}

export interface WorkerOptions {
  /** Of the file, or `:memory:`. */
  readonly path: string;
  readonly thisKme: ConfiguredId;
  readonly neighbours: readonly ConfiguredId[];
  readonly processId: Uint8Array;
  readonly masterKey?: Uint8Array | "discard";
  /** Called for every failure of the database, once per failed transaction. */
  readonly onFailure: (error: unknown) => void;
  /** Called with what a transaction has found damaged. */
  readonly onDamaged: (found: readonly DamagedBits[]) => void;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** Milliseconds in which the thread has to answer a query, or that it is closed. */
  readonly limit: number;
}

/** The thread could not be started; the database has not been opened. */
export class NoThread extends Error {
  override name = "NoThread";
}

interface PendingRead {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
}

export class WorkerExecutor implements Executor {
  readonly databaseId: Uint8Array;
  readonly openedAt: DatabaseTime;
  readonly links: ReadonlyMap<KmeId, Link>;
  readonly stock: Map<number, number>;
  readonly encrypts: boolean;
  readonly blocking = false;
  readonly failed: Promise<string>;
  readonly lanes = 1;
  /** True: a disk may not answer. */
  readonly mayHang = true;
  readonly #worker: Worker;
  readonly #onFailure: (error: unknown) => void;
  readonly #onDamaged: (found: readonly DamagedBits[]) => void;
  readonly #now: () => number;
  readonly #limit: number;
  readonly #failed = Promise.withResolvers<string>();
  readonly #closed = Promise.withResolvers<void>();
  #batch?: PromiseWithResolvers<BatchAnswer>;
  readonly #reads = new Map<number, PendingRead>();
  #lastRead = 0;
  /** Why the executor cannot be used any more. */
  #over?: string;

  private constructor(
    worker: Worker,
    { databaseId, openedAt, links, stock, encrypts }: Extract<Reply, { kind: "opened" }>,
    { onFailure, onDamaged, now, limit }: WorkerOptions,
  ) {
    this.#worker = worker;
    this.databaseId = databaseId;
    this.openedAt = openedAt;
    this.links = links;
    this.stock = new Map(stock);
    this.encrypts = encrypts;
    this.failed = this.#failed.promise;
    this.#onFailure = onFailure;
    this.#onDamaged = onDamaged;
    this.#now = now;
    this.#limit = limit;
    worker.onmessage = ({ data }: MessageEvent<Reply>) => {
      if (isPacked(data)) this.#answered(unpack(data) as BatchAnswer | ReadAnswer);
      else if (data.kind === "closed") this.#closed.resolve();
    };
    worker.onerror = (event) => {
      event.preventDefault();
      this.#lose(event.message);
    };
    worker.onmessageerror = () => this.#lose("a message was not understood");
  }

  /**
   * Starts the thread and lets it open the database.
   *
   * @throws NoThread when its module cannot be loaded; StoreUnusable with one clear line when the database cannot be used.
   */
  static async open(start: () => Worker, options: WorkerOptions): Promise<WorkerExecutor> {
    const { path, thisKme, neighbours, processId, masterKey } = options;
    const worker = start();
    try {
      const loaded = await replyOf(worker).catch((error) => {
        throw new NoThread(errorMessage(error));
      });
      if (loaded.kind !== "loaded") throw new NoThread("it is not the thread of a database");
      const opening = replyOf(worker);
      post(worker, { kind: "open", options: { path, thisKme, neighbours, processId, masterKey } });
      const opened = await opening.catch((error) => {
        throw new StoreUnusable(`cannot open the database: ${errorMessage(error)}`);
      });
      if (opened.kind !== "opened") {
        throw new StoreUnusable(opened.kind === "unusable" ? opened.reason : "cannot open the database");
      }
      return new WorkerExecutor(worker, opened, options);
    } catch (error) {
      worker.terminate();
      throw error;
    }
  }

  async run(calls: readonly Call[]): Promise<readonly Outcome[]> {
    if (this.#over !== undefined) return calls.map(() => this.#gone());
    const [packed, unsent] = this.#pack(calls);
    if (unsent.size === calls.length) return calls.map((call) => ({ error: unsent.get(call) }));
    const pending = this.#batch = Promise.withResolvers<BatchAnswer>();
    this.#worker.postMessage(packed, transferOf(packed));
    try {
      const { outcomes, errors } = await pending.promise;
      const causes = errors.map(receiveError);
      let next = 0;
      return calls.map((call): Outcome => {
        if (unsent.has(call)) return { error: unsent.get(call) };
        const outcome = outcomes[next++]!;
        return "error" in outcome ? { error: causes[outcome.error] } : { result: outcome.result };
      });
    } catch {
      return calls.map(() => this.#gone());
    }
  }

  read<Item, Result>(query: Query<Item, Result>, item: Item): Promise<Result> {
    const { promise, resolve, reject } = Promise.withResolvers<Result>();
    if (this.#over !== undefined) {
      reject(this.#gone().error);
      return promise;
    }
    const read = ++this.#lastRead;
    const packed = pack({ read, query: query.name, item } satisfies Read);
    const timer = setTimeout(
      () => this.#endRead(read)?.reject(new StoreUnavailable("no answer in time")),
      this.#limit,
    );
    this.#reads.set(read, { resolve: resolve as (result: unknown) => void, reject });
    this.#worker.postMessage(packed, transferOf(packed));
    return promise.finally(() => clearTimeout(timer));
  }

  async close(): Promise<void> {
    if (this.#over !== undefined) return this.terminate();
    this.#over = "it is closed";
    post(this.#worker, { kind: "close" });
    const timer = setTimeout(this.#closed.resolve, this.#limit);
    await this.#closed.promise;
    clearTimeout(timer);
    this.terminate();
  }

  terminate(): void {
    this.#over ??= "it is closed";
    this.#rejectAll();
    this.#worker.terminate();
  }

  /** The message for a batch. A call that cannot be sent is left out and fails only its own caller. */
  #pack(calls: readonly Call[]): [Packed, ReadonlyMap<Call, unknown>] {
    const message = (calls: readonly Call[]): Batch => ({
      now: this.#now(),
      batch: calls.map(({ operation, item }) => [operation.name, item]),
    });
    try {
      return [pack(message(calls)), new Map()];
    } catch {
      const unsent = new Map<Call, unknown>();
      for (const call of calls) {
        try {
          pack(call.item);
        } catch (error) {
          unsent.set(call, error);
        }
      }
      return [pack(message(calls.filter((call) => !unsent.has(call)))), unsent];
    }
  }

  #answered(answer: BatchAnswer | ReadAnswer): void {
    this.#report(answer.failures);
    if ("read" in answer) {
      const read = this.#endRead(answer.read);
      if (answer.error !== undefined) read?.reject(receiveError(answer.error));
      else read?.resolve(answer.result);
      return;
    }
    // Before the results, so that a caller that has its key sees the stock without it.
    for (const [linkId, free] of answer.stock) this.stock.set(linkId, free);
    if (answer.damaged.length > 0) this.#onDamaged(answer.damaged);
    this.#batch?.resolve(answer);
  }

  #report(failures: readonly SentError[]): void {
    for (const failure of failures) this.#onFailure(receiveError(failure));
  }

  /** `undefined` for an answer that comes too late. */
  #endRead(read: number): PendingRead | undefined {
    const pending = this.#reads.get(read);
    this.#reads.delete(read);
    return pending;
  }

  #lose(reason: string): void {
    if (this.#over !== undefined) return this.#closed.resolve();
    this.#over = `its thread has ended: ${reason}`;
    this.terminate();
    this.#failed.resolve(`the thread of the database has ended: ${reason}`);
  }

  #rejectAll(): void {
    this.#batch?.reject(this.#gone().error);
    for (const { reject } of this.#reads.values()) reject(this.#gone().error);
    this.#reads.clear();
  }

  #gone(): { readonly error: StoreUnavailable } {
    return { error: new StoreUnavailable(this.#over) };
  }
}

function post(worker: Worker, request: Request): void {
  worker.postMessage(request);
}

/** The next message; rejects with the thread's error. */
function replyOf(worker: Worker): Promise<Exclude<Reply, readonly unknown[] | string>> {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.onmessageerror = () => reject(new Error("a message was not understood"));
    worker.onerror = (event) => {
      event.preventDefault();
      reject(new Error(event.message));
    };
  });
}
