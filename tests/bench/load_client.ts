/**
 * The load generator, a process of its own: raw TLS sockets, requests made beforehand, answers only looked at as far as
 * needed, so that the server is the bottleneck. Reads a {@linkcode LoadJob} from stdin, writes a {@linkcode LoadResult}.
 */
import type { Buffer } from "node:buffer";
import tls from "node:tls";
import { haveSameKeys, httpRequest, keyIdsIn } from "./http_answer.ts";
import { LoadAnswers } from "./load_answers.ts";
import { type Address, LoadConnection } from "./load_connection.ts";
import type { LoadEndpoint, LoadJob, LoadKind, LoadResult } from "./load_job.ts";
import { LoadWindow } from "./load_window.ts";

/** A run ends early after so many. */
const MAX_FAILURES = 1000;

/** Seconds after the end of a run until which answers are awaited. */
const PATIENCE_SECONDS = 30;

/** A kind of request, made ready. */
interface Prepared extends LoadKind {
  readonly index: number;
  readonly request: Buffer;
  readonly second?: Address;
}

async function runLoad(job: LoadJob): Promise<LoadResult> {
  const address = addressOf(job);
  const kinds = job.kinds.map((kind, index): Prepared => ({
    ...kind,
    index,
    request: httpRequest(job.host, kind.path),
    second: kind.then && addressOf(kind.then),
  }));
  const turns = kinds.flatMap((kind) => Array.from({ length: kind.share ?? 1 }, () => kind));
  const answers = new LoadAnswers();
  const window = new LoadWindow(job);
  const connections = new Set<LoadConnection>();
  const open = (to: Address) => {
    const connection = new LoadConnection(to);
    connections.add(connection);
    return connection;
  };
  let failed = 0;
  let firstFailure: string | undefined;
  const fail = (why: string) => {
    failed++;
    firstFailure ??= why;
    if (failed > MAX_FAILURES) window.stop();
  };

  /** @returns what went wrong. */
  const ask = async (kind: Prepared, first: LoadConnection, second: () => LoadConnection) => {
    const { status, body } = await first.request(kind.request);
    if (status !== 200) return `${status} ${body.toString().slice(0, 200)}`;
    if (kind.keys !== undefined) answers.add(body, kind.keys);
    if (kind.then === undefined) return undefined;
    const ids = keyIdsIn(body).map((key_ID) => ({ key_ID }));
    const { host, path } = kind.then;
    const got = await second().request(httpRequest(host, path, JSON.stringify({ key_IDs: ids })));
    if (got.status !== 200) return `then ${got.status} ${got.body.toString().slice(0, 200)}`;
    return haveSameKeys(body, got.body) ? undefined : "the slave got other keys";
  };

  const worker = async () => {
    const kept = open(address);
    const seconds = new Map<number, LoadConnection>();
    for (let turn = window.next(); turn !== undefined; turn = window.next()) {
      const kind = turns[turn % turns.length]!;
      const second = () => {
        if (!seconds.has(kind.index)) seconds.set(kind.index, open(kind.second!));
        return seconds.get(kind.index)!;
      };
      const begin = await window.begin(turn);
      const first = kind.handshakes ? open(address) : kept;
      let failure: string | undefined;
      try {
        failure = await ask(kind, first, second);
      } catch (error) {
        failure = String(error);
        first.close();
        seconds.get(kind.index)?.close();
      }
      if (kind.handshakes) {
        first.close();
        connections.delete(first);
      }
      if (failure === undefined) window.answered(kind.index, performance.now() - begin);
      else fail(failure);
    }
  };

  const limit = job.warmup + job.seconds + PATIENCE_SECONDS;
  const timer = setTimeout(() => {
    window.stop();
    for (const connection of connections) connection.close(new Error(`no answer within ${limit} s`));
  }, limit * 1000);
  await Promise.all(Array.from({ length: job.connections }, worker));
  clearTimeout(timer);
  for (const connection of connections) connection.close();
  const keys = answers.check(fail);
  return { ...window.close(), failed, firstFailure, keys };
}

function addressOf({ host, port, ca, cert, key }: LoadEndpoint): Address {
  return { host, port, context: tls.createSecureContext({ ca, cert, key }) };
}

if (import.meta.main) {
  const job = JSON.parse(await new Response(Deno.stdin.readable).text()) as LoadJob;
  console.log(JSON.stringify(await runLoad(job)));
  Deno.exit(0);
}
