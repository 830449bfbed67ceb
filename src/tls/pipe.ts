/**
 * One verified TLS connection and its pipe to the inner HTTP server: forwards bytes both ways with back-pressure, enforces the
 * deadlines of requests, and closes both sides without affecting other connections.
 */
import { connect, type Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { CoarseClock } from "./coarse_clock.ts";
import type { PipePorts } from "./ports.ts";
import { MAX_DISCARDED } from "./unread_body.ts";
import type { VerifiedClient } from "../x509/verifier.ts";

/** What the pipes of one front share. Times in milliseconds. */
export interface PipeContext {
  /** `undefined`: the inner server does not listen now. */
  readonly innerPort: number | undefined;
  readonly ports: PipePorts<Pipe>;
  readonly clock: CoarseClock;
  readonly requestTimeout: number;
  readonly idleTimeout: number;
  /** Time for a client that is still sending to stop, after the last answer. */
  readonly lingerTimeout: number;
  /** Idle pipes, the longest idle first; each pipe adds and removes itself. */
  readonly idle: Set<Pipe>;
  /** Called when a client is cut off. */
  readonly cut: (pipe: Pipe, reason: string) => void;
  /** Called when both sockets are closed. */
  readonly released: (pipe: Pipe) => void;
}

/** Milliseconds for the inner server to start a request that arrived together with another one. */
const PIPELINE_PAUSE = 20;

/** Bytes held for an inner server that does not read them; never reached where {@linkcode ReadControl} works. */
const MAX_HELD = 16 * 2 ** 20;

/**
 * Stops and starts reading from the network. Deno's TLSSocket keeps reading without limit while it is paused; the handle of
 * the TCP socket below it stops.
 */
interface ReadControl {
  readStop?(): void;
  readStart?(): void;
}

/** Bytes of a client that are held until its pipe is open; then reading stops. */
const EARLY = 65_536;

/** Attempts to get a port that was not in use a moment ago. */
const PORT_ATTEMPTS = 8;

/**
 * First bytes of HTTP/2, which the inner server accepts even without ALPN. HTTP/2 is refused: it has many requests at a time on
 * one connection, and the deadlines here are for one request after the other.
 */
const HTTP2_PREFACE = new TextEncoder().encode("PRI * HTTP/2.0\r\n");

/** State of the connection's current request. */
type Phase =
  /** No request; the idle time limit applies. */
  | "idle"
  /** Request line and headers are arriving; the handler has not been called. */
  | "headers"
  /** The handler runs; the body may be incomplete. */
  | "body"
  /** The request is complete; the handler runs or its answer is being sent; no deadline. */
  | "answer"
  /** The inner server has closed; bytes that the client still sends are discarded. */
  | "linger"
  /** The client's connection is closed. */
  | "gone";

export class Pipe {
  readonly verified: VerifiedClient;
  /** `address:port` of the client, for the log. */
  readonly remote: string;
  readonly #client: TLSSocket;
  /** The TCP socket below the client's TLS. */
  readonly #tcp: Socket & { _handle?: ReadControl | null };
  readonly #context: PipeContext;
  #inner: Socket | undefined;
  /** Port of the pipe; 0 until it is registered. Nothing is forwarded before. */
  #port = 0;
  /** Bytes that came from the client before that. */
  readonly #early: Uint8Array[] = [];
  #earlyBytes = 0;
  /** Whether reading from the client is stopped. */
  #stopped = false;
  #phase: Phase = "idle";
  #deadline: number;
  /** When a client that does not read is cut off; Infinity if no bytes wait for it. */
  #stalled = Infinity;
  /** Bytes that the client had not read at the last sweep. */
  #untaken = 0;
  /** The client has ended its side. */
  #ended = false;
  /** Bytes arrived after the request was complete: the next request has begun. */
  #pipelined = false;
  /** The answer was given before the whole body arrived; the rest of the body is discarded. */
  #discarding = false;
  /** Bytes read from the client and thrown away since then. */
  #discarded = 0;
  /** Octets of the HTTP/2 preface seen; -1 if the connection is not HTTP/2. */
  #preface = 0;
  /** Number of the current request. */
  #request = 0;
  #innerOpen = true;
  #clientOpen = true;

  constructor(
    client: TLSSocket,
    tcp: Socket,
    remote: string,
    verified: VerifiedClient,
    context: PipeContext,
  ) {
    this.verified = verified;
    this.remote = remote;
    this.#client = client;
    this.#tcp = tcp as Socket & { _handle?: ReadControl | null };
    this.#context = context;
    this.#deadline = context.clock.deadline(context.idleTimeout);
    context.idle.add(this);
    client.allowHalfOpen = true;
    client.on("error", () => {});
    client.on("close", () => {
      this.#clientOpen = false;
      this.#clientGone();
      this.#released();
    });
    client.on("data", (chunk) => this.#fromClient(chunk as Uint8Array));
    client.on("end", () => this.#clientEnded());
    client.on("drain", () => {
      this.#stalled = Infinity;
      this.#inner?.resume();
    });
    this.#connect(PORT_ATTEMPTS);
  }

  /**
   * A request has arrived at the handler.
   *
   * @returns its number for the calls below, so that a late call does not affect the next request.
   */
  requestStarted(hasBody: boolean): number {
    this.#pipelined = false;
    const { requestTimeout, lingerTimeout } = this.#context;
    if (hasBody) this.#await("body", this.#ended ? lingerTimeout : requestTimeout);
    else this.#await("answer", Infinity);
    return ++this.#request;
  }

  /** The handler has read the whole body. */
  requestComplete(request: number): void {
    if (request === this.#request && this.#phase === "body") this.#await("answer", Infinity);
  }

  /**
   * The handler has answered.
   *
   * @returns true if it did not wait for the whole body; the connection is then closed after the answer.
   */
  answered(request: number): boolean {
    if (request !== this.#request || this.#phase !== "body") return false;
    this.#await("answer", Infinity);
    this.#discarding = true;
    this.#resume();
    return true;
  }

  /** The inner server has sent the answer. */
  answerSent(request: number): void {
    if (request !== this.#request || this.#phase !== "answer") return;
    if (this.#pipelined) this.#await("headers", this.#context.requestTimeout);
    else this.#await("idle", this.#context.idleTimeout);
    // The inner server does not close the connection if it has the whole body, even if the handler did not read it.
    if (this.#ended || this.#discarding) this.#endSoon();
  }

  /** Checks the deadlines. `now` is the time of the coarse clock, `date` the time of day in ms since 1970. */
  sweep(now: number, date: number): void {
    if (this.#stalled !== Infinity) {
      const untaken = this.#client.writableLength;
      if (untaken < this.#untaken) this.#stalled = this.#context.clock.deadline(this.#context.requestTimeout);
      this.#untaken = untaken;
      if (now >= this.#stalled) return this.destroy("the client does not read");
    }
    if (now >= this.#deadline) {
      if (this.#phase === "gone") this.#inner?.destroy();
      else this.destroy(`time-out (${this.#phase})`);
    } else if (this.#phase === "idle" && date > this.verified.notAfter) {
      this.destroy("the certificate has expired");
    }
  }

  /** Cuts the connection off. */
  destroy(reason: string): void {
    if (this.#phase === "gone") return;
    this.#context.cut(this, reason);
    this.#client.destroy();
    this.#clientGone();
  }

  /** Closes the connection if no request is under way. */
  endIdle(): void {
    if (this.#phase !== "idle") return;
    this.#context.idle.delete(this);
    this.#discarding = true;
    this.#client.destroySoon();
  }

  /** Cuts off both the client and the pipe to the inner server. */
  abort(): void {
    this.destroy("shutdown");
    this.#leavePort();
    this.#inner?.destroy();
  }

  #await(phase: Phase, timeout: number): void {
    this.#context.idle.delete(this);
    if (phase === "idle" && !this.#discarding) this.#context.idle.add(this);
    this.#phase = phase;
    this.#deadline = timeout === Infinity ? Infinity : this.#context.clock.deadline(timeout);
  }

  #connect(attempts: number, previous?: Socket): void {
    const port = this.#context.innerPort;
    if (port === undefined) {
      this.#innerOpen = previous !== undefined;
      // Not within the constructor.
      queueMicrotask(() => this.destroy("the inner server does not listen"));
      return void previous?.destroy();
    }
    const inner: Socket = connect({
      host: "127.0.0.1",
      port,
      noDelay: true,
      allowHalfOpen: true,
    });
    this.#inner = inner;
    inner.on("error", () => {});
    inner.once("close", () => {
      previous?.destroy();
      if (inner === this.#inner) this.#innerClosed();
    });
    inner.once("connect", () => {
      // Only now, while this socket has its port: otherwise it could get the same port again.
      previous?.destroy();
      // Wait one turn of the event loop: requests that the former owner of the port left in the inner server must find the port
      // without an owner.
      setImmediate(() => {
        if (this.#phase === "gone" || inner.destroyed) return void inner.destroy();
        const port = inner.localPort!;
        if (this.#context.ports.enter(port, this)) {
          this.#port = port;
          this.#start(inner);
        } else if (attempts > 1) this.#connect(attempts - 1, inner);
        else this.destroy("no free port for the pipe");
      });
    });
  }

  #start(inner: Socket): void {
    inner.on("data", (chunk) => this.#fromInner(inner, chunk as Uint8Array));
    inner.on("end", () => this.#innerEnded());
    inner.on("drain", () => this.#resume());
    for (const chunk of this.#early.splice(0)) inner.write(chunk);
    if (!inner.writableNeedDrain) this.#resume();
  }

  /** Each chunk has its own buffer: one client's answer is never in memory that another client's answer is read into. */
  #fromInner(inner: Socket, chunk: Uint8Array): void {
    const client = this.#client;
    if (client.destroyed || client.write(chunk) || this.#stalled !== Infinity) return;
    this.#stalled = this.#context.clock.deadline(this.#context.requestTimeout);
    this.#untaken = client.writableLength;
    inner.pause();
  }

  #fromClient(chunk: Uint8Array): void {
    if (this.#discarding) return this.#discard(chunk.length);
    if (this.#phase === "idle") this.#await("headers", this.#context.requestTimeout);
    else if (this.#phase === "answer") this.#pipelined = true;
    if (this.#preface >= 0 && this.#isHttp2(chunk)) return this.destroy("HTTP/2 without ALPN");
    const waiting = this.#port === 0 ? this.#hold(chunk) : this.#forward(chunk);
    if (waiting === 0) return;
    if (waiting > MAX_HELD) return this.destroy("sends more than the server reads");
    this.#stop();
  }

  /**
   * After the last answer is decided, only so much more is read. The connection is not closed at once: the reset would make
   * many clients miss the answer. It ends with the linger time.
   */
  #discard(bytes: number): void {
    this.#discarded += bytes;
    if (this.#discarded > MAX_DISCARDED) this.#stop();
  }

  #stop(): void {
    this.#stopped = true;
    this.#client.pause();
    this.#tcp._handle?.readStop?.();
  }

  /** Holds bytes until the pipe is open. @returns 0, or the number of bytes held when reading should stop. */
  #hold(chunk: Uint8Array): number {
    this.#early.push(chunk);
    this.#earlyBytes += chunk.length;
    return this.#earlyBytes < EARLY ? 0 : this.#earlyBytes;
  }

  /** Bytes that wait because the inner server does not read as fast as they come. */
  #forward(chunk: Uint8Array): number {
    const inner = this.#inner!;
    return inner.write(chunk) ? 0 : inner.writableLength;
  }

  #resume(): void {
    if (!this.#stopped || this.#discarded > MAX_DISCARDED) return;
    this.#stopped = false;
    this.#client.resume();
    this.#tcp._handle?.readStart?.();
  }

  #isHttp2(chunk: Uint8Array): boolean {
    for (let i = 0; i < chunk.length; i++) {
      if (chunk[i] !== HTTP2_PREFACE[this.#preface]) {
        this.#preface = -1;
        return false;
      }
      if (++this.#preface === HTTP2_PREFACE.length) return true;
    }
    return false;
  }

  /**
   * The client has ended its side. The inner server would treat an end as an abort, so it is passed on only between
   * requests.
   */
  #clientEnded(): void {
    this.#ended = true;
    if (this.#phase === "idle") this.#endSoon();
    // The inner server has got all bytes. If the request is not complete within this time, it never will be.
    else if (this.#phase === "headers" || this.#phase === "body") {
      this.#await(this.#phase, this.#context.lingerTimeout);
    } else if (this.#phase === "linger" && this.#client.writableFinished) this.#client.destroy();
  }

  #endSoon(): void {
    setTimeout(() => {
      if (this.#phase === "idle") this.#inner?.end();
    }, PIPELINE_PAUSE);
  }

  /** The inner server has closed: the client gets the remaining bytes and the end, and may finish sending. */
  #innerEnded(): void {
    this.#leavePort();
    this.#inner?.destroy();
    if (this.#phase === "gone" || this.#phase === "linger") return;
    this.#discarding = true;
    this.#await("linger", Infinity);
    this.#stalled = this.#context.clock.deadline(this.#context.requestTimeout);
    this.#untaken = this.#client.writableLength;
    this.#client.end(() => {
      this.#stalled = Infinity;
      if (this.#ended) this.#client.destroy();
      else if (this.#phase === "linger") this.#await("linger", this.#context.lingerTimeout);
    });
    this.#resume();
  }

  /**
   * The client's connection is closed. The pipe is ended and drained, not destroyed, so that its port stays in use until the
   * inner server has closed its side.
   */
  #clientGone(): void {
    if (this.#phase === "gone") return;
    this.#leavePort();
    this.#await("gone", this.#context.requestTimeout);
    this.#stalled = Infinity;
    this.#discarding = true;
    const inner = this.#inner;
    if (!inner || inner.connecting) return void inner?.destroy();
    // Ending it twice would create an error object with a stack for nothing.
    if (!inner.writableEnded) inner.end();
    inner.resume();
  }

  #leavePort(): void {
    if (this.#port !== 0) this.#context.ports.leave(this.#port, this);
  }

  #innerClosed(): void {
    this.#innerOpen = false;
    this.#innerEnded();
    if (this.#port !== 0) this.#context.ports.closed(this.#port);
    this.#released();
  }

  #released(): void {
    if (!this.#innerOpen && !this.#clientOpen) this.#context.released(this);
  }
}
