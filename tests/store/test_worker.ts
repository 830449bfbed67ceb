/** The test's side of a database's thread: its tables, and ways to make it fail. */
import {
  type CompiledQuery,
  type DatabaseConnection,
  type Driver,
  type QueryResult,
  SqliteDialect,
} from "kysely";

export type TestRequest =
  | {
    readonly kind: "statement";
    readonly id: number;
    readonly sql: string;
    readonly parameters: readonly unknown[];
  }
  /** Until the first number is not 0 any more; the second is set once it hangs. */
  | { readonly kind: "hang"; readonly until: Int32Array };

const GO_ON = 1;
export const DIE = 2;

export interface TestReply {
  readonly id: number;
  readonly result?: QueryResult<unknown>;
  readonly error?: { readonly message: string; readonly code?: string };
}

export class TestWorker implements Disposable {
  readonly #channel = new MessageChannel();
  readonly #waiting = new Map<number, PromiseWithResolvers<QueryResult<unknown>>>();
  #last = 0;

  constructor() {
    const { port1 } = this.#channel;
    port1.onmessage = ({ data: { id, result, error } }: MessageEvent<TestReply>) => {
      const waiting = this.#waiting.get(id)!;
      this.#waiting.delete(id);
      if (result !== undefined) waiting.resolve(result);
      else waiting.reject(Object.assign(new Error(error!.message), { code: error!.code }));
    };
  }

  /** For `StoreOptions.worker`. */
  readonly start = (): Worker => {
    const worker = new Worker(new URL("./failing_store_worker.ts", import.meta.url), { type: "module" });
    worker.postMessage(null, [this.#channel.port2]);
    return worker;
  };

  /** For a Kysely on the tables beneath the store. */
  readonly tables: SqliteDialect = new TestDialect((query) => {
    const id = ++this.#last;
    const waiting = Promise.withResolvers<QueryResult<unknown>>();
    this.#waiting.set(id, waiting);
    this.#post({ kind: "statement", id, sql: query.sql, parameters: query.parameters });
    return waiting.promise;
  });

  /** Lets the thread do nothing at all, as in a call of the system that does not return, until it goes on or dies of an error. */
  async hang(): Promise<{ goOn(): void; die(): void }> {
    const until = new Int32Array(new SharedArrayBuffer(8));
    this.#post({ kind: "hang", until });
    // What the store sends from now on is not answered before.
    await Atomics.waitAsync(until, 1, 0).value;
    const end = (how: number) => {
      Atomics.store(until, 0, how);
      Atomics.notify(until, 0);
    };
    return { goOn: () => end(GO_ON), die: () => end(DIE) };
  }

  [Symbol.dispose](): void {
    this.#channel.port1.close();
  }

  #post(request: TestRequest): void {
    this.#channel.port1.postMessage(request);
  }
}

class TestDialect extends SqliteDialect {
  readonly #run: (query: CompiledQuery) => Promise<QueryResult<unknown>>;

  constructor(run: (query: CompiledQuery) => Promise<QueryResult<unknown>>) {
    super({ database: () => Promise.reject(new Error("the database is in a thread")) });
    this.#run = run;
  }

  override createDriver(): Driver {
    const nothing = () => Promise.resolve();
    const connection = { executeQuery: this.#run } as DatabaseConnection;
    const noTransactions = () => Promise.reject(new Error("no transactions of a test in a thread"));
    return {
      init: nothing,
      acquireConnection: () => Promise.resolve(connection),
      beginTransaction: noTransactions,
      commitTransaction: noTransactions,
      rollbackTransaction: noTransactions,
      releaseConnection: nothing,
      destroy: nothing,
    };
  }
}
