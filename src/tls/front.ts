/**
 * The mTLS front: verifies each client, and forwards its decrypted bytes to an HTTP server on the loopback interface that
 * answers only requests from the front.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import type { Socket } from "node:net";
import { createServer as createTlsServer, type TLSSocket } from "node:tls";
import { log } from "../log.ts";
import { LastingHttpServer } from "./lasting_http_server.ts";
import { CoarseClock } from "./coarse_clock.ts";
import { TcpListener } from "./tcp_listener.ts";
import type { ConnectedClient } from "../x509/client_identity.ts";
import { firstOfTheMost, remoteOf } from "./address_group.ts";
import { Pipe, type PipeContext } from "./pipe.ts";
import { PipePorts } from "./ports.ts";
import { CertificateRefused } from "../x509/refusal.ts";
import { ClientVerifier, type VerifiedClient } from "../x509/verifier.ts";
import { formatHostPort, type HostPort } from "../domain/address.ts";
import { cutShort, errorMessage } from "../domain/text.ts";
import { within } from "../domain/within.ts";
import { RateLimitedLog } from "../rate_limited_log.ts";
import { formatSerial, parseCertificate } from "../x509/certificate.ts";
import type { Revocations } from "../x509/revocations.ts";
import type { Certificate } from "../x509/certificate.ts";
import type { RefusedClient } from "./client_refusal.ts";
import { JSON_HEADERS, jsonBody } from "./json_body.ts";
import { presentedBy } from "./peer_certificates.ts";
import { answerRefused } from "./refused_client.ts";
import { hasBody, lastAnswer, LINGER_MS } from "./unread_body.ts";

/** The connection a request came over. */
export interface FrontConnection extends ConnectedClient {
  /**
   * To be called when the whole body was read; this ends the request's deadline. If a request with a body is answered
   * earlier, its connection is closed after the answer.
   */
  requestComplete(): void;
}

/** Answers a request. An exception becomes a 500 without details. */
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

/** Times in milliseconds, accurate to a tenth of the shortest one, never early. */
export interface FrontOptions extends FrontMaterial {
  /** For logs and errors. */
  readonly name: string;
  readonly listen: HostPort;
  readonly handler: FrontHandler;
  /** From the connection to the end of the TLS handshake; 30 s. */
  readonly handshakeTimeout?: number;
  /**
   * From a request's first byte to the end of its headers, from there to the end of its body, and for a client that reads
   * nothing of its answer; 30 s.
   */
  readonly requestTimeout?: number;
  /** For an idle connection; 120 s. */
  readonly idleTimeout?: number;
  /** For a client to stop sending, and to read, after the last answer of a connection; 2 s. */
  readonly lingerTimeout?: number;
  /**
   * Verified connections at a time; a further one replaces the one that has been idle longest among those of the client with the
   * most connections; 10,000. One certificate can have half of them.
   */
  readonly maxConnections?: number;
  /** Handshakes at a time, in addition; a further one replaces the oldest of the address with the most; 1,000. */
  readonly maxHandshakes?: number;
  /** Called for each client that is refused. */
  readonly onRefused?: (client: RefusedClient) => void;
  /** Certificates that the listener's CAs have revoked; none. */
  readonly revocations?: (authorities: readonly Certificate[]) => Revocations;
  /** Connections that wait to be accepted; 511. */
  readonly backlog?: number;
  /** Oldest TLS version that is accepted; TLSv1.2. */
  readonly minVersion?: "TLSv1.2" | "TLSv1.3";
  /** Newest TLS version that is offered; TLSv1.3. */
  readonly maxVersion?: "TLSv1.2" | "TLSv1.3";
  /** Time of day, milliseconds since 1970; Date.now. */
  readonly date?: () => number;
}

export interface Front {
  readonly address: { readonly hostname: string; readonly port: number };
  /** Port of the inner server on 127.0.0.1; it answers only requests from the front. */
  readonly innerPort: number;
  /** Connections open now, including those of which only the inner pipe is still open. */
  readonly connections: number;
  /** Of these, connections whose handshake is under way. */
  readonly handshakes: number;
  /** Loopback ports that are assigned to a client now. */
  readonly mappedPorts: number;
  /**
   * Replaces CAs and certificate for new connections. Closes open connections whose client's certificate does not chain to the
   * new CAs.
   *
   * @throws {Error} When the material cannot be used; the old one then stays in use.
   */
  reload(material: FrontMaterial): void;
  /** To be called when the revocations have changed: closes the connections of clients that are revoked now. */
  revocationsChanged(): void;
  /**
   * Stops accepting, closes idle connections, lets requests under way finish.
   *
   * @param graceMs Milliseconds after which the remaining connections are cut off; 10 s.
   */
  close(graceMs?: number): Promise<void>;
}

