/**
 * The load generator, a process of its own: raw TLS sockets, requests made beforehand, answers only looked at as far as
 * needed, so that the server is the bottleneck. Reads a {@linkcode LoadJob} from stdin, writes a {@linkcode LoadResult}.
 */
import { Buffer } from "node:buffer";
import process from "node:process";
import tls from "node:tls";
import { processorTime } from "./processor_time.ts";

export interface LoadJob {
  readonly port: number;
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  readonly connections: number;
  readonly seconds: number;
  /** Seconds before that are not counted. */
  readonly warmup: number;
  /** Ends the run after so many requests, so that no pool runs empty; the warm-up is then at most a fifth of them. */
  readonly requests?: number;
  /** Path of a GET, or of a POST where there is a body. */
  readonly path: string;
  readonly body?: string;
  /** After each answer, its key_IDs are asked for here by another SAE; both requests count as one. */
  readonly then?: {
    readonly port: number;
    readonly ca: string;
    readonly cert: string;
    readonly key: string;
    readonly path: string;
  };
  /** A connection of its own for each request. */
  readonly handshakes?: boolean;
  /** Keys that each answer has to hold; none of them may come twice. */
  readonly keys?: number;
  /** The servers, whose processor time is told. */
  readonly pids?: readonly number[];
}

export interface LoadResult {
  /** Requests answered with 200 in the time that counts. */
  readonly ok: number;
  /** Other answers, connections that broke, and keys that came twice or not at all. */
  readonly failed: number;
  readonly firstFailure?: string;
  /** Seconds in which they were counted. */
  readonly seconds: number;
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
  /** Keys in all answers, those before the time that counts included. */
  readonly keys: number;
  /** Microseconds of processor time for each request; of the servers where the system tells. */
  readonly cpu: { readonly generator: number; readonly servers?: number };
}

interface Endpoint {
  readonly port: number;
  readonly context: tls.SecureContext;
}

class Connection {
  readonly #endpoint: Endpoint;
  #socket?: tls.TLSSocket;
  #received: Buffer = Buffer.alloc(0);
  #answered?: (answer: { status: number; body: Buffer }) => void;
  #failed?: (error: Error) => void;

  constructor(endpoint: Endpoint) {
    this.#endpoint = endpoint;
  }

  async request(bytes: Buffer): Promise<{ status: number; body: Buffer }> {
    if (this.#socket === undefined) await this.#connect();
    return await new Promise((resolve, reject) => {
      this.#answered = resolve;
      this.#failed = reject;
      this.#socket!.write(bytes);
    });
  }

  close(): void {
    this.#socket?.destroy();
    this.#socket = undefined;
    this.#received = Buffer.alloc(0);
  }

  #connect(): Promise<void> {
    return new Promise((resolve, reject) => {
      const { port, context } = this.#endpoint;
      const socket = tls.connect({
        host: "127.0.0.1",
        port,
        secureContext: context,
        servername: "localhost",
      });
      this.#socket = socket;
      this.#failed = reject;
      socket.setNoDelay(true);
      socket.once("secureConnect", resolve);
      socket.on("data", (chunk: Buffer) => this.#onData(chunk));
      const onEnd = (error?: Error) => {
        if (this.#socket !== socket) return; // closed by us
        this.#socket = undefined;
        this.#failed?.(error ?? new Error("closed"));
      };
      socket.on("error", onEnd);
      socket.on("close", () => onEnd());
    });
  }

  #onData(chunk: Buffer): void {
    this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk]);
    const headEnd = this.#received.indexOf("\r\n\r\n");
    if (headEnd < 0) return;
    const head = this.#received.subarray(0, headEnd).toString("latin1");
    const at = head.toLowerCase().indexOf("content-length:");
    const length = at < 0 ? 0 : parseInt(head.slice(at + 15));
    if (this.#received.length < headEnd + 4 + length) return;
    const body = this.#received.subarray(headEnd + 4, headEnd + 4 + length);
    this.#received = this.#received.subarray(headEnd + 4 + length);
    this.#failed = undefined;
    this.#answered?.({ status: Number(head.slice(9, 12)), body });
  }
}

