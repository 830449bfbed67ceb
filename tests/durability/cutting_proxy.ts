/** A TCP proxy between two KMEs that drops or delays data as a test asks. It forwards TLS without decrypting it. */
import net from "node:net";

/**
 * What happens to connections, also to those that are kept open. A KME may send other messages meanwhile (it compares its
 * stock, it probes its neighbour), so every mode holds for new connections too, after their handshake.
 *
 * `pass`: nothing;
 * `lose answers`: requests arrive, answers do not. A connection that was open before is then closed; on a new one the
 *   client's time limit ends, since there the first bytes are not the answer but belong to TLS. A connection that has lost
 *   data is closed at the latest when the mode changes;
 * `hold answers`: answers are held until `pass`; the client's time limit ends before;
 * `lose requests`: what the client sends does not arrive. Connections end as with `lose answers`;
 * `hold requests`: what the client sends is held until `pass`, even after the client's time limit;
 * `pass new`: what is held is still held, new connections pass;
 * `down`: connections are closed, new ones are refused.
 */
export type ProxyMode =
  | "pass"
  | "lose answers"
  | "hold answers"
  | "lose requests"
  | "hold requests"
  | "pass new"
  | "down";

export interface CuttingProxy extends Disposable {
  readonly port: number;
  /** With `down`, resolves when the client has noticed that its connections are closed. */
  setMode(mode: ProxyMode): Promise<void>;
}

interface Pair {
  readonly client: net.Socket;
  readonly server: net.Socket;
  /** For the client the handshake is over: it sends requests and receives answers. */
  established: boolean;
  /** It was so when the mode changed: the next bytes of each side are a request and its answer. */
  kept: boolean;
  /** Data is missing, so nothing more can be sent. */
  broken: boolean;
  /** Data for the client, and for the server. */
  readonly held: Uint8Array[];
  readonly heldRequests: Uint8Array[];
  /** Holds requests now. */
  holding: boolean;
}

/** @param target port on loopback to which it forwards. */
export async function startCuttingProxy(target: number, port: number): Promise<CuttingProxy> {
  let mode: ProxyMode = "pass";
  const pairs = new Set<Pair>();

  const end = (pair: Pair) => {
    pairs.delete(pair);
    pair.client.destroy();
    pair.server.destroy();
  };
  const lose = (pair: Pair) => {
    pair.broken = true;
    if (pair.kept) end(pair);
  };
  const listener = net.createServer((client) => {
    if (mode === "down") {
      client.destroy();
      return;
    }
    const server = net.connect(target, "127.0.0.1");
    const pair: Pair = {
      client,
      server,
      established: false,
      kept: false,
      broken: false,
      held: [],
      heldRequests: [],
      holding: false,
    };
    pairs.add(pair);
    for (const socket of [client, server]) {
      const gone = () => {
        if (!pair.holding && pairs.has(pair)) end(pair);
      };
      socket.on("error", gone);
      socket.on("close", gone);
    }
    const records = new Records();
    client.on("data", (chunk: Uint8Array) => {
      if (records.holdsApplicationData(chunk)) pair.established = true;
      if (mode === "hold requests" && pair.established) pair.holding = true;
      if (pair.holding) pair.heldRequests.push(chunk);
      else if (mode === "lose requests" && pair.established) lose(pair);
      else server.write(chunk);
    });
    server.on("data", (chunk: Uint8Array) => {
      if (mode === "hold answers" && pair.established) pair.held.push(chunk);
      else if (mode === "lose answers" && pair.established) lose(pair);
      else client.write(chunk);
    });
  });
  await new Promise<void>((resolve) => listener.listen(port, "127.0.0.1", resolve));
  return {
    port,
    async setMode(next) {
      mode = next;
      const closed: Promise<unknown>[] = [];
      for (const pair of pairs) {
        if (pair.broken) {
          end(pair);
          continue;
        }
        pair.kept = pair.established;
        if (next === "hold requests") pair.holding = pair.established;
        else if (next !== "pass new") pair.holding = false;
        if (next === "down") {
          pairs.delete(pair);
          closed.push(endPolitely(pair));
        }
        if (next !== "pass") continue;
        for (const chunk of pair.held.splice(0)) pair.client.write(chunk);
        for (const chunk of pair.heldRequests.splice(0)) pair.server.write(chunk);
      }
      await Promise.all(closed);
    },
    [Symbol.dispose]() {
      for (const pair of pairs) end(pair);
      listener.close();
    },
  };
}

/** Closes both connections; resolves when the client has closed its side too. */
function endPolitely({ client, server }: Pair): Promise<unknown> {
  server.destroy();
  if (client.destroyed) return Promise.resolve();
  const closed = new Promise((resolve) => client.once("close", resolve));
  client.end();
  return closed;
}

/** Reads the headers of TLS records. In TLS 1.3 a client's first record of type 23 ends its handshake. */
class Records {
  #rest = 0;
  #header: number[] = [];

  holdsApplicationData(chunk: Uint8Array): boolean {
    let found = false;
    for (let i = 0; i < chunk.length;) {
      if (this.#rest > 0) {
        const skipped = Math.min(this.#rest, chunk.length - i);
        this.#rest -= skipped;
        i += skipped;
        continue;
      }
      this.#header.push(chunk[i++]!);
      if (this.#header.length < 5) continue;
      if (this.#header[0] === 23) found = true;
      this.#rest = this.#header[3]! * 256 + this.#header[4]!;
      this.#header = [];
    }
    return found;
  }
}
