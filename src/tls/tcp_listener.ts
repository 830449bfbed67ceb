/**
 * A TCP listener that goes on after the process had no file descriptor left. The runtime's `net.Server` stops accepting then,
 * without an event: so a listener at which no connection arrives calls itself now and then, and is opened again when that call
 * is not accepted.
 */
import { connect, createServer, type Server, type Socket } from "node:net";
import { formatHostPort, type HostPort } from "../domain/address.ts";
import { errorMessage } from "../domain/text.ts";
import { log } from "../log.ts";

/** Milliseconds between two looks, and for a call to be accepted. */
const CHECK_MS = 2_000;
const ACCEPT_MS = 1_000;

export interface TcpListenerOptions {
  /** For the log. */
  readonly name: string;
  readonly listen: HostPort;
  /** Connections that wait to be accepted. */
  readonly backlog: number;
  readonly onConnection: (socket: Socket) => void;
}

export class TcpListener {
  readonly #options: TcpListenerOptions;
  readonly #log = log("tls");
  #server: Server;
  #address = { hostname: "", port: 0 };
  /** Connections accepted so far. */
  #accepted = 0;
  /** The running call of the listener to itself. */
  #call: Socket | undefined;
  #checkedAt = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  constructor(options: TcpListenerOptions) {
    this.#options = options;
    this.#server = this.#create();
  }

  get address(): { readonly hostname: string; readonly port: number } {
    return this.#address;
  }

  /** @throws {Error} When the address cannot be listened on. */
  async open(): Promise<void> {
    await listen(this.#server, this.#options.listen, this.#options.backlog);
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("not a TCP listener");
    this.#address = { hostname: address.address, port: address.port };
    this.#schedule();
  }

  /** Accepts no more connections. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#call?.destroy();
    this.#server.close();
  }

  #create(): Server {
    const server = createServer({ noDelay: true }, (socket) => {
      this.#accepted++;
      if (!this.#call) return this.#options.onConnection(socket);
      // The call learns its own port at the same moment.
      socket.on("error", () => {});
      setTimeout(() => {
        if (socket.remotePort === this.#call?.localPort) socket.destroy();
        else this.#options.onConnection(socket);
      }, 1);
    });
    server.on("error", (error) => this.#log.debug("listener: {reason}", { reason: error.message }));
    return server;
  }

  #schedule(): void {
    this.#timer = setTimeout(
      () => void this.#check().finally(() => this.#closed || this.#schedule()),
      CHECK_MS,
    );
  }

  async #check(): Promise<void> {
    const busy = this.#accepted !== this.#checkedAt;
    this.#checkedAt = this.#accepted;
    if (busy || await this.#callsItself() !== "ignored" || this.#closed) return;
    this.#log.error("{name}: no connection is accepted on {address} any more; the listener is opened again", {
      name: this.#options.name,
      address: formatHostPort(this.#address),
    });
    this.#server.close();
    while (!this.#closed) {
      this.#server = this.#create();
      try {
        return await listen(
          this.#server,
          { ...this.#options.listen, port: this.#address.port },
          this.#options.backlog,
        );
      } catch (error) {
        this.#log.warn("{name}: cannot listen: {reason}", {
          name: this.#options.name,
          reason: errorMessage(error),
        });
        await new Promise((resolve) => setTimeout(resolve, ACCEPT_MS));
      }
    }
  }

  /** `ignored`: connected, or refused, but not accepted. `unknown`: there is no descriptor for the call. */
  async #callsItself(): Promise<"accepted" | "ignored" | "unknown"> {
    const { hostname, port } = this.#address;
    const host = hostname === "0.0.0.0" ? "127.0.0.1" : hostname === "::" ? "::1" : hostname;
    const before = this.#accepted;
    const call = this.#call = connect({ host, port });
    try {
      return await new Promise((resolve) => {
        const end = (failure?: "ignored" | "unknown") => {
          clearTimeout(timer);
          resolve(failure ?? (this.#accepted > before ? "accepted" : "ignored"));
        };
        const timer = setTimeout(end, ACCEPT_MS);
        call.on("close", () => end());
        call.on(
          "error",
          ({ code }: Error & { code?: string }) => end(code === "ECONNREFUSED" ? "ignored" : "unknown"),
        );
      });
    } finally {
      this.#call = undefined;
      call.destroy();
    }
  }
}

function listen(server: Server, { hostname, port }: HostPort, backlog: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host: hostname, port, backlog }, () => {
      server.off("error", reject);
      resolve();
    });
  });
}
