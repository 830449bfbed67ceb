/**
 * Which connection a port on the loopback belongs to. The inner server knows a request's origin only by the
 * port it came from, so a port must not change hands while a request of its former owner may still turn up.
 */

/** Turns of the sweep for which a port rests after its pipe was closed: at least one full turn of the event loop. */
const REST = 2;

export class PipePorts<Connection> {
  readonly #owners = new Map<number, Connection>();
  /** Ports given up, with the sweeps they still rest; Infinity while their socket is open. */
  readonly #resting = new Map<number, number>();

  /** Ports in use. */
  get size(): number {
    return this.#owners.size;
  }

  /** Gives a port to a connection; false when it is somebody's, or was a moment ago. */
  enter(port: number, connection: Connection): boolean {
    if (this.#owners.has(port) || this.#resting.has(port)) return false;
    this.#owners.set(port, connection);
    return true;
  }

  /**
   * The owner of a remote address of the inner server. Only 127.0.0.1 is asked for: another process can bind
   * 127.0.0.2 with the same port number.
   */
  find(remote: Deno.Addr): Connection | undefined {
    return remote.transport === "tcp" && remote.hostname === "127.0.0.1"
      ? this.#owners.get(remote.port)
      : undefined;
  }

  /** Takes a port from its connection, before its socket is closed. Again, it does nothing: it may be another's by then. */
  leave(port: number, connection: Connection): void {
    if (this.#owners.get(port) !== connection) return;
    this.#owners.delete(port);
    this.#resting.set(port, Infinity);
  }

  /** The socket of a port that was left is closed. */
  closed(port: number): void {
    if (this.#resting.has(port)) this.#resting.set(port, REST);
  }

  sweep(): void {
    for (const [port, sweeps] of this.#resting) {
      if (sweeps <= 0) this.#resting.delete(port);
      else this.#resting.set(port, sweeps - 1);
    }
  }
}
