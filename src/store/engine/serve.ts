/** The database's side of its thread: does what it is asked, and answers what a commit has settled. */
import type { Operation } from "../work.ts";
import type { StoreDialect } from "../dialects/dialect.ts";
import type { Query } from "./engine.ts";
import { LocalEngine } from "./local.ts";
import {
  type Answers,
  type Calls,
  type OpenRequest,
  type Reply,
  type Request,
  sendError,
  type SentError,
} from "./messages.ts";
import { OPERATIONS } from "./operations.ts";
import { isPacked, pack, type Packed, transferOf, unpack } from "./packing.ts";
import { QUERIES } from "./queries.ts";
import { errorMessage } from "../../domain/text.ts";

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
  const reply = (message: Reply, transfer: Transferable[] = []) => end.postMessage(message, transfer);
  let served: Served | undefined;
  end.onmessage = async ({ data }: MessageEvent<Request>) => {
    if (isPacked(data)) return served!.take(data);
    switch (data.kind) {
      case "open":
        try {
          served = await openServed(data.options, openDialect, reply);
        } catch (error) {
          reply({ kind: "unusable", reason: errorMessage(error) });
          return;
        }
        reply({ kind: "opened", links: served.engine.links, stock: served.engine.stock });
        return;
      case "close":
        await served!.engine.close();
        reply({ kind: "closed" });
    }
  };
  reply({ kind: "loaded" });
}

interface Served {
  readonly engine: LocalEngine;
  take(calls: Packed): void;
}

async function openServed(
  { path, thisKme, neighbours, processId }: OpenRequest,
  openDialect: (path: string) => StoreDialect,
  reply: (message: Packed, transfer: Transferable[]) => void,
): Promise<Served> {
  let now: number | undefined;
  let scheduled = false;
  let results: (readonly [id: number, result?: unknown])[] = [];
  let rejected: (readonly [id: number, error: unknown])[] = [];
  let failures: SentError[] = [];
  const answer = () => {
    scheduled = false;
    const errors = [...new Set(rejected.map(([, error]) => error))];
    const answers: Answers = {
      stock: [...engine.stock],
      results,
      ...rejected.length > 0 && {
        rejected: rejected.map(([id, error]) => [id, errors.indexOf(error)] as const),
        errors: errors.map(sendError),
      },
      ...failures.length > 0 && { failures },
    };
    results = [];
    rejected = [];
    failures = [];
    const packed = pack(answers);
    reply(packed, transferOf(packed));
  };
  // What one commit settles is told in one row of microtasks: the answer goes out behind the last of them.
  const schedule = () => {
    if (scheduled) return;
    scheduled = true;
    queueMicrotask(answer);
  };
  const engine = await LocalEngine.open({
    thisKme,
    neighbours,
    processId,
    dialect: openDialect(path),
    now: () => now ?? Date.now(),
    onFailure: (error) => {
      failures.push(sendError(error));
      schedule();
    },
  });
  return {
    engine,
    take(packed) {
      const { calls, ...clock } = unpack(packed) as Calls;
      now = clock.now;
      for (const [id, name, item] of calls) {
        const operation = operations.get(name);
        const result = operation !== undefined
          ? engine.submit(operation, item)
          : engine.read(queries.get(name)!, item);
        result.then((result) => {
          results.push(result === undefined ? [id] : [id, result]);
          schedule();
        }, (error) => {
          rejected.push([id, error]);
          schedule();
        });
      }
    },
  };
}
