/** Pools of verified connections to one server. */
import https from "node:https";
import type { Duplex } from "node:stream";
import type tls from "node:tls";
import { ConnectError, explain, serverValidUntil } from "./connect.ts";

/** Pools connections. A connection gets into the pool only after its verification. */
export class VerifiedAgent extends https.Agent {
  readonly #connect: () => Promise<tls.TLSSocket>;

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
