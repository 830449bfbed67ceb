/** What the load generator is given, and what it returns. */

/** A server, and as which SAE it is called. */
export interface LoadEndpoint {
  readonly host: string;
  readonly port: number;
  /** PEM: the CA of the server, and the SAE's certificate and key. */
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** One kind of request. */
export interface LoadKind {
  /** Path of a GET. */
  readonly path: string;
  /** After each answer, its key_IDs are asked for here by another SAE; both requests count as one. */
  readonly then?: LoadEndpoint & { readonly path: string };
  /** A connection of its own for each request. */
  readonly handshakes?: boolean;
  /** Keys that each answer has to hold; none of them may come twice. */
  readonly keys?: number;
  /** Of how many requests in a row this kind is, 1 by default: with shares of 8 and 2, these are 80 % and 20 %. */
  readonly share?: number;
}

export interface LoadJob extends LoadEndpoint {
  readonly kinds: readonly LoadKind[];
  readonly connections: number;
  /** Seconds that are counted. */
  readonly seconds: number;
  /** Seconds before that are not counted. */
  readonly warmup: number;
  /** Ends the run after so many requests, so that no pool runs empty; the warm-up is then at most a fifth of them. */
  readonly requests?: number;
  /** Requests that are begun per second, at regular times; as many as are answered by default. */
  readonly pace?: number;
  /** The servers, whose processor time is told. */
  readonly pids?: readonly number[];
}

/** Latencies in milliseconds. */
export interface Latencies {
  readonly count: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

export interface LoadResult {
  /** Requests answered with 200 in the time that counts. */
  readonly ok: number;
  /** Other answers, connections that broke, and keys that came twice or not at all. */
  readonly failed: number;
  readonly firstFailure?: string;
  /** Seconds in which they were counted. */
  readonly seconds: number;
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  /** The same by kind of request. */
  readonly kinds: readonly Latencies[];
  /** Keys in all answers, those before the time that counts included. */
  readonly keys: number;
  /** Microseconds of processor time for each request; of the servers where the system tells. */
  readonly cpu: { readonly generator: number; readonly servers?: number };
}
