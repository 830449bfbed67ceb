/** A front with two clients of one CA, and a client that shows every byte. */
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from "node:tls";
import { type Front, type FrontHandler, type FrontOptions, startFront } from "../../src/tls/front.ts";
import { authority, client, server, type TestCertificate } from "./authority.ts";

export const ca = await authority("CA A");
export const otherCa = await authority("CA B");
/** Server certificates all come from one CA, so that one client can talk to all listeners. */
export const serverCertificate = await server(ca);
export const alice = await client(ca, { name: "alice", serial: "0a11ce" });
export const bob = await client(ca, { name: "bob", serial: "0b0b" });

/** Answers with the serial of the client in hex. */
export const whoAmI: FrontHandler = (_request, connection) =>
  new Response(connection.identity.serial.toString(16));

/** Runs a test with a front on a free port, and closes it. */
export async function withFront(
  options: Partial<FrontOptions>,
  test: (front: Front, port: number) => Promise<void>,
): Promise<void> {
  const front = await startFront({
    name: "test",
    listen: { hostname: "127.0.0.1", port: 0 },
    clientCa: ca.cert,
    serverCert: serverCertificate.cert,
    serverKey: serverCertificate.key,
    handler: whoAmI,
    lingerTimeout: 300,
    ...options,
  });
  try {
    await test(front, front.address.port);
  } finally {
    await front.close(1000);
  }
}

/** Milliseconds that the helpers wait for something to happen. */
const TIME_LIMIT = 20_000;

/** Polls until the condition holds. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  for (const end = performance.now() + TIME_LIMIT; performance.now() < end;) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`never came true: ${what}`);
}

/** Waits until a growing number has grown and then stays as it is for 200 ms; returns it. */
export async function whenAtRest(number: () => number, what: string): Promise<number> {
  await until(() => number() > 0, what);
  let unchanged = 0;
  for (let before = -1; unchanged < 20; before = number()) {
    unchanged = number() === before ? unchanged + 1 : 0;
    await sleep(10);
  }
  return number();
}

export const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** What came from the server, and what became of the connection. */
export class Wire {
  text = "";
  /** The server has ended its side. */
  ended = false;
  closed = false;
  error: (Error & { code?: string }) | undefined;

  constructor(readonly socket: Socket | TLSSocket, readonly tcp: Socket = socket) {
    socket.on("data", (chunk) => this.text += new TextDecoder("latin1").decode(chunk));
    socket.on("end", () => this.ended = true);
    socket.on("error", (error) => this.error = error);
    socket.on("close", () => this.closed = true);
  }

  /** Fails when the connection stays open. */
  get whenClosed(): Promise<void> {
    return until(() => this.closed, "the connection is closed");
  }

  send(text: string): void {
    this.socket.write(text);
  }

  /** Waits for text; fails when the connection closes without it. */
  async expect(pattern: RegExp): Promise<string> {
    await until(() => pattern.test(this.text) || this.closed, String(pattern));
    if (!pattern.test(this.text)) {
      throw new Error(`closed (${this.error?.code}) without ${pattern}: ${this.text}`);
    }
    return this.text;
  }

  /** Takes nothing from the network any more, which a TLSSocket's pause does not do. */
  stopReading(): void {
    (this.tcp as unknown as { _handle: { readStop(): void } })._handle.readStop();
  }

  /** TCP reset, whatever TLS has to say. */
  reset(): void {
    this.tcp.resetAndDestroy();
    this.socket.destroy();
  }
}

/** A TCP connection without TLS. */
export async function tcp(port: number, host = "127.0.0.1", options: object = {}): Promise<Wire> {
  const socket = connectTcp({ port, host, ...options });
  const wire = new Wire(socket);
  let connected = false;
  socket.once("connect", () => connected = true);
  await until(() => connected || wire.closed, "the connection is open");
  return wire;
}

/** `localAddress`: from which the client calls. */
export type ClientOptions = ConnectionOptions & { readonly localAddress?: string };

/** A TLS connection, in the handshake. */
export function tls(
  port: number,
  who: Pick<TestCertificate, "cert" | "key"> | undefined,
  options: ClientOptions = {},
): Wire {
  const raw = connectTcp({ port, host: "127.0.0.1", localAddress: options.localAddress });
  raw.on("error", () => {});
  const socket = connectTls({
    socket: raw,
    servername: "localhost",
    ca: ca.cert,
    cert: who?.cert,
    key: who?.key,
    ALPNProtocols: ["http/1.1"],
    ...options,
  });
  return new Wire(socket, raw);
}

/** A TLS connection whose handshake is over; with TLS 1.3 the client believes so before the server does. */
export async function secure(
  port: number,
  who: Pick<TestCertificate, "cert" | "key">,
  options: ClientOptions = {},
): Promise<Wire> {
  const wire = tls(port, who, options);
  let secured = false;
  wire.socket.once("secureConnect", () => secured = true);
  await until(() => secured || wire.closed, "the handshake is finished");
  return wire;
}

/** Body of a GET on a connection of its own; undefined when the client was refused. */
export async function get(
  port: number,
  who: Pick<TestCertificate, "cert" | "key"> | undefined,
  options: ClientOptions = {},
): Promise<string | undefined> {
  const answer = await ask(port, who, options);
  return answer?.status === 200 ? answer.body : undefined;
}

/** The answer to a GET on a connection of its own; undefined when the handshake failed. */
export async function ask(
  port: number,
  who: Pick<TestCertificate, "cert" | "key"> | undefined,
  options: ClientOptions = {},
): Promise<{ status: number; body: string } | undefined> {
  const wire = tls(port, who, options);
  wire.socket.once(
    "secureConnect",
    () => wire.send("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
  );
  await wire.whenClosed;
  if (wire.text === "") return undefined;
  const [head, body] = wire.text.split("\r\n\r\n") as [string, string];
  return { status: Number(head.split(" ")[1]), body };
}

/** A client that resumes its sessions, on every port of the host. */
export function resumingClient(who: TestCertificate) {
  const http = Deno.createHttpClient({ cert: who.cert, key: who.key, caCerts: [ca.cert], http2: false });
  return {
    /** Body of a GET on a new connection; undefined when the connection was refused. */
    async get(port: number): Promise<string | undefined> {
      try {
        const response = await fetch(`https://localhost:${port}/`, {
          client: http,
          headers: { connection: "close" },
          signal: AbortSignal.timeout(TIME_LIMIT),
        });
        const text = await response.text();
        return response.status === 200 ? text : undefined;
      } catch {
        return undefined;
      }
    },
    [Symbol.dispose]: () => http.close(),
  };
}
