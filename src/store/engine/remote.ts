/** The database in a thread of its own: what is asked in one turn, or while it is busy, goes there in one message. */
import { setImmediate } from "node:timers";
import type { ConfiguredId, KmeId } from "../../domain/ids.ts";
import { PATIENCE_MS } from "../commit_queue.ts";
import type { Operation } from "../work.ts";
import { StoreUnavailable, StoreUnusable } from "../../domain/store_errors.ts";
import type { Link } from "../../domain/link.ts";
import type { Engine, Query } from "./engine.ts";
import { type Answers, type Call, type Calls, receiveError, type Reply, type Request } from "./messages.ts";
import { isPacked, pack, type Packed, transferOf, unpack } from "./packing.ts";

/** Starts the thread of the program. */
export function startStoreWorker(): Worker {
  return new Worker(new URL("./store_worker.ts", import.meta.url), { type: "module", name: "store" });
}

export interface RemoteOptions {
  /** Of the file, or `:memory:`. */
  readonly path: string;
  readonly thisKme: ConfiguredId;
  readonly neighbours: readonly ConfiguredId[];
  readonly processId: Uint8Array;
  /** Told of every failure of the database, once per failed transaction. */
  readonly onFailure: (error: unknown) => void;
  /** Milliseconds since 1970; absent: the thread's own clock. */
  readonly now?: () => number;
}

/** The thread could not be started: nothing has been opened. */
export class NoThread extends Error {
  override name = "NoThread";
}

interface Waiting {
  readonly name: string;
  readonly item: unknown;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
  readonly since: number;
}

export class RemoteEngine implements Engine {
  readonly links: ReadonlyMap<KmeId, Link>;
  readonly stock: Map<number, number>;
  readonly blocking = false;
  readonly failed: Promise<string>;
  readonly #worker: Worker;
  readonly #onFailure: (error: unknown) => void;
  readonly #now?: () => number;
  readonly #failed = Promise.withResolvers<string>();
  readonly #closed = Promise.withResolvers<void>();
  /** Calls by their numbers, in the order of their time; those that are not sent yet are the last ones. */
  readonly #waiting = new Map<number, Waiting>();
  /** Numbers of calls that are not sent. */
  #unsent: number[] = [];
  /** Calls that the thread has still to answer, given up or not. */
  #unanswered = 0;
  #last = 0;
  #scheduled = false;
  #patience?: ReturnType<typeof setTimeout>;
  #closing?: Promise<void>;
  /** Why nothing is taken any more. */
  #over?: string;

