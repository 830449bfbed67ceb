/** An SAE: asks any KME that has the interface of ETSI GS QKD 014 V1.1.1. */
import { Buffer } from "node:buffer";
import https from "node:https";
import type { IncomingMessage } from "node:http";
import tls from "node:tls";
import { z } from "zod";
import { cutShort, errorMessage, toOneLine } from "../domain/text.ts";
import { ConnectError, connectTls } from "../tls/connect.ts";
import { serverVerifier, systemCa } from "../tls/server_trust.ts";
import { VerifiedAgent } from "../tls/verified_agent.ts";

export interface SaeClientOptions {
  /** What comes before `/api/v1/keys`, like `https://kme.example:13000`. */
  readonly base: URL;
  /** PEM of the certificate, intermediates after it. */
  readonly cert: string;
  /** PEM of its private key. */
  readonly key: string;
  /** PEM of the CAs of the KME's server certificate; absent: the system's trust store. */
  readonly ca?: string;
  /** Milliseconds for a whole answer; 60 s. */
  readonly timeout?: number;
}

/** A key as an SAE gets it (clause 6.3). */
export interface SaeKey {
  readonly keyId: string;
  /** Never printed unless asked for. */
  readonly bits: Uint8Array;
}

/** The KME answered with an error. */
export class KmeRefused extends Error {
  override name = "KmeRefused";
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

/** No whole answer came. */
export class NoAnswer extends Error {
  override name = "NoAnswer";
  /** @param sent whether the KME may have got the request and used up keys for it. */
  constructor(message: string, readonly sent: boolean) {
    super(message);
  }
}

/** Maximum bytes of an answer. */
const MAX_ANSWER = 64 * 1024 * 1024;

const keyContainer = z.object({
  keys: z.array(z.object({ key_ID: z.string(), key: z.base64() })).min(1),
});

export class SaeClient {
  readonly #base: URL;
  readonly #timeout: number;
  readonly #agent: VerifiedAgent;
  readonly #closed = new AbortController();

  constructor({ base, cert, key, ca, timeout = 60_000 }: SaeClientOptions) {
    this.#base = base;
    this.#timeout = timeout;
    const target = {
      address: { hostname: base.hostname.replace(/^\[|\]$/g, ""), port: Number(base.port || 443) },
      secureContext: tls.createSecureContext({ ca: ca ?? systemCa(), cert, key, minVersion: "TLSv1.2" }),
      verifier: serverVerifier(ca),
    };
    this.#agent = new VerifiedAgent(() => connectTls(target, timeout, this.#closed.signal), 1);
  }

  /** Get status (clause 5.2). */
  async status(slave: string): Promise<Record<string, unknown>> {
    const answer = await this.#ask("GET", `${encodeURIComponent(slave)}/status`);
    const status = z.record(z.string(), z.unknown()).safeParse(answer);
    if (!status.success) throw new Error("the answer is not a Status (clause 6.1)");
    return status.data;
  }

  /** Get key (clause 5.3). */
  async getKeys(slave: string, request: { number?: number; size?: number } = {}): Promise<SaeKey[]> {
    const query = new URLSearchParams(
      Object.entries(request).flatMap(([name, value]) => value === undefined ? [] : [[name, String(value)]]),
    );
    const path = `${encodeURIComponent(slave)}/enc_keys`;
    return keysIn(await this.#ask("GET", query.size === 0 ? path : `${path}?${query}`));
  }

  /** Get key with key IDs (clause 5.4). */
  async getKeysWithIds(master: string, keyIds: readonly string[]): Promise<SaeKey[]> {
    const path = `${encodeURIComponent(master)}/dec_keys`;
    const [only] = keyIds;
    return keysIn(
      keyIds.length === 1
        ? await this.#ask("GET", `${path}?${new URLSearchParams({ key_ID: only! })}`)
        : await this.#ask("POST", path, { key_IDs: keyIds.map((key_ID) => ({ key_ID })) }),
    );
  }

  close(): void {
    this.#closed.abort();
    this.#agent.destroy();
  }

  /**
   * @returns the JSON of a 200.
   * @throws KmeRefused, NoAnswer; Error if the answer is not JSON.
   */
  async #ask(method: "GET" | "POST", path: string, body?: unknown): Promise<unknown> {
    const url = new URL(`${this.#base.href.replace(/\/+$/, "")}/api/v1/keys/${path}`);
    const text = body === undefined ? undefined : JSON.stringify(body);
    const { status, answer } = await new Promise<{ status: number; answer: string }>((resolve, reject) => {
      const headers = text === undefined ? {} : { "content-type": "application/json" };
      const request = https.request(url, { agent: this.#agent, method, headers });
      const timer = setTimeout(() => {
        request.destroy(new Error(`no whole answer within ${this.#timeout / 1000} s`));
      }, this.#timeout);
      const fail = (error: unknown) => {
        clearTimeout(timer);
        reject(new NoAnswer(errorMessage(error), !(error instanceof ConnectError)));
      };
      request.on("error", fail);
      request.on("response", (response) => {
        readAll(response).then((answer) => {
          clearTimeout(timer);
          resolve({ status: response.statusCode!, answer });
        }, fail);
      });
      request.end(text);
    });
    let json: unknown;
    try {
      json = JSON.parse(answer);
    } catch {
      // Said below; the text is not shown, since a key may be in it.
    }
    if (status !== 200) throw new KmeRefused(status, refusalOf(status, json));
    if (json === undefined) throw new Error("the answer is not JSON");
    return json;
  }
}

async function readAll(response: IncomingMessage): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of response as AsyncIterable<Uint8Array>) {
    length += chunk.length;
    if (length > MAX_ANSWER) throw new Error("the answer is too large");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

/** Error data format, clause 6.5; any other text is left out. */
function refusalOf(status: number, json: unknown): string {
  const { message, details } = (typeof json === "object" && json !== null ? json : {}) as {
    message?: unknown;
    details?: unknown;
  };
  const more = details === undefined ? "" : ` (${JSON.stringify(details)})`;
  const text = typeof message === "string" ? `: ${message}${more}` : "";
  return `the KME answers ${status}${toOneLine(cutShort(text))}`;
}

function keysIn(json: unknown): SaeKey[] {
  const container = keyContainer.safeParse(json);
  if (!container.success) throw new Error("the answer is not a Key container (clause 6.3)");
  return container.data.keys.map(({ key_ID, key }) => ({
    keyId: key_ID,
    bits: new Uint8Array(Buffer.from(key, "base64")),
  }));
}
