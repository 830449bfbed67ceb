/**
 * The load generator, a process of its own: raw TLS sockets, requests made beforehand, answers only looked at as far as
 * needed, so that the server is the bottleneck. Reads a {@linkcode LoadJob} from stdin, writes a {@linkcode LoadResult}.
 */
import { Buffer } from "node:buffer";
import tls from "node:tls";

export interface LoadJob {
  readonly port: number;
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  readonly connections: number;
  readonly seconds: number;
  /** Seconds before that are not counted. */
  readonly warmup: number;
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
}

export interface LoadResult {
  /** Requests answered with 200. */
  readonly ok: number;
  /** Other answers, and connections that broke. */
  readonly failed: number;
  readonly firstFailure?: string;
  /** Seconds in which they were counted. */
  readonly seconds: number;
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
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

export async function runLoad(job: LoadJob): Promise<LoadResult> {
  const endpoint = { port: job.port, context: tls.createSecureContext(job) };
  const then = job.then && { port: job.then.port, context: tls.createSecureContext(job.then) };
  const request = httpRequest(job.path, job.body);
  const latencies: number[] = [];
  let ok = 0;
  let failed = 0;
  let firstFailure: string | undefined;
  const begin = performance.now() + job.warmup * 1000;
  const end = begin + job.seconds * 1000;
  const worker = async () => {
    const connection = new Connection(endpoint);
    const second = then && new Connection(then);
    while (performance.now() < end) {
      const start = performance.now();
      let failure: string | undefined;
      try {
        const answer = await connection.request(request);
        if (answer.status !== 200) failure = `${answer.status} ${answer.body.toString().slice(0, 200)}`;
        else if (second !== undefined) {
          const ids = JSON.parse(answer.body.toString()).keys.map(({ key_ID }: { key_ID: string }) => ({
            key_ID,
          }));
          const got = await second.request(httpRequest(job.then!.path, JSON.stringify({ key_IDs: ids })));
          if (got.status !== 200) failure = `then ${got.status}`;
        }
      } catch (error) {
        failure = String(error);
        connection.close();
      }
      if (job.handshakes) connection.close();
      const now = performance.now();
      if (start < begin || now > end) continue;
      if (failure === undefined) {
        ok++;
        latencies.push(now - start);
      } else {
        failed++;
        firstFailure ??= failure;
        if (failed > 1000) break;
      }
    }
    connection.close();
    second?.close();
  };
  await Promise.all(Array.from({ length: job.connections }, worker));
  latencies.sort((a, b) => a - b);
  const at = (q: number) =>
    latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * q))] ?? NaN;
  return { ok, failed, firstFailure, seconds: job.seconds, p50: at(0.5), p99: at(0.99) };
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
