/** An SAE as a client of the interface of ETSI GS QKD 014 V1.1.1, clause 5. It never prints a key. */
import assert from "node:assert/strict";
import https from "node:https";
import type { IncomingHttpHeaders } from "node:http";
import tls from "node:tls";

/** A client's certificate, all PEM. */
export interface ClientCredentials {
  /** CA that the server must chain to. */
  readonly ca: string;
  /** Absent: no client certificate is sent. */
  readonly cert?: string;
  readonly key?: string;
}

export interface SaeClientOptions extends ClientCredentials {
  readonly port: number;
  /** 127.0.0.1 by default. */
  readonly hostname?: string;
  /** False: a connection with a handshake of its own for each request; default is one agent that keeps connections. */
  readonly agent?: boolean;
  /** Connections at the same time; no limit by default. */
  readonly maxSockets?: number;
  readonly minVersion?: tls.SecureVersion;
  readonly maxVersion?: tls.SecureVersion;
  /** Milliseconds until an answer must have begun; 60 s by default. */
  readonly timeout?: number;
}

export interface RawRequest {
  /** GET by default. */
  method?: string;
  /** Path and query, already percent-encoded. */
  path: string;
  headers?: Record<string, string | string[]>;
  body?: string | Uint8Array;
}

/** A whole answer. What may hold keys is not enumerable, so that a failed assertion does not print it. */
export interface SaeResponse {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** The body as text. */
  readonly text: string;
  /** The body as JSON; `undefined` when it is none. Integers beyond 2^53 are rounded: look into `text` for those. */
  // deno-lint-ignore no-explicit-any
  readonly json: any;
}

/** A key as a Key container has it (clause 6.3). */
export interface DeliveredKey {
  readonly key_ID: string;
  /** Base64. */
  readonly key: string;
}

export interface EncKeysRequest {
  number?: number;
  size?: number;
  additional_slave_SAE_IDs?: string[];
  extension_mandatory?: Record<string, unknown>[];
  extension_optional?: Record<string, unknown>[];
}

export interface CallOptions {
  /** By default GET where GET can say it, else POST. */
  method?: "GET" | "POST";
  /** Sent with POST in place of what the arguments say: text as it is, anything else as JSON. */
  body?: unknown;
}

const ROOT = "/api/v1/keys";

/** One SAE's connections to its KME; to be closed. */
export class SaeClient implements Disposable {
  readonly #options: SaeClientOptions;
  readonly #agent: https.Agent | false;

  constructor(options: SaeClientOptions) {
    this.#options = options;
    this.#agent = options.agent === false
      ? false
      : new https.Agent({ keepAlive: true, maxSockets: options.maxSockets ?? Infinity });
  }

  /** Get status (clause 5.1). */
  status(slave: string | number | bigint): Promise<SaeResponse> {
    return this.raw({ path: `${ROOT}/${segment(slave)}/status` });
  }

  /** Get key (clause 5.2). */
  encKeys(
    slave: string | number | bigint,
    request: EncKeysRequest = {},
    options: CallOptions = {},
  ): Promise<SaeResponse> {
    const path = `${ROOT}/${segment(slave)}/enc_keys`;
    const { number, size, ...rest } = request;
    const method = options.method ??
      ("body" in options || Object.keys(rest).length > 0 ? "POST" : "GET");
    if (method === "POST") return this.#post(path, "body" in options ? options.body : request);
    const query = new URLSearchParams();
    if (number !== undefined) query.set("number", String(number));
    if (size !== undefined) query.set("size", String(size));
    return this.raw({ path: query.size === 0 ? path : `${path}?${query}` });
  }

  /** Get key with key IDs (clause 5.3). */
  decKeys(
    master: string | number | bigint,
    keyIds: string | readonly string[],
    options: CallOptions = {},
  ): Promise<SaeResponse> {
    const path = `${ROOT}/${segment(master)}/dec_keys`;
    const ids = typeof keyIds === "string" ? [keyIds] : keyIds;
    const method = options.method ?? ("body" in options || ids.length !== 1 ? "POST" : "GET");
    if (method === "POST") {
      const body = { key_IDs: ids.map((key_ID) => ({ key_ID })) };
      return this.#post(path, "body" in options ? options.body : body);
    }
    const query = new URLSearchParams(ids.map((id) => ["key_ID", id]));
    return this.raw({ path: `${path}?${query}` });
  }

