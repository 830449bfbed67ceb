/** A TCP proxy between two KMEs that drops or delays data as a test asks. It forwards TLS without decrypting it. */
import net from "node:net";

/**
 * What happens to connections, also to those that are kept open:
 * `pass`: nothing;
 * `lose answers`: requests arrive, answers do not, and then the connection is closed;
 * `hold answers`: answers are held until the mode changes; the client's time limit ends before;
 * `lose requests`: what the client sends after its handshake does not arrive, and then the connection is closed;
 * `hold requests`: what the client sends on open connections is held until the mode changes, even after the client's
 *   time limit; new connections pass;
 * `down`: connections are closed, new ones are refused.
 */
export type ProxyMode = "pass" | "lose answers" | "hold answers" | "lose requests" | "hold requests" | "down";

export interface CuttingProxy extends Disposable {
  readonly port: number;
  setMode(mode: ProxyMode): void;
}

/** Milliseconds between the first lost byte and the end of the connection: TLS itself sends bytes before the answer. */
const CUT_MS = 200;

interface Pair {
  readonly client: net.Socket;
  readonly server: net.Socket;
  /** For the client the handshake is over: it sends requests and receives answers. */
  established: boolean;
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
      held: [],
      heldRequests: [],
      holding: false,
    };
    pairs.add(pair);
    for (const socket of [client, server]) {
      const gone = () => {
        if (!pair.holding) end(pair);
      };
      socket.on("error", gone);
      socket.on("close", gone);
    }
    const records = new Records();
    client.on("data", (chunk: Uint8Array) => {
      if (pair.holding) return void pair.heldRequests.push(chunk);
      if (records.holdsApplicationData(chunk)) {
        pair.established = true;
        if (mode === "lose requests") return void setTimeout(() => end(pair), CUT_MS);
      }
      server.write(chunk);
    });
    server.on("data", (chunk: Uint8Array) => {
      if (mode === "hold answers" && pair.established) pair.held.push(chunk);
      else if (mode === "lose answers" && pair.established) setTimeout(() => end(pair), CUT_MS);
      else client.write(chunk);
    });
  });
  await new Promise<void>((resolve) => listener.listen(port, "127.0.0.1", resolve));
  return {
    port,
    setMode(next) {
      mode = next;
      for (const pair of pairs) {
        pair.holding = next === "hold requests";
        if (next === "down") end(pair);
        if (next !== "pass") continue;
        for (const chunk of pair.held.splice(0)) pair.client.write(chunk);
        for (const chunk of pair.heldRequests.splice(0)) pair.server.write(chunk);
      }
    },
    [Symbol.dispose]() {
      for (const pair of pairs) end(pair);
      listener.close();
    },
  };
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
