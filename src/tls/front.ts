/**
 * The mTLS front: verifies each client, and hands its decrypted bytes to an HTTP server on the loopback that can
 * be reached through the front only.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { createServer, type Socket } from "node:net";
import { createServer as createTlsServer, type TLSSocket } from "node:tls";
import { log } from "../log.ts";
import { CoarseClock } from "./coarse_clock.ts";
import type { ClientIdentity } from "../x509/client_identity.ts";
import { Pipe, type PipeContext } from "./pipe.ts";
import { PipePorts } from "./ports.ts";
import { CertificateRefused } from "../x509/refusal.ts";
import { ClientVerifier } from "../x509/verifier.ts";
import { formatHostPort, type HostPort } from "../domain/address.ts";
import { errorMessage } from "../domain/text.ts";

/** The connection a request came over. */
export interface FrontConnection {
  readonly identity: ClientIdentity;
  /**
   * To be called when the whole body was read: the request's deadline is over. An answer that is given before,
   * to a request that has a body, is the last one on its connection.
   */
  requestComplete(): void;
}

/** Answers a request. What it throws becomes a 500 that tells nothing. */
export type FrontHandler = (request: Request, connection: FrontConnection) => Response | Promise<Response>;

/** PEM texts of a listener. */
export interface FrontMaterial {
  /** CA certificates that client certificates must chain to. */
  readonly clientCa: string;
  /** The server's certificate, intermediates after it. */
  readonly serverCert: string;
  /** PKCS#8, SEC1 or PKCS#1. */
  readonly serverKey: string;
}

/** Times in milliseconds. They are kept to a tenth of the shortest, never early. */
export interface FrontOptions extends FrontMaterial {
  /** For logs and errors. */
  readonly name: string;
  readonly listen: HostPort;
  readonly handler: FrontHandler;
  /** From the connection to the end of the TLS handshake; 30 s. */
  readonly handshakeTimeout?: number;
  /**
   * From a request's first byte to the end of its headers, again from there to the end of its body, and for a
   * client that takes nothing of its answer; 30 s.
   */
  readonly requestTimeout?: number;
  /** For a connection on which nothing is asked; 120 s. */
  readonly idleTimeout?: number;
  /** For a client to stop sending and read after the last answer of a connection; 2 s. */
  readonly lingerTimeout?: number;
  /** Verified connections at a time; one more takes the place of the one that has been idle longest; 10,000. */
  readonly maxConnections?: number;
  /** Handshakes at a time, beside them; one more takes the place of the oldest; 1,000. */
  readonly maxHandshakes?: number;
  /** Newest TLS version that is offered; TLSv1.3. */
  readonly maxVersion?: "TLSv1.2" | "TLSv1.3";
  /** The calendar, milliseconds since the epoch; Date.now. */
  readonly date?: () => number;
}

export interface Front {
  readonly address: { readonly hostname: string; readonly port: number };
  /** Where the inner server listens, on 127.0.0.1; it answers no one but the front. */
  readonly innerPort: number;
  /** Client connections open now, and those of which only the inner pipe is. */
  readonly connections: number;
  /** Of these, connections whose handshake is under way. */
  readonly handshakes: number;
  /** Ports of the loopback that stand for a client now. */
  readonly mappedPorts: number;
  /**
   * New connections are verified with this and see this certificate; open ones stay.
   *
   * @throws {Error} When the material does not serve; then the old one stays.
   */
  reload(material: FrontMaterial): void;
  /**
   * Stops accepting, closes idle connections, lets requests under way finish.
   *
   * @param graceMs Milliseconds after which the rest is cut off; 10 s.
   */
  close(graceMs?: number): Promise<void>;
}

/** Milliseconds for what is cut off to be gone. */
const PATIENCE = 500;

const JSON_HEADERS = { "content-type": "application/json", "cache-control": "no-store" };

/**
 * Opens an mTLS listener.
 *
 * ```ts
 * const front = await startFront({ name: "saes", listen, clientCa, serverCert, serverKey,
 *   handler: (_request, { identity }) => Response.json({ serial: identity.serial.toString(16) }) });
 * ```
 *
 * @throws {Error} When the listener cannot be opened or its certificates do not serve.
 */
