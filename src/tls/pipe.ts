/**
 * One verified TLS connection and its pipe to the inner HTTP server: bytes both ways with back-pressure, the
 * deadlines of its requests, and an end that harms nobody else.
 */
import { connect, type Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { CoarseClock } from "./coarse_clock.ts";
import type { PipePorts } from "./ports.ts";
import type { VerifiedClient } from "../x509/verifier.ts";

/** What pipes of one front have in common. Times in milliseconds. */
export interface PipeContext {
  readonly innerPort: number;
  readonly ports: PipePorts<Pipe>;
  readonly clock: CoarseClock;
  readonly requestTimeout: number;
  readonly idleTimeout: number;
  /** How long a client that still sends may go on after our last word. */
  readonly lingerTimeout: number;
  /** Pipes on which nothing is asked, the longest idle first; each enters and leaves by itself. */
  readonly idle: Set<Pipe>;
  /** The front cuts a client off. */
  readonly cut: (pipe: Pipe, reason: string) => void;
  /** Both sockets are closed. */
  readonly released: (pipe: Pipe) => void;
}

/** Milliseconds for the inner server to take up a request that came in together with another one. */
const PIPELINE_PAUSE = 20;

/** Bytes held for an inner server that does not take them; never reached where {@linkcode ReadControl} works. */
const MAX_HELD = 16 * 2 ** 20;

/**
 * Reading from the network. Deno's TLSSocket goes on reading when it is paused, without bound; the handle of the
 * TCP socket below it stops.
 */
interface ReadControl {
  readStop?(): void;
  readStart?(): void;
}

/** Bytes of a client that are held until its pipe is there before reading stops. */
const EARLY = 65_536;

/** Attempts to get a port that nobody had a moment ago. */
const PORT_ATTEMPTS = 8;

/**
 * HTTP/2 without ALPN, which the inner server would take up: many requests at once on one connection, while the
 * deadlines here are for one after the other.
 */
const HTTP2_PREFACE = new TextEncoder().encode("PRI * HTTP/2.0\r\n");

/** Where the connection stands with its requests. */
type Phase =
  /** Nothing asked; the deadline is the idle one. */
  | "idle"
  /** Bytes came in, the handler has not been called: request line and headers. */
  | "headers"
  /** The handler runs, the body may be incomplete. */
  | "body"
  /** The handler runs or its answer is on the way; no deadline. */
  | "answer"
  /** The inner server is through with the connection; what the client still sends is thrown away. */
  | "linger"
  /** The client is gone. */
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
  /** Of the pipe; 0 until it is entered, and nothing is forwarded before. */
  #port = 0;
  /** What came from the client before that. */
  readonly #early: Uint8Array[] = [];
  #earlyBytes = 0;
  /** Nothing is read from the client. */
  #stopped = false;
  #phase: Phase = "idle";
  #deadline: number;
  /** The client does not take what we send: when it is cut off. Infinity: nothing is waiting. */
  #stalled = Infinity;
  /** What the client left untaken at the last look. */
  #untaken = 0;
  /** The client has ended its side. */
  #ended = false;
  /** Bytes came in after the request was complete: the next one has begun. */
  #pipelined = false;
  /** The answer is decided, the rest of the body does not matter. */
  #discarding = false;
  /** Octets of the HTTP/2 preface seen; -1: it is something else. */
  #preface = 0;
  /** Number of the request the phase is about. */
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

  /** A request has arrived for the handler. Its number is for the calls below: late ones must not hit the next. */
  requestStarted(hasBody: boolean): number {
    this.#pipelined = false;
    if (hasBody) this.#await("body", this.#context.requestTimeout);
    else this.#await("answer", Infinity);
    return ++this.#request;
  }

  /** The handler has read the whole body. */
  requestComplete(request: number): void {
    if (request === this.#request && this.#phase === "body") this.#await("answer", Infinity);
  }

  /** The handler has answered; true when it did not wait for the whole body, so that this is the last answer. */
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
    // The inner server does not close of itself when it had the whole body, though nobody read it.
    if (this.#ended || this.#discarding) this.#endSoon();
  }

  /** Looks at the deadlines. `now` is the coarse clock's, `date` the time of day in ms since the epoch. */
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

  /** Ends the connection if no request is under way. */
  endIdle(): void {
    if (this.#phase !== "idle") return;
    this.#context.idle.delete(this);
    this.#discarding = true;
    this.#client.destroySoon();
  }

  /** Cuts everything, the pipe to the inner server too. */
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
    const inner: Socket = connect({
      host: "127.0.0.1",
      port: this.#context.innerPort,
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
      // Not before this socket has a port of its own, or it would be given the same one again.
      previous?.destroy();
      // One turn of the event loop, so that whatever the port's former owner left behind in the inner server
      // finds the port without an owner.
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

  /** Each chunk is a buffer of its own: what one client gets is never in memory that another one's answer is read into. */
  #fromInner(inner: Socket, chunk: Uint8Array): void {
    const client = this.#client;
    if (client.destroyed || client.write(chunk) || this.#stalled !== Infinity) return;
    this.#stalled = this.#context.clock.deadline(this.#context.requestTimeout);
    this.#untaken = client.writableLength;
    inner.pause();
  }

  #fromClient(chunk: Uint8Array): void {
    if (this.#discarding) return;
    if (this.#phase === "idle") this.#await("headers", this.#context.requestTimeout);
    else if (this.#phase === "answer") this.#pipelined = true;
    if (this.#preface >= 0 && this.#isHttp2(chunk)) return this.destroy("HTTP/2 without ALPN");
    const waiting = this.#port === 0 ? this.#hold(chunk) : this.#forward(chunk);
    if (waiting === 0) return;
    if (waiting > MAX_HELD) return this.destroy("sends more than is taken");
    this.#stopped = true;
    this.#client.pause();
    this.#tcp._handle?.readStop?.();
  }

  /** Holds what cannot be forwarded yet; the bytes held, once they are enough. */
  #hold(chunk: Uint8Array): number {
    this.#early.push(chunk);
    this.#earlyBytes += chunk.length;
    return this.#earlyBytes < EARLY ? 0 : this.#earlyBytes;
  }

  /** Bytes that wait, if the inner server does not take them as they come. */
  #forward(chunk: Uint8Array): number {
    const inner = this.#inner!;
    return inner.write(chunk) ? 0 : inner.writableLength;
  }

  #resume(): void {
    if (!this.#stopped) return;
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
   * The client has sent its last byte. The inner server takes an end for a hang-up, so it learns of it only
   * between requests; a request that never gets complete runs into its deadline.
   */
  #clientEnded(): void {
    this.#ended = true;
    if (this.#phase === "idle") this.#endSoon();
    // All that will come is with the inner server; if that is no request by then, it never becomes one.
    else if (this.#phase === "headers") this.#await("headers", this.#context.lingerTimeout);
    else if (this.#phase === "linger" && this.#client.writableFinished) this.#client.destroy();
  }

  #endSoon(): void {
    setTimeout(() => {
      if (this.#phase === "idle") this.#inner?.end();
    }, PIPELINE_PAUSE);
  }

  /** The inner server has closed: the client gets what is left and our end, and may finish its sentence. */
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
   * The client is gone. The pipe is ended and emptied rather than destroyed: its port stays taken until the
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
    // Ending it once more would make an error, stack and all, that nobody sees.
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
