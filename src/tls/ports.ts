/**
 * Which connection a loopback port belongs to. The inner server identifies the connection of a request only by its port, so a
 * port must not get a new owner while a request of its former owner may still arrive.
 */

/** Sweeps for which a port is not reused after its pipe was closed: at least one full turn of the event loop. */
const REST = 2;

export class PipePorts<Connection> {
  readonly #owners = new Map<number, Connection>();
  /** Released ports, with the sweeps until they can be used again; Infinity while their socket is open. */
  readonly #resting = new Map<number, number>();

  /** Ports in use. */
  get size(): number {
    return this.#owners.size;
  }

  /** Assigns a port to a connection; false when another connection has it, or had it a moment ago. */
  enter(port: number, connection: Connection): boolean {
    if (this.#owners.has(port) || this.#resting.has(port)) return false;
    this.#owners.set(port, connection);
    return true;
  }

  /**
   * The connection behind a remote address of the inner server. Only 127.0.0.1 counts: another process can bind
   * 127.0.0.2 with the same port number.
   */
  find(remote: Deno.Addr): Connection | undefined {
    return remote.transport === "tcp" && remote.hostname === "127.0.0.1"
      ? this.#owners.get(remote.port)
      : undefined;
  }

  /** Releases the port of a connection, before its socket is closed. Does nothing if the connection does not have it any more. */
  leave(port: number, connection: Connection): void {
    if (this.#owners.get(port) !== connection) return;
    this.#owners.delete(port);
    this.#resting.set(port, Infinity);
  }

  /** To be called when the socket of a released port is closed. */
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