  private constructor(
    worker: Worker,
    { links, stock }: Extract<Reply, { kind: "opened" }>,
    { onFailure, now }: RemoteOptions,
  ) {
    this.#worker = worker;
    this.links = links;
    this.stock = new Map(stock);
    this.failed = this.#failed.promise;
    this.#onFailure = onFailure;
    this.#now = now;
    worker.onmessage = ({ data }: MessageEvent<Reply>) => {
      if (isPacked(data)) this.#take(unpack(data) as Answers);
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
  static async open(start: () => Worker, options: RemoteOptions): Promise<RemoteEngine> {
    const { path, thisKme, neighbours, processId } = options;
    const worker = start();
    try {
      const loaded = await replyOf(worker).catch((error) => {
        throw new NoThread(error.message);
      });
      if (loaded.kind !== "loaded") throw new NoThread("it is not the thread of a database");
      const opening = replyOf(worker);
      post(worker, { kind: "open", options: { path, thisKme, neighbours, processId } });
      const opened = await opening.catch((error) => {
        throw new StoreUnusable(`cannot open the database: ${error.message}`);
      });
      if (opened.kind !== "opened") {
        throw new StoreUnusable(opened.kind === "unusable" ? opened.reason : "cannot open the database");
      }
      return new RemoteEngine(worker, opened, options);
    } catch (error) {
      worker.terminate();
      throw error;
    }
  }

  submit<Item, Result>(operation: Operation<Item, Result>, item: Item): Promise<Result> {
    return this.#call(operation.name, item);
  }

  read<Item, Result>(query: Query<Item, Result>, item: Item): Promise<Result> {
    return this.#call(query.name, item);
  }

  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #close(): Promise<void> {
    if (this.#over === undefined) {
      this.#send();
      this.#over = "it is closed";
      // A disk that hangs is not waited for; least of all by one who has waited already.
      const hangs = this.#unanswered > this.#waiting.size;
      if (!hangs) {
        post(this.#worker, { kind: "close" });
        const timer = setTimeout(this.#closed.resolve, PATIENCE_MS);
        await this.#closed.promise;
        clearTimeout(timer);
      }
      this.#rejectAll();
    }
    clearTimeout(this.#patience);
    this.#worker.terminate();
  }

  #call<Result>(name: string, item: unknown): Promise<Result> {
    return new Promise<Result>((resolve, reject) => {
      if (this.#over !== undefined) return reject(new StoreUnavailable(this.#over));
      const id = ++this.#last;
      this.#waiting.set(id, {
        name,
        item,
        resolve: resolve as (result: unknown) => void,
        reject,
        since: performance.now(),
      });
      this.#unsent.push(id);
      this.#patience ??= setTimeout(() => this.#dropLate(), PATIENCE_MS);
      // While the thread is busy the calls pile up: they become one message, and one commit.
      if (this.#scheduled || this.#unanswered > 0) return;
      this.#scheduled = true;
      // After the I/O of this turn: requests that have arrived together go together.
      setImmediate(() => {
        this.#scheduled = false;
        if (this.#unanswered === 0) this.#send();
      });
    });
  }

  #send(): void {
    if (this.#unsent.length === 0 || this.#over !== undefined) return;
    const calls: Call[] = [];
    for (const id of this.#unsent) {
      const waiting = this.#waiting.get(id);
      // One that is given up before it is sent is never done.
      if (waiting !== undefined) calls.push([id, waiting.name, waiting.item]);
    }
    this.#unsent = [];
    this.#post(calls);
  }

  #post(calls: readonly Call[]): void {
    if (calls.length === 0) return;
    let packed: Packed;
    try {
      packed = pack({ now: this.#now?.(), calls } satisfies Calls);
    } catch (error) {
      if (calls.length === 1) return this.#settle(calls[0]![0])?.reject(error);
      for (const call of calls) this.#post([call]);
      return;
    }
    this.#worker.postMessage(packed, transferOf(packed));
    this.#unanswered += calls.length;
  }

  #take({ stock, results, rejected = [], errors = [], failures = [] }: Answers): void {
    for (const [linkId, free] of stock) this.stock.set(linkId, free);
    for (const failure of failures) this.#onFailure(receiveError(failure));
    this.#unanswered -= results.length + rejected.length;
    for (const [id, result] of results) this.#settle(id)?.resolve(result);
    if (rejected.length > 0) {
      const causes = errors.map(receiveError);
      for (const [id, error] of rejected) this.#settle(id)?.reject(causes[error]);
    }
    if (this.#unanswered === 0) this.#send();
  }

  /** A call that is answered late finds nobody. */
  #settle(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    if (waiting !== undefined) this.#waiting.delete(id);
    return waiting;
  }

  /** Callers are not kept waiting by a disk that hangs. */
  #dropLate(): void {
    this.#patience = undefined;
    const limit = performance.now() - PATIENCE_MS;
    for (const [id, { since, reject }] of this.#waiting) {
      if (since > limit) {
        this.#patience = setTimeout(() => this.#dropLate(), Math.max(1, since - limit));
        return;
      }
      this.#waiting.delete(id);
      reject(new StoreUnavailable("no answer in time"));
    }
  }

  #lose(reason: string): void {
    if (this.#over !== undefined) return this.#closed.resolve();
    this.#over = `its thread has ended: ${reason}`;
    this.#rejectAll();
    clearTimeout(this.#patience);
    this.#worker.terminate();
    this.#failed.resolve(`the thread of the database has ended: ${reason}`);
  }

  #rejectAll(): void {
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    this.#unsent = [];
    for (const { reject } of waiting) reject(new StoreUnavailable(this.#over));
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