export async function startFront(options: FrontOptions): Promise<Front> {
  const front = new MtlsFront(options);
  await front.open();
  return front;
}

class MtlsFront implements Front {
  readonly #options: FrontOptions;
  readonly #log = log("tls");
  readonly #date: () => number;
  readonly #handshakeTimeout: number;
  readonly #maxConnections: number;
  readonly #maxHandshakes: number;
  readonly #clock: CoarseClock;
  readonly #ports = new PipePorts<Pipe>();
  readonly #pipes = new Set<Pipe>();
  /** Pipes on which nothing is asked, the longest idle first. */
  readonly #idle = new Set<Pipe>();
  /** Handshakes under way by the client's end of their connection, with their deadlines. */
  readonly #handshakes = new Map<string, { readonly socket: Socket; readonly deadline: number }>();
  readonly #inner: Deno.HttpServer<Deno.NetAddr>;
  readonly #context: PipeContext;
  readonly #server: ReturnType<typeof createServer>;
  readonly #tls: ReturnType<typeof createTlsServer>;
  #verifier: ClientVerifier;
  #address = { hostname: "", port: 0 };
  #closed: Promise<void> | undefined;
  #whenEmpty: (() => void) | undefined;

  constructor(options: FrontOptions) {
    this.#options = options;
    this.#date = options.date ?? Date.now;
    this.#handshakeTimeout = options.handshakeTimeout ?? 30_000;
    this.#maxConnections = options.maxConnections ?? 10_000;
    this.#maxHandshakes = options.maxHandshakes ?? 1_000;
    const requestTimeout = options.requestTimeout ?? 30_000;
    const idleTimeout = options.idleTimeout ?? 120_000;
    const lingerTimeout = options.lingerTimeout ?? 2_000;
    this.#verifier = this.#check(options);
    this.#tls = createTlsServer({ ...this.#secureContext(options), ALPNProtocols: ["http/1.1"] });
    this.#tls.on("secureConnection", (socket) => this.#secured(socket));
    // The socket's close comes too, and tidies up.
    this.#tls.on(
      "tlsClientError",
      (error) => this.#log.debug("handshake failed: {reason}", { reason: error.message }),
    );
    this.#server = createServer({ noDelay: true }, (socket) => this.#accepted(socket));
    const timeouts = [this.#handshakeTimeout, requestTimeout, idleTimeout, lingerTimeout];
    this.#clock = new CoarseClock(timeouts, (now) => this.#sweep(now));
    this.#inner = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen() {}, onError: () => internalError() },
      (request, info) => this.#serve(request, info),
    );
    this.#context = {
      innerPort: this.#inner.addr.port,
      ports: this.#ports,
      clock: this.#clock,
      requestTimeout,
      idleTimeout,
      lingerTimeout,
      idle: this.#idle,
      cut: (pipe, reason) => this.#log.debug("{remote} cut off: {reason}", { remote: pipe.remote, reason }),
      released: (pipe) => {
        this.#pipes.delete(pipe);
        this.#checkEmpty();
      },
    };
  }

  get address(): Front["address"] {
    return this.#address;
  }

  get innerPort(): number {
    return this.#context.innerPort;
  }

  get connections(): number {
    return this.#pipes.size + this.#handshakes.size;
  }

  get handshakes(): number {
    return this.#handshakes.size;
  }

  get mappedPorts(): number {
    return this.#ports.size;
  }

  async open(): Promise<void> {
    const { name, listen } = this.#options;
    try {
      await new Promise<void>((resolve, reject) => {
        this.#server.once("error", reject);
        this.#server.listen({ host: listen.hostname, port: listen.port, backlog: 511 }, () => {
          this.#server.off("error", reject);
          resolve();
        });
      });
    } catch (cause) {
      await this.#stopInner();
      const reason = errorMessage(cause);
      throw new Error(`${name}: cannot listen on ${formatHostPort(listen)}: ${reason}`, { cause });
    }
    // Running out of file descriptors is reported here; the listener goes on.
    this.#server.on("error", (error) => this.#log.debug("listener: {reason}", { reason: error.message }));
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error(`${name}: not a TCP listener`);
    this.#address = { hostname: address.address, port: address.port };
  }

  reload(material: FrontMaterial): void {
    const verifier = this.#check(material);
    this.#tls.setSecureContext(this.#secureContext(material, verifier));
    this.#verifier = verifier;
  }

  close(graceMs = 10_000): Promise<void> {
    return this.#closed ??= this.#close(graceMs);
  }

  async #close(graceMs: number): Promise<void> {
    this.#server.close();
    for (const { socket } of this.#handshakes.values()) socket.destroy();
    for (const pipe of this.#pipes) pipe.endIdle();
    const empty = new Promise<void>((resolve) => this.#whenEmpty = resolve);
    this.#checkEmpty();
    // The inner server ends each connection after the answer it is at.
    const shutdown = this.#inner.shutdown();
    await within(graceMs, empty);
    for (const pipe of this.#pipes) pipe.abort();
    await within(PATIENCE, empty);
    await this.#stopInner(shutdown);
  }

  /** A handler that never returns must not hold up the end of the program. */
  async #stopInner(shutdown = this.#inner.shutdown()): Promise<void> {
    this.#clock.stop();
    await within(PATIENCE, shutdown);
  }

  #checkEmpty(): void {
    if (this.connections === 0) this.#whenEmpty?.();
  }

  /** @throws {Error} When a listener could not serve with this. */
  #check(material: FrontMaterial): ClientVerifier {
    const { name } = this.#options;
    try {
      const verifier = new ClientVerifier(material.clientCa);
      if (!new X509Certificate(material.serverCert).checkPrivateKey(createPrivateKey(material.serverKey))) {
        throw new Error("the server's certificate does not belong to its key");
      }
      return verifier;
    } catch (cause) {
      throw new Error(`${name}: ${errorMessage(cause)}`, { cause });
    }
  }

  #secureContext(material: FrontMaterial, verifier = this.#verifier) {
    return {
      ca: verifier.anchors,
      cert: material.serverCert,
      key: quicklyReadKey(material.serverKey),
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: "TLSv1.2" as const,
      maxVersion: this.#options.maxVersion ?? "TLSv1.3",
    };
  }

  #accepted(socket: Socket): void {
    socket.on("error", () => {});
    const remote = remoteOf(socket);
    if (remote === undefined || this.#closed) return void socket.destroy();
    // The same end again: its first connection is over, or goes to another address of this host. Only one can be told.
    const twin = this.#handshakes.get(remote);
    if (twin) {
      this.#handshakes.delete(remote);
      twin.socket.destroy();
    }
    // Clients that say nothing must not keep those out that do, nor cost those a connection that are known already.
    if (this.#handshakes.size >= this.#maxHandshakes) {
      const [oldest, { socket }] = this.#handshakes.entries().next().value!;
      this.#handshakes.delete(oldest);
      this.#log.debug("{remote} makes room for another handshake", { remote: oldest });
      socket.destroy();
    }
    this.#handshakes.set(remote, { socket, deadline: this.#clock.deadline(this.#handshakeTimeout) });
    socket.once("close", () => {
      if (this.#handshakes.get(remote)?.socket !== socket) return;
      this.#handshakes.delete(remote);
      this.#log.debug("{remote} closed within the handshake", { remote });
      this.#checkEmpty();
    });
    this.#tls.emit("connection", socket);
  }

  /** The TLS layer is content with a connection; whether we are is another matter. */
  #secured(socket: TLSSocket): void {
    const remote = remoteOf(socket);
    try {
      const tcp = remote === undefined ? undefined : this.#handshakes.get(remote)?.socket;
      if (remote === undefined || !tcp) throw new Error("not a connection of this listener");
      this.#handshakes.delete(remote);
      if (!socket.authorized) throw new CertificateRefused("unknown_ca", "not authorized");
      const leaf = socket.getPeerX509Certificate()?.raw;
      if (!leaf) throw new CertificateRefused("no_certificate", "no client certificate");
      const verified = this.#verifier.verify({
        leaf,
        others: () => othersOf(socket),
        fullHandshake: socket.isSessionReused() === false,
      }, this.#date());
      this.#makeRoom();
      this.#pipes.add(new Pipe(socket, tcp, remote, verified, this.#context));
    } catch (error) {
      socket.on("error", () => {});
      socket.destroy();
      const reason = error instanceof Error ? error.message : "internal error";
      this.#log.debug("client {remote} refused: {reason}", { remote, reason });
      this.#checkEmpty();
    }
  }

  /** @throws {Error} When a request is under way on every connection. */
  #makeRoom(): void {
    if (this.#pipes.size < this.#maxConnections) return;
    const longest = this.#idle.values().next().value;
    if (!longest) throw new Error("too many connections");
    this.#log.debug("{remote} makes room for another connection", { remote: longest.remote });
    longest.endIdle();
  }

  #sweep(now: number): void {
    const date = this.#date();
    for (const { socket, deadline } of this.#handshakes.values()) if (now >= deadline) socket.destroy();
    for (const pipe of this.#pipes) pipe.sweep(now, date);
    this.#ports.sweep();
  }

  #serve(request: Request, info: Deno.ServeHandlerInfo<Deno.NetAddr>): Response | Promise<Response> {
    // Once for each request: whose it is does not change while it is under way, even when its port does.
    const pipe = this.#ports.find(info.remoteAddr);
    if (!pipe) {
      this.#log.debug("request from a stranger on the inner port refused");
      return refused();
    }
    const number = pipe.requestStarted(hasBody(request));
    const sent = () => pipe.answerSent(number);
    info.completed.then(sent, sent);
    const answered = (response: Response) => pipe.answered(number) ? lastAnswer(response) : response;
    const failed = (error: unknown) => {
      this.#log.error("handler failed: {error}", { error: outline(error) });
      return answered(internalError());
    };
    try {
      const response = this.#options.handler(request, {
        identity: pipe.identity,
        requestComplete: () => pipe.requestComplete(number),
      });
      return response instanceof Promise ? response.then(answered).catch(failed) : answered(response);
    } catch (error) {
      return failed(error);
    }
  }
}

