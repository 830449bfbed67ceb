/** The database's side of its thread: carries out what the program asks for. */
import { errorMessage } from "../../domain/text.ts";
import type { DamagedBits } from "../damaged_bits.ts";
import type { StoreDialect } from "../dialects/dialect.ts";
import type { Operation } from "../work.ts";
import type { Outcome, Query } from "./executor.ts";
import { LocalExecutor } from "./local_executor.ts";
import {
  type Batch,
  type BatchAnswer,
  type OpenRequest,
  type Read,
  type ReadAnswer,
  type Reply,
  type Request,
  sendError,
  type SentError,
} from "./messages.ts";
import { OPERATIONS } from "./operations.ts";
import { isPacked, overwriteKeys, pack, transferOf, unpack, wipe } from "./packing.ts";
import { QUERIES } from "./queries.ts";

/**
 * Milliseconds without work after which none is expected at once. Within a request there are shorter pauses, while the neighbour
 * works.
 */
const QUIET_MS = 5;

/** A thread's end of its messages. */
export interface MessageEnd {
  onmessage: ((event: MessageEvent) => void) | null;
  postMessage(message: unknown, transfer: Transferable[]): void;
}

const operations = byName<Operation<unknown, unknown>>(OPERATIONS);
const queries = byName<Query<unknown, unknown>>(QUERIES);

function byName<T extends { readonly name: string }>(
  all: readonly { readonly name: string }[],
): Map<string, T> {
  return new Map(all.map((each) => [each.name, each as T]));
}

/** @param openDialect opens the database at a path, or `:memory:`. */
export function serveStore(end: MessageEnd, openDialect: (path: string) => StoreDialect): void {
  const reply = (message: Reply) => end.postMessage(message, []);
  let database: ServedDatabase | undefined;
  let quiet: ReturnType<typeof setTimeout> | undefined;
  end.onmessage = async ({ data }: MessageEvent<Request>) => {
    clearTimeout(quiet);
    if (isPacked(data)) {
      const result = await database!.answer(unpack(data) as Batch | Read);
      const answer = pack(result);
      overwriteKeys(result);
      wipe(data);
      end.postMessage(answer, transferOf(answer));
      database!.tidy(false);
      clearTimeout(quiet);
      quiet = setTimeout(() => database!.tidy(true), QUIET_MS);
      return;
    }
    switch (data.kind) {
      case "open":
        try {
          database = await ServedDatabase.open(data.options, openDialect);
        } catch (error) {
          return reply({ kind: "unusable", reason: errorMessage(error) });
        }
        return reply({
          kind: "opened",
          databaseId: database.executor.databaseId,
          openedAt: database.executor.openedAt,
          links: database.executor.links,
          stock: database.executor.stock,
          encrypts: database.executor.encrypts,
        });
      case "close":
        await database!.executor.close();
        return reply({ kind: "closed" });
    }
  };
  reply({ kind: "loaded" });
}

class ServedDatabase {
  readonly executor: LocalExecutor;
  readonly #dialect: StoreDialect;
  readonly #clock: { now: number };
  /** Not yet reported. */
  readonly #failures: SentError[];
  readonly #damaged: DamagedBits[];

  private constructor(
    executor: LocalExecutor,
    dialect: StoreDialect,
    clock: { now: number },
    failures: SentError[],
    damaged: DamagedBits[],
  ) {
    this.executor = executor;
    this.#dialect = dialect;
    this.#clock = clock;
    this.#failures = failures;
    this.#damaged = damaged;
  }

  static async open(
    { path, thisKme, neighbours, processId, masterKey }: OpenRequest,
    openDialect: (path: string) => StoreDialect,
  ): Promise<ServedDatabase> {
    const clock = { now: 0 };
    const failures: SentError[] = [];
    const damaged: DamagedBits[] = [];
    const dialect = openDialect(path);
    const executor = await LocalExecutor.open({
      thisKme,
      neighbours,
      processId,
      masterKey,
      dialect,
      now: () => clock.now,
      onFailure: (error) => failures.push(sendError(error)),
      onDamaged: (found) => damaged.push(...found),
    });
    if (masterKey instanceof Uint8Array) masterKey.fill(0);
    return new ServedDatabase(executor, dialect, clock, failures, damaged);
  }

  answer(request: Batch | Read): Promise<BatchAnswer | ReadAnswer> {
    return "read" in request ? this.#read(request) : this.#run(request);
  }

  /** Does what no answer has to wait for. */
  tidy(isQuiet: boolean): void {
    this.#dialect.tidy?.(isQuiet);
  }

  async #run({ now, batch }: Batch): Promise<BatchAnswer> {
    this.#clock.now = now;
    const calls = batch.map(([name, item]) => ({ operation: operations.get(name)!, item }));
    const outcomes = await this.executor.run(calls, 0);
    const errors = [...new Set(outcomes.flatMap((outcome) => "error" in outcome ? [outcome.error] : []))];
    return {
      outcomes: outcomes.map((outcome: Outcome) =>
        "error" in outcome ? { error: errors.indexOf(outcome.error) } : outcome
      ),
      errors: errors.map(sendError),
      stock: [...this.executor.stock],
      damaged: this.#damaged.splice(0),
      failures: this.#failures.splice(0),
    };
  }

  async #read({ read, query, item }: Read): Promise<ReadAnswer> {
    try {
      const result = await this.executor.read(queries.get(query)!, item);
      return { read, result, failures: this.#failures.splice(0) };
    } catch (error) {
      return { read, error: sendError(error), failures: this.#failures.splice(0) };
    }
  }
}