/** Milliseconds for connections that were cut off to close. */
const CUT_OFF_MS = 500;

/** Refused clients at a time that get an answer, for each handshake at a time; a further one replaces the oldest. */
const REFUSED_A_HANDSHAKE = 0.2;

/** Connections that one certificate can always have. */
const MIN_SHARE = 8;

/**
 * Opens an mTLS listener.
 *
 * ```ts
 * const front = await startFront({ name: "saes", listen, clientCa, serverCert, serverKey,
 *   handler: (_request, { identity }) => Response.json({ serial: identity.serial.toString(16) }) });
 * ```
 *
 * @throws {Error} When the listener cannot be opened or its certificates cannot be used.
 */
export async function startFront(options: FrontOptions): Promise<Front> {
  const front = new MtlsFront(options);
  await front.open();
  return front;
}

class MtlsFront implements Front {
  readonly #options: FrontOptions;
  readonly #log = log("tls");
  readonly #refusedLog = new RateLimitedLog("tls");
  readonly #date: () => number;
  readonly #handshakeTimeout: number;
  readonly #maxConnections: number;
  readonly #maxHandshakes: number;
  readonly #clock: CoarseClock;
  readonly #ports = new PipePorts<Pipe>();
  readonly #pipes = new Set<Pipe>();
  /** Idle pipes, the longest idle first. */
  readonly #idle = new Set<Pipe>();
  /** Number of pipes by the fingerprint of the client's certificate. */
  readonly #counts = new Map<string, number>();
  /** Handshakes under way by the address and port of the client, with their deadlines. */
  readonly #handshakes = new Map<string, { readonly socket: Socket; readonly deadline: number }>();
  /** Refused clients that have not got their answer yet, the oldest first. */
  readonly #refused = new Set<TLSSocket>();
  readonly #inner: LastingHttpServer;
  readonly #context: PipeContext;
  readonly #listener: TcpListener;
  readonly #tls: ReturnType<typeof createTlsServer>;
  #verifier: ClientVerifier;
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
    const lingerTimeout = options.lingerTimeout ?? LINGER_MS;
    this.#verifier = this.#check(options);
    // `http/1.0` is what curl --http1.0 and old clients offer. A client that offers HTTP/2 only is refused.
    const protocols = ["http/1.1", "http/1.0"];
    this.#tls = createTlsServer({ ...this.#secureContext(options), ALPNProtocols: protocols });
    this.#tls.on("secureConnection", (socket) => this.#secured(socket));
    // The socket's close event follows and does the clean-up.
    this.#tls.on("tlsClientError", (error, socket) => this.#handshakeFailed(error, socket));
    this.#listener = new TcpListener({
      name: options.name,
      listen: options.listen,
      backlog: options.backlog ?? 511,
      onConnection: (socket) => this.#accepted(socket),
    });
    const timeouts = [this.#handshakeTimeout, requestTimeout, idleTimeout, lingerTimeout];
    this.#clock = new CoarseClock(timeouts, (now) => this.#sweep(now));
    const inner = new LastingHttpServer({
      name: `inner ${options.name}`,
      hostname: "127.0.0.1",
      port: 0,
      // A process that takes the port while nothing listens there must not get what clients send.
      keepsPort: false,
      onError: () => internalError(),
      handler: (request, info) => this.#serve(request, info),
    });
    this.#inner = inner;
    this.#context = {
      get innerPort() {
        return inner.isListening ? inner.address.port : undefined;
      },
      ports: this.#ports,
      clock: this.#clock,
      requestTimeout,
      idleTimeout,
      lingerTimeout,
      idle: this.#idle,
      cut: (pipe, reason) => this.#log.debug("{remote} cut off: {reason}", { remote: pipe.remote, reason }),
      released: (pipe) => {
        if (this.#pipes.delete(pipe)) this.#count(pipe.verified, -1);
        this.#checkEmpty();
      },
    };
  }

  get address(): Front["address"] {
    return this.#listener.address;
  }

  get innerPort(): number {
    return this.#inner.address.port;
  }

  get connections(): number {
    return this.#pipes.size + this.#handshakes.size + this.#refused.size;
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
      await this.#listener.open();
    } catch (cause) {
      await this.#stopInner();
      const reason = errorMessage(cause);
      throw new Error(`${name}: cannot listen on ${formatHostPort(listen)}: ${reason}`, { cause });
    }
  }

  reload(material: FrontMaterial): void {
    const verifier = this.#check(material);
    this.#tls.setSecureContext(this.#secureContext(material, verifier));
    const sameAuthorities = verifier.anchors.join() === this.#verifier.anchors.join();
    this.#verifier = verifier;
    this.#verifyAgain(sameAuthorities);
  }

  revocationsChanged(): void {
    this.#verifier.revocations = this.#options.revocations?.(this.#verifier.authorities) ?? [];
    this.#verifyAgain(true);
  }

  /** Closes the connections whose client would not be accepted now. */
  #verifyAgain(sameAuthorities: boolean): void {
    for (const pipe of this.#pipes) {
      const [leaf, ...others] = pipe.verified.chain.map(({ der }) => der);
      const presented = { leaf: leaf!, others: () => others, fullHandshake: sameAuthorities };
      try {
        this.#verifier.verify(presented, this.#date());
      } catch (error) {
        this.#reportRefused(pipe.remote, error, pipe.verified.chain[0]);
        pipe.destroy(errorMessage(error));
      }
    }
  }

  close(graceMs = 10_000): Promise<void> {
    return this.#closed ??= this.#close(graceMs);
  }

  async #close(graceMs: number): Promise<void> {
    this.#listener.close();
    for (const { socket } of this.#handshakes.values()) socket.destroy();
    for (const socket of this.#refused) socket.destroy();
    for (const pipe of this.#pipes) pipe.endIdle();
    const empty = new Promise<void>((resolve) => this.#whenEmpty = resolve);
    this.#checkEmpty();
    // The inner server closes each connection after the current answer.
    const shutdown = this.#inner.shutdown();
    await within(empty, graceMs, () => {});
    for (const pipe of this.#pipes) pipe.abort();
    await within(empty, CUT_OFF_MS, () => {});
    await this.#stopInner(shutdown);
  }

  /** A handler that never returns must not delay the end of the program. */
  async #stopInner(shutdown = this.#inner.shutdown()): Promise<void> {
    this.#clock.stop();
    await within(shutdown.catch(() => {}), CUT_OFF_MS, () => {});
  }

  #checkEmpty(): void {
    if (this.connections === 0) this.#whenEmpty?.();
  }

  /** @throws {Error} When a listener cannot use this material. */
  #check(material: FrontMaterial): ClientVerifier {
    const { name } = this.#options;
    try {
      const verifier = new ClientVerifier(material.clientCa);
      verifier.revocations = this.#options.revocations?.(verifier.authorities) ?? [];
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
      // Decided in #secured, so that a refused client gets the reason.
      rejectUnauthorized: false,
      minVersion: this.#options.minVersion ?? "TLSv1.2",
      maxVersion: this.#options.maxVersion ?? "TLSv1.3",
    };
  }

  #accepted(socket: Socket): void {
    socket.on("error", () => {});
    const remote = remoteOf(socket);
    if (remote === undefined || this.#closed) return void socket.destroy();
    // The same address and port again: the earlier connection is closed, or goes to another address of this host. Only one is kept.
    const twin = this.#handshakes.get(remote);
    if (twin) {
      this.#handshakes.delete(remote);
      twin.socket.destroy();
    }
    // Clients that send nothing, or many of one address, must not keep others out, and must not displace verified connections.
    if (this.#handshakes.size >= this.#maxHandshakes) this.#endOldestHandshake();
    this.#handshakes.set(remote, { socket, deadline: this.#clock.deadline(this.#handshakeTimeout) });
    socket.once("close", () => {
      if (this.#handshakes.get(remote)?.socket !== socket) return;
      this.#handshakes.delete(remote);
      this.#log.debug("{remote} closed within the handshake", { remote });
      this.#checkEmpty();
    });
    this.#tls.emit("connection", socket);
  }

  /** Ends the oldest handshake of the address that has the most. */
  #endOldestHandshake(): void {
    const oldest = firstOfTheMost(this.#handshakes.keys())!;
    this.#log.debug("{remote} makes room for another handshake", { remote: oldest });
    const { socket } = this.#handshakes.get(oldest)!;
    this.#handshakes.delete(oldest);
    socket.destroy();
  }

  /** After the handshake: decides whether the client is accepted. */
  #secured(socket: TLSSocket): void {
    const remote = remoteOf(socket);
    const tcp = remote === undefined ? undefined : this.#handshakes.get(remote)?.socket;
    if (remote === undefined || !tcp) {
      socket.on("error", () => {}).destroy();
      return this.#checkEmpty();
    }
    this.#handshakes.delete(remote);
    let verified: VerifiedClient;
    try {
      verified = this.#verify(socket);
    } catch (error) {
      const message = this.#reportRefused(remote, error, certificateOf(socket));
      return this.#answerRefused(socket, "401 Unauthorized", message);
    }
    if (!this.#makeRoom(verified.identity.fingerprint)) {
      const message = "too many connections";
      this.#reportRefused(remote, new Error(message), verified.chain[0]);
      return this.#answerRefused(socket, "503 Service Unavailable", message);
    }
    this.#count(verified, 1);
    this.#pipes.add(new Pipe(socket, tcp, remote, verified, this.#context));
  }

  #count({ identity: { fingerprint } }: VerifiedClient, change: number): void {
    const count = (this.#counts.get(fingerprint) ?? 0) + change;
    if (count > 0) this.#counts.set(fingerprint, count);
    else this.#counts.delete(fingerprint);
  }

  /** @throws {CertificateRefused} */
  #verify(socket: TLSSocket): VerifiedClient {
    const presented = presentedBy(socket);
    if (!presented) throw new CertificateRefused("no_certificate", "no client certificate");
    const verified = this.#verifier.verify(presented, this.#date());
    // Accepted only if both verifications accept it.
    if (!socket.authorized) {
      const message = `TLS does not accept the certificate (${socket.authorizationError})`;
      throw new CertificateRefused("tls_verification", message);
    }
    return verified;
  }

  #answerRefused(
    socket: TLSSocket,
    status: "401 Unauthorized" | "503 Service Unavailable",
    message: string,
  ): void {
    if (this.#refused.size >= this.#maxHandshakes * REFUSED_A_HANDSHAKE) {
      this.#refused.values().next().value?.destroy();
    }
    this.#refused.add(socket);
    answerRefused(socket, status, message, () => {
      this.#refused.delete(socket);
      this.#checkEmpty();
    });
  }

  /** @returns the reason, and how to fix it, for the client. */
  #reportRefused(remote: string, error: unknown, certificate: Certificate | undefined): string {
    const [reason, message] = error instanceof CertificateRefused
      ? [error.reason, `${error.message}; ${error.remedy}`] as const
      : ["too_many_connections", errorMessage(error)] as const;
    this.#refusedLog.warn(
      `${this.#options.name}: client refused: ${reason}`,
      "{listener}: client {remote} refused: {message} (certificate {subject}, issuer {issuer}, serial {serial})",
      {
        listener: this.#options.name,
        remote,
        message,
        subject: cutShort(certificate?.subjectText ?? "unknown"),
        issuer: cutShort(certificate?.issuerText ?? "unknown"),
        serial: certificate === undefined ? "unknown" : formatSerial(certificate.serial),
      },
    );
    this.#options.onRefused?.({ reason, message: `client ${remote}: ${message}` });
    return message;
  }

  #handshakeFailed(error: Error & { code?: string }, socket: Socket | undefined): void {
    // After a failure the TLS socket may have no address any more; the TCP socket below it was asked when it was accepted.
    const tcp = (socket as { _parent?: Socket } | undefined)?._parent;
    const remote = (tcp && remoteOf(tcp)) ?? (socket && remoteOf(socket)) ?? "unknown address";
    // The client closed the connection, as port scans and health checks do.
    if (error.code === "ECONNRESET" || error.message === "socket hang up") {
      return this.#log.debug("{remote} closed within the handshake", { remote });
    }
    const message = handshakeFailure(error.message);
    this.#refusedLog.warn(
      `${this.#options.name}: handshake failed`,
      "{listener}: TLS handshake with {remote} failed: {message}",
      { listener: this.#options.name, remote, message },
    );
    this.#options.onRefused?.({ reason: "handshake", message: `TLS handshake with ${remote}: ${message}` });
  }

  /** @returns false: a request is under way on every connection that could end. */
  #makeRoom(fingerprint: string): boolean {
    const share = Math.max(MIN_SHARE, Math.floor(this.#maxConnections / 2));
    const own = this.#counts.get(fingerprint) ?? 0;
    if (own < share && this.#pipes.size < this.#maxConnections) return true;
    const clients = own >= share
      ? [fingerprint]
      : [...this.#counts].sort(([, a], [, b]) => b - a).map(([client]) => client);
    for (const client of clients) {
      const longest = this.#idle.values().find((pipe) => pipe.verified.identity.fingerprint === client);
      if (!longest) continue;
      this.#log.debug("{remote} makes room for another connection", { remote: longest.remote });
      longest.endIdle();
      return true;
    }
    return false;
  }

  #sweep(now: number): void {
    const date = this.#date();
    for (const { socket, deadline } of this.#handshakes.values()) if (now >= deadline) socket.destroy();
    for (const pipe of this.#pipes) pipe.sweep(now, date);
    this.#ports.sweep();
  }

  #serve(request: Request, info: Deno.ServeHandlerInfo<Deno.NetAddr>): Response | Promise<Response> {
    // Looked up once for each request: its connection stays the same, even if the port is released meanwhile.
    const pipe = this.#ports.find(info.remoteAddr);
    if (!pipe) {
      this.#log.debug("request of another process on the inner port refused");
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
    const { verified, remote } = pipe;
    if (this.#date() > verified.notAfter) {
      const [leaf] = verified.chain;
      const until = new Date(verified.notAfter).toISOString();
      const expired = new CertificateRefused(
        "expired",
        `${cutShort(leaf!.subjectText)} is expired since ${until}`,
      );
      pipe.answered(number);
      return lastAnswer(unauthorized(this.#reportRefused(remote, expired, leaf)));
    }
    try {
      const response = this.#options.handler(request, {
        identity: verified.identity,
        address: remote,
        requestComplete: () => pipe.requestComplete(number),
      });
      return response instanceof Promise ? response.then(answered).catch(failed) : answered(response);
    } catch (error) {
      return failed(error);
    }
  }
}

/**
 * An EC key as SEC1. The TLS layer parses the key for each connection. It tries an EC key in PKCS#8 as an RSA key and as one
 * of every other curve first, and checks it each time.
 */
function quicklyReadKey(pem: string): string {
  const key = createPrivateKey(pem);
  return key.asymmetricKeyType === "ec" ? key.export({ type: "sec1", format: "pem" }).toString() : pem;
}

/** The certificate that a client presents, if it can be parsed. */
function certificateOf(socket: TLSSocket): Certificate | undefined {
  const leaf = socket.getPeerX509Certificate()?.raw;
  try {
    return leaf && parseCertificate(leaf);
  } catch {
    return undefined;
  }
}

/** The reason for a failed handshake, from the text of the TLS library. */
function handshakeFailure(text: string): string {
  if (
    /alert: (UnknownCA|BadCertificate|CertificateUnknown|CertificateExpired|UnsupportedCertificate)/.test(
      text,
    )
  ) {
    return `${text}: the client does not accept this KME's server certificate; let it trust the CA that issued it`;
  }
  if (/any known protocol/.test(text)) {
    return `${text}: it offers only protocols other than HTTP/1.1 (ALPN); let it use HTTP/1.1`;
  }
  return text;
}

/** An error without its message, which may contain secret values. */
function outline(error: unknown): string {
  if (!(error instanceof Error)) return typeof error;
  const frames = error.stack?.split("\n").filter((line) => /^\s+at /.test(line)).join("\n") ?? "";
  const code = "code" in error && typeof error.code === "string" ? ` ${error.code}` : "";
  return `${error.name}${code}\n${frames}`;
}

function refused(): Response {
  return new Response(jsonBody(`{"message":"forbidden"}`), {
    status: 403,
    headers: { ...JSON_HEADERS, connection: "close" },
  });
}

function unauthorized(message: string): Response {
  return new Response(jsonBody(JSON.stringify({ message })), { status: 401, headers: JSON_HEADERS });
}

function internalError(): Response {
  return new Response(jsonBody(`{"message":"internal error"}`), { status: 500, headers: JSON_HEADERS });
}
