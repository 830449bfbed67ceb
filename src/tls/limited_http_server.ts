/**
 * A plain HTTP server with limits, which the runtime's own server does not have: a TCP listener passes the bytes of each connection
 * to an inner server on the loopback interface. It is for requests without a body: the body of any other one is not read.
 */
import { connect, type Socket } from "node:net";
import { log } from "../log.ts";
import { firstOfTheMost, remoteOf } from "./address_group.ts";
import { LastingHttpServer } from "./lasting_http_server.ts";
import { TcpListener } from "./tcp_listener.ts";
import { hasBody, lastAnswer, LINGER_MS, MAX_DISCARDED } from "./unread_body.ts";

/** Milliseconds for clients to read what was sent to them when the server closes. */
const FLUSH_MS = 500;

export interface LimitedHttpOptions {
  /** For the log. */
  readonly name: string;
  readonly hostname: string;
  /** 0: a free one. */
  readonly port: number;
  /** A further connection replaces the one that has been idle longest among those of the address with the most. */
  readonly maxConnections: number;
  /** Connections that wait to be accepted. */
  readonly backlog: number;
  readonly handler: (request: Request) => Response | Promise<Response>;
  readonly onError?: (error: unknown) => Response;
}

export class LimitedHttpServer {
  readonly #options: LimitedHttpOptions;
  readonly #stop = new AbortController();
  readonly #inner: LastingHttpServer;
  readonly #listener: TcpListener;
  /** Open connections by the client's address and port, those that have been idle longest first. */
  readonly #sockets = new Map<string, Socket>();
  /** What ends the reading from the client, by the port of its connection to the inner server. */
  readonly #endings = new Map<number, () => void>();

  private constructor(options: LimitedHttpOptions) {
    this.#options = options;
    const { name, hostname, port, backlog, handler, onError } = options;
    this.#inner = new LastingHttpServer({
      name: `inner ${name}`,
      hostname: "127.0.0.1",
      port: 0,
      keepsPort: false,
      signal: this.#stop.signal,
      onError,
      handler: async (request, { remoteAddr }) => {
        if (!hasBody(request)) return await handler(request);
        this.#endings.get(remoteAddr.port)?.();
        return lastAnswer(await handler(request));
      },
    });
    this.#listener = new TcpListener({
      name,
      listen: { hostname, port },
      backlog,
      onConnection: (socket) => this.#accepted(socket),
    });
  }

  /** @throws Error when the address cannot be listened on. */
  static async open(options: LimitedHttpOptions): Promise<LimitedHttpServer> {
    const server = new LimitedHttpServer(options);
    try {
      await server.#listener.open();
    } catch (error) {
      await server.close();
      throw error;
    }
    return server;
  }

  get address(): { readonly hostname: string; readonly port: number } {
    return this.#listener.address;
  }

  /** Open connections. */
  get connections(): number {
    return this.#sockets.size;
  }

  /** Cuts off everything that is not answered yet. */
  async close(): Promise<void> {
    this.#listener.close();
    this.#stop.abort();
    await this.#inner.finished;
    // What the inner server has sent still has to reach the clients.
    const timer = setTimeout(() => this.#sockets.forEach((socket) => socket.destroy()), FLUSH_MS);
    const closed = (socket: Socket) => new Promise((resolve) => socket.once("close", resolve));
    await Promise.all([...this.#sockets.values()].map(closed));
    clearTimeout(timer);
  }

  #accepted(client: Socket): void {
    client.on("error", () => {});
    const remote = remoteOf(client);
    if (remote === undefined || !this.#inner.isListening || this.#stop.signal.aborted) {
      return void client.destroy();
    }
    if (this.#sockets.size >= this.#options.maxConnections) this.#endIdlest();
    this.#sockets.set(remote, client);
    const inner = connect({ host: "127.0.0.1", port: this.#inner.address.port, noDelay: true });
    inner.on("error", () => {});
    const active = () => {
      if (this.#sockets.get(remote) !== client) return;
      this.#sockets.delete(remote);
      this.#sockets.set(remote, client);
    };
    let ending = false;
    client.on("data", active);
    inner.on("data", active);
    client.on("close", () => {
      if (this.#sockets.get(remote) === client) this.#sockets.delete(remote);
      inner.destroy();
    });
    // Before the first byte is passed on.
    inner.once("connect", () => {
      const port = inner.localPort!;
      this.#endings.set(port, () => {
        ending = true;
        client.unpipe(inner);
        discardFrom(client);
      });
      inner.once("close", () => this.#endings.delete(port));
    });
    // With a body on its way, the client has to stop first.
    inner.on("close", () => ending ? client.end() : client.destroySoon());
    client.pipe(inner);
    inner.pipe(client);
  }

  #endIdlest(): void {
    const remote = firstOfTheMost(this.#sockets.keys())!;
    log("http").debug("{remote} makes room for another connection at the {name}", {
      remote,
      name: this.#options.name,
    });
    const socket = this.#sockets.get(remote)!;
    this.#sockets.delete(remote);
    socket.destroy();
  }
}

/** Takes little more from a client, and closes its connection when it has ended or after a moment. */
function discardFrom(client: Socket): void {
  const timer = setTimeout(() => client.destroy(), LINGER_MS);
  let discarded = 0;
  client.on("data", (chunk: Uint8Array) => {
    discarded += chunk.length;
    if (discarded > MAX_DISCARDED) client.pause();
  });
  client.once("end", () => client.destroySoon());
  client.once("close", () => clearTimeout(timer));
  client.resume();
}