  /** Any request. Rejects when the handshake is refused or no whole answer comes. */
  raw(request: RawRequest): Promise<SaeResponse> {
    const { ca, cert, key, port, hostname = "127.0.0.1", minVersion, maxVersion, timeout = 60_000 } =
      this.#options;
    const headers: Record<string, string | string[]> = { ...request.headers };
    const body = typeof request.body === "string" ? new TextEncoder().encode(request.body) : request.body;
    const names = Object.keys(headers).map((name) => name.toLowerCase());
    if (body !== undefined && !names.includes("content-length") && !names.includes("transfer-encoding")) {
      headers["Content-Length"] = String(body.length);
    }
    return new Promise((resolve, reject) => {
      const outgoing = https.request({
        agent: this.#agent,
        hostname,
        port,
        method: request.method ?? "GET",
        path: request.path,
        headers,
        ca,
        cert,
        key,
        minVersion,
        maxVersion,
      }, (incoming) => {
        const chunks: Uint8Array[] = [];
        incoming.on("data", (chunk: Uint8Array) => chunks.push(chunk));
        incoming.on("error", reject);
        incoming.on("aborted", () => reject(new Error("the answer was cut off")));
        incoming.on("end", () => {
          resolve(toResponse(incoming.statusCode!, incoming.headers, chunks));
        });
      });
      // Deno would send it again when a connection that was used before breaks (denoland/deno#36786).
      outgoing.on("socket", () => outgoing.reusedSocket = false);
      outgoing.setTimeout(timeout, () => outgoing.destroy(new Error(`no answer within ${timeout} ms`)));
      outgoing.on("error", reject);
      outgoing.end(body);
    });
  }

  /** Opens a connection with this SAE's certificate on which anything can be written. */
  openSocket(options: tls.ConnectionOptions = {}): Promise<tls.TLSSocket> {
    return openTlsSocket({ ...this.#options, host: this.#options.hostname, ...options });
  }

  /** Closes all connections. */
  close(): void {
    if (this.#agent !== false) this.#agent.destroy();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #post(path: string, body: unknown): Promise<SaeResponse> {
    const text = typeof body === "string" ? body : body === undefined ? undefined : JSON.stringify(body);
    return this.raw({ method: "POST", path, headers: { "Content-Type": "application/json" }, body: text });
  }
}

/**
 * Opens a bare TLS connection, for clients that violate HTTP. Resolves after the handshake as the client sees
 * it: with TLS 1.3 a server that refuses the certificate closes the connection only after that.
 */
export function openTlsSocket(options: tls.ConnectionOptions): Promise<tls.TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ ...options, host: options.host ?? "127.0.0.1" });
    socket.once("error", reject);
    socket.once("secureConnect", () => {
      socket.off("error", reject);
      // Resets are expected here; a test that checks for them has a listener of its own.
      socket.on("error", () => {});
      resolve(socket);
    });
  });
}

/** Resolves with all that the other end still sends, as text, when the connection is closed. */
export function readToEnd(socket: tls.TLSSocket): Promise<string> {
  return new Promise((resolve) => {
    const chunks: Uint8Array[] = [];
    socket.on("data", (chunk: Uint8Array) => chunks.push(chunk));
    socket.once("close", () => resolve(join(chunks)));
  });
}

/** The keys of an answer. Fails, without showing a key, when it is not a 200 with a Key container. */
export function keysOf(response: SaeResponse): DeliveredKey[] {
  if (response.status !== 200) assert.fail(`status ${response.status}: ${response.text}`);
  assert.ok(Array.isArray(response.json?.keys), "the answer has no list of keys");
  for (const key of response.json.keys) {
    assert.ok(typeof key.key_ID === "string" && typeof key.key === "string", "a key lacks key_ID or key");
  }
  return response.json.keys;
}

/** The key_IDs of an answer; fails like {@linkcode keysOf}. */
export function keyIdsOf(response: SaeResponse): string[] {
  return keysOf(response).map((key) => key.key_ID);
}

/** Fails, without showing a key, when two answers do not carry the same keys under the same key_IDs, in any order. */
export function assertSameKeys(actual: SaeResponse, expected: SaeResponse): void {
  const sorted = (response: SaeResponse) =>
    keysOf(response).toSorted((a, b) => a.key_ID < b.key_ID ? -1 : a.key_ID > b.key_ID ? 1 : 0);
  const left = sorted(actual);
  const right = sorted(expected);
  assert.deepEqual(left.map((key) => key.key_ID), right.map((key) => key.key_ID));
  left.forEach((key, i) => assert.ok(key.key === right[i]!.key, `key ${key.key_ID} has other bits`));
}

function segment(id: string | number | bigint): string {
  return encodeURIComponent(String(id));
}

function toResponse(status: number, headers: IncomingHttpHeaders, chunks: Uint8Array[]): SaeResponse {
  const text = join(chunks);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    // Not JSON.
  }
  const response = { status, headers };
  return Object.defineProperties(response, {
    text: { value: text, enumerable: false },
    json: { value: json, enumerable: false },
  }) as SaeResponse;
}

function join(chunks: Uint8Array[]): string {
  const bytes = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.length;
  }
  return new TextDecoder().decode(bytes);
}