async function runLoad(job: LoadJob): Promise<LoadResult> {
  const endpoint = { port: job.port, context: tls.createSecureContext(job) };
  const then = job.then && { port: job.then.port, context: tls.createSecureContext(job.then) };
  const request = httpRequest(job.path, job.body);
  const answers = job.keys === undefined ? undefined : new Answers();
  const window = new Window(job);
  const failures: string[] = [];
  let failed = 0;
  const fail = (why: string) => {
    failed++;
    if (failures.length === 0) failures.push(why);
  };
  const worker = async () => {
    const connection = new Connection(endpoint);
    const second = then && new Connection(then);
    while (window.mayAsk()) {
      const start = performance.now();
      let failure: string | undefined;
      try {
        const { status, body } = await connection.request(request);
        if (status !== 200) failure = `${status} ${body.toString().slice(0, 200)}`;
        else {
          answers?.add(body);
          if (second !== undefined) {
            const ids = keyIdsIn(body).map((key_ID) => ({ key_ID }));
            const got = await second.request(httpRequest(job.then!.path, JSON.stringify({ key_IDs: ids })));
            if (got.status !== 200) failure = `then ${got.status}`;
            else if (!got.body.equals(body)) failure = "the slave got other keys";
          }
        }
      } catch (error) {
        failure = String(error);
        connection.close();
        second?.close();
      }
      if (job.handshakes) connection.close();
      if (failure === undefined) window.answered(performance.now() - start);
      else {
        fail(failure);
        if (failed > 1000) break;
      }
    }
    connection.close();
    second?.close();
  };
  await Promise.all(Array.from({ length: job.connections }, worker));
  const { latencies, seconds, cpu } = window.close();
  latencies.sort((a, b) => a - b);
  const at = (q: number) =>
    latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * q))] ?? NaN;
  const keys = answers?.check(job.keys!, fail) ?? 0;
  return {
    ok: latencies.length,
    failed,
    firstFailure: failures[0],
    seconds,
    p50: at(0.5),
    p99: at(0.99),
    keys,
    cpu,
  };
}

/** The measured time: from the end of the warm-up to the end of the run. */
class Window {
  readonly #job: LoadJob;
  readonly #warm: { readonly at: number; readonly requests: number };
  readonly #latencies: number[] = [];
  #asked = 0;
  #answered = 0;
  #begin?: Moment;
  #end?: Moment;

  constructor(job: LoadJob) {
    this.#job = job;
    this.#warm = {
      at: performance.now() + job.warmup * 1000,
      requests: job.requests === undefined ? Infinity : Math.floor(job.requests / 5),
    };
  }

  /** Whether there is time, and a request, left. */
  mayAsk(): boolean {
    const { seconds, requests = Infinity } = this.#job;
    const isOver = this.#begin !== undefined && performance.now() >= this.#begin.at + seconds * 1000;
    if (isOver || this.#asked >= requests) this.#end ??= this.#now();
    else this.#asked++;
    return this.#end === undefined;
  }

  /** Counts an answer that came within the window, whenever it was asked for. */
  answered(latency: number): void {
    this.#answered++;
    if (this.#end !== undefined) return;
    if (this.#begin !== undefined) this.#latencies.push(latency);
    else if (this.#answered >= this.#warm.requests || performance.now() >= this.#warm.at) {
      this.#begin = this.#now();
    }
  }

  close(): { latencies: number[]; seconds: number; cpu: LoadResult["cpu"] } {
    const end = this.#end ?? this.#now();
    const begin = this.#begin ?? end;
    const each = (microseconds: number) => microseconds / this.#latencies.length;
    return {
      latencies: this.#latencies,
      seconds: (end.at - begin.at) / 1000,
      cpu: {
        generator: each(end.generator - begin.generator),
        servers: end.servers === undefined ? undefined : each(end.servers - begin.servers!),
      },
    };
  }

  #now(): Moment {
    const { user, system } = process.cpuUsage();
    return { at: performance.now(), generator: user + system, servers: processorTime(this.#job.pids ?? []) };
  }
}

interface Moment {
  /** Milliseconds. */
  readonly at: number;
  /** Microseconds of processor time so far. */
  readonly generator: number;
  readonly servers?: number;
}

/** Answers that are kept, to be examined after the measurement. */
class Answers {
  readonly #parts: Buffer[] = [];
  #used = 0;
  #count = 0;

  add(body: Buffer): void {
    let last = this.#parts.at(-1);
    if (last === undefined || last.length - this.#used < body.length) {
      last = Buffer.alloc(Math.max(1 << 22, body.length));
      this.#parts.push(last);
      this.#used = 0;
    }
    last.set(body, this.#used);
    this.#used += body.length;
    this.#count++;
  }

  /** @returns the number of keys. */
  check(keysInEach: number, fail: (why: string) => void): number {
    const seen = new Set<string>();
    let keys = 0;
    for (const part of this.#parts) {
      for (const keyId of keyIdsIn(part)) {
        keys++;
        if (seen.has(keyId)) fail(`key ${keyId} came twice`);
        seen.add(keyId);
      }
    }
    const expected = this.#count * keysInEach;
    if (keys !== expected) fail(`${keys} keys instead of ${expected}`);
    return keys;
  }
}

const KEY_ID = Buffer.from('"key_ID":"');

function keyIdsIn(bytes: Buffer): string[] {
  const ids: string[] = [];
  for (let at = bytes.indexOf(KEY_ID); at >= 0; at = bytes.indexOf(KEY_ID, at + 1)) {
    ids.push(bytes.toString("latin1", at + KEY_ID.length, at + KEY_ID.length + 36));
  }
  return ids;
}

function httpRequest(path: string, body?: string): Buffer {
  const head = body === undefined
    ? `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`
    : `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${
      Buffer.byteLength(body)
    }\r\n\r\n${body}`;
  return Buffer.from(head);
}

if (import.meta.main) {
  const job = JSON.parse(await new Response(Deno.stdin.readable).text()) as LoadJob;
  console.log(JSON.stringify(await runLoad(job)));
  Deno.exit(0);
}