/** Waits for the promise, but not longer than this many milliseconds, whatever becomes of it. */
async function within(ms: number, promise: Promise<unknown>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const patience = new Promise<void>((resolve) => timer = setTimeout(resolve, ms));
  await Promise.race([promise.catch(() => {}), patience]);
  clearTimeout(timer);
}

/**
 * The TLS layer reads the key anew for each connection, and tries an EC key in PKCS#8 as one of RSA and of every other
 * curve first, checking it each time.
 */
function quicklyReadKey(pem: string): string {
  const key = createPrivateKey(pem);
  return key.asymmetricKeyType === "ec" ? key.export({ type: "sec1", format: "pem" }).toString() : pem;
}

/** `address:port` of the client; absent when the connection is over already. */
function remoteOf(socket: Socket): string | undefined {
  const { remoteAddress, remotePort } = socket;
  return remoteAddress === undefined || remotePort === undefined
    ? undefined
    : `${remoteAddress}:${remotePort}`;
}

/** DER of the certificates a client sent after its own. */
function othersOf(socket: TLSSocket): Uint8Array[] {
  const others: Uint8Array[] = [];
  let certificate = socket.getPeerCertificate(true);
  // A self-signed certificate is its own issuer.
  while (
    certificate?.issuerCertificate && certificate.issuerCertificate !== certificate && others.length < 8
  ) {
    certificate = certificate.issuerCertificate;
    if (certificate.raw) others.push(certificate.raw);
  }
  return others;
}

function hasBody(request: Request): boolean {
  if (request.method === "GET" || request.method === "HEAD") return false;
  const length = request.headers.get("content-length");
  return length === null ? request.headers.has("transfer-encoding") : length !== "0";
}

/** An error without its message, which may hold values. */
function outline(error: unknown): string {
  if (!(error instanceof Error)) return typeof error;
  const frames = error.stack?.split("\n").filter((line) => /^\s+at /.test(line)).join("\n") ?? "";
  const code = "code" in error && typeof error.code === "string" ? ` ${error.code}` : "";
  return `${error.name}${code}\n${frames}`;
}

function refused(): Response {
  return new Response(`{"message":"forbidden"}`, {
    status: 403,
    headers: { ...JSON_HEADERS, connection: "close" },
  });
}

function internalError(): Response {
  return new Response(`{"message":"internal error"}`, { status: 500, headers: JSON_HEADERS });
}

function lastAnswer(response: Response): Response {
  const headers = new Headers(response.headers);
  headers.set("connection", "close");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
