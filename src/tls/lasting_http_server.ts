/**
 * `Deno.serve` that survives a failing `accept`: when the process has no file descriptor left, the runtime closes the listener
 * and rejects `finished`, which ends the program if nothing handles it. Connections that are open stay.
 */
import { errorMessage } from "../domain/text.ts";
import { log } from "../log.ts";

/** Milliseconds until the listener is opened again; the last one repeats. */
const PAUSES_MS = [50, 200, 1000];

export interface LastingHttpOptions {
  /** For the log. */
  readonly name: string;
  readonly hostname: string;
  /** 0: a free one. */
  readonly port: number;
  readonly handler: Deno.ServeHandler<Deno.NetAddr>;
  readonly onError?: (error: unknown) => Response;
  /** `false`: each new listener gets a free port, for one that another process must not take in between. Default `true`. */
  readonly keepsPort?: boolean;
  /** Cuts off everything. */
  readonly signal?: AbortSignal;
}

export class LastingHttpServer {
  readonly #options: LastingHttpOptions;
  #server: Deno.HttpServer<Deno.NetAddr>;
  #address: Deno.NetAddr;
  #isListening = true;
  #stopped = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @throws Error when the address cannot be listened on. */
  constructor(options: LastingHttpOptions) {
    this.#options = options;
    this.#server = this.#serve(options.port);
    this.#address = this.#server.addr;
    options.signal?.addEventListener("abort", () => clearTimeout(this.#timer));
  }

  get address(): Deno.NetAddr {
    return this.#address;
  }

  /** Whether connections are accepted now. */
  get isListening(): boolean {
    return this.#isListening;
  }

  /** Stops accepting, and resolves when the requests under way are answered. */
  async shutdown(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#server.shutdown();
  }

  /** Resolves when the server has ended. */
  get finished(): Promise<void> {
    return this.#server.finished.catch(() => {});
  }

  #serve(port: number): Deno.HttpServer<Deno.NetAddr> {
    const { hostname, handler, onError, signal } = this.#options;
    const server = Deno.serve({ hostname, port, onListen() {}, onError, signal }, handler);
    this.#isListening = true;
    server.finished.catch((error) => this.#failed(error));
    return server;
  }

  #failed(error: unknown): void {
    if (this.#stopped || this.#options.signal?.aborted) return;
    this.#isListening = false;
    log("http").error("{name} listener: {reason}; it is opened again", {
      name: this.#options.name,
      reason: errorMessage(error),
    });
    this.#openAgain(0);
  }

  #openAgain(attempt: number): void {
    this.#timer = setTimeout(() => {
      if (this.#stopped || this.#options.signal?.aborted) return;
      try {
        this.#server = this.#serve(this.#options.keepsPort === false ? 0 : this.#address.port);
        this.#address = this.#server.addr;
      } catch {
        this.#openAgain(attempt + 1);
      }
    }, PAUSES_MS[Math.min(attempt, PAUSES_MS.length - 1)]);
  }
}
