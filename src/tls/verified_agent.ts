/** Pools of verified connections to one server. */
import type { ClientRequest } from "node:http";
import https from "node:https";
import type { Duplex } from "node:stream";
import type tls from "node:tls";
import { ConnectError, explain, serverValidUntil } from "./connect.ts";

/** Pools connections. A connection gets into the pool only after its verification. Each request is sent once. */
export class VerifiedAgent extends https.Agent {
  readonly #connect: () => Promise<tls.TLSSocket>;
  readonly #onUsedConnections = new WeakSet<ClientRequest>();

  /** @param maxIdle connections that are kept while nothing uses them; 0: each connection is for one request. */
  constructor(connect: () => Promise<tls.TLSSocket>, maxIdle: number) {
    // No `maxSockets`: the agent does not count connections that are still being opened.
    super({ keepAlive: maxIdle > 0, maxFreeSockets: Math.max(1, maxIdle), scheduling: "lifo" });
    this.#connect = connect;
  }

  /** Closes the kept connections with a server whose certificate, or a CA's above it, has expired since the handshake. */
  closeExpired(): void {
    const now = Date.now();
    this.#closeFree((socket) => now > serverValidUntil(socket));
  }

  /** Closes the kept connections that no request uses. */
  closeIdle(): void {
    this.#closeFree(() => true);
  }

  #closeFree(which: (socket: tls.TLSSocket) => boolean): void {
    for (const sockets of Object.values(this.freeSockets) as (tls.TLSSocket[] | undefined)[]) {
      for (const socket of [...sockets ?? []]) {
        if (!which(socket)) continue;
        // At once, because the agent may choose a socket that is destroyed but has not told so.
        sockets!.splice(sockets!.indexOf(socket), 1);
        socket.destroy();
      }
    }
  }

  /** Whether a request was sent over a connection that was used before; known from its event `socket` on. */
  isOnUsedConnection(request: ClientRequest): boolean {
    return this.#onUsedConnections.has(request);
  }

  override reuseSocket(socket: Duplex, request: ClientRequest): void {
    super.reuseSocket(socket, request);
    this.#onUsedConnections.add(request);
    // Deno sends such a request again when its connection ends, even after destroy() (denoland/deno#36786). That would spend keys
    // twice, so this turns it off: only the caller decides whether a request is sent again.
    request.reusedSocket = false;
  }

  override createConnection(
    _options: unknown,
    callback?: (error: Error | null, socket: Duplex) => void,
  ): Duplex {
    const none = undefined as unknown as Duplex;
    Promise.try(this.#connect).then(
      (socket) => callback?.(null, socket),
      (error) => callback?.(error instanceof ConnectError ? error : new ConnectError(explain(error)), none),
    );
    // The socket comes with the callback.
    return none;
  }
}

/** Connections of one list of an agent. */
export function socketsOf(sockets: NodeJS.ReadOnlyDict<unknown[]>): tls.TLSSocket[] {
  return Object.values(sockets).flatMap((list) => [...list ?? []] as tls.TLSSocket[]);
}
