/** The other KME of a link as `qkd_kme_server` would play it, both as the caller and as the one that is called. */
import assert from "node:assert/strict";
import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import https from "node:https";
import type { TLSSocket } from "node:tls";
import { allIngested } from "../harness/key_files.ts";
import type { KmeProcess } from "../harness/kme_process.ts";
import { makeTestNetwork, type NetworkSpec, type TestId, type TestNetwork } from "../harness/test_network.ts";
import { type ClientCredentials, SaeClient, type SaeResponse } from "../harness/sae_client.ts";
import type { TestCa } from "../harness/test_certificates.ts";

/** A KME of this program that runs alone: the tests play the others. */
export interface LoneKme extends TestNetwork {
  readonly process: KmeProcess;
  /** key_IDs of the blocks of each stock, in the order given. */
  readonly blockIds: readonly string[][];
}

/** Starts the first KME of a network only; the blocks are ingested when this resolves. */
export async function startFirst(
  spec: NetworkSpec,
  ...stock: [a: TestId, b: TestId, content: number | Uint8Array][]
): Promise<LoneKme> {
  const network = await makeTestNetwork(spec);
  try {
    const blockIds = [];
    for (const [a, b, content] of stock) blockIds.push(await network.writeKeyFile(a, b, content));
    const { id } = spec.kmes[0]!;
    const process = await network.start(id);
    await allIngested(network.kme(id).keyDirectories.values());
    return Object.assign(network, { process, blockIds });
  } catch (error) {
    await network.remove();
    throw error;
  }
}

/** Calls a KME's inter-KME interface with any certificate. */
export class KmeCaller implements Disposable {
  readonly #client: SaeClient;

  /** @param port of another process of the KME that is called. */
  constructor(network: TestNetwork, called: TestId, certificate: ClientCredentials, port?: number) {
    const { cert, key } = certificate;
    this.#client = new SaeClient({
      port: port ?? network.kme(called).kmesPort,
      ca: network.interKmeCa.ca,
      cert,
      key,
    });
  }

  /** `POST /keys/activate`; the body as text is sent as it is. */
  activate(
    body: string | { ids: readonly string[]; origin: unknown; remote: unknown },
  ): Promise<SaeResponse> {
    const text = typeof body === "string" ? body : JSON.stringify({
      key_IDs_list: body.ids,
      origin_SAE_ID: body.origin,
      remote_SAE_ID: body.remote,
    });
    return this.raw("POST", "/keys/activate", text);
  }

  raw(method: string, path: string, body?: string | Uint8Array): Promise<SaeResponse> {
    return this.#client.raw({ method, path, headers: { "Content-Type": "application/json" }, body });
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}

export function assertActivated(response: SaeResponse): void {
  assert.equal(response.status, 200, response.text);
  assert.equal(response.text, "OK");
}

const REFUSALS = {
  "Bad request": 400,
  "Too many keys requested, max is 10": 400,
  "Cannot activate key": 400,
  "Not found": 404,
} as const;

/** Fails unless the answer is a refusal of `qkd_kme_server`; which one where it matters. */
export function assertRefused(response: SaeResponse, text?: keyof typeof REFUSALS): void {
  assert.notEqual(response.status, 200, "was activated");
  assert.equal(response.status, REFUSALS[response.text as keyof typeof REFUSALS], response.text);
  if (text !== undefined) assert.equal(response.text, text);
}

export interface ReceivedRequest {
  readonly method: string;
  readonly path: string;
  readonly contentType: string | undefined;
  readonly body: string;
  /** Serial of the client's certificate as hexadecimal digits. */
  readonly serial: string;
}

/** What a peer can do with a request besides answering it. */
export type PeerReaction =
  | { readonly status: number; readonly body: string }
  /** It never answers. */
  | "silence"
  /** It closes the connection. */
  | "hang up"
  /** It closes the connection in the middle of a good answer. */
  | "half an answer";

/** The KME that is called: knows `/keys/activate` only. */
export class RustKme implements AsyncDisposable {
  /** Calls of `/keys/activate`. */
  readonly requests: ReceivedRequest[] = [];
  /** Calls of anything else. */
  readonly others: ReceivedRequest[] = [];
  /** Blocks that it has free. */
  readonly free: Set<string>;
  /** Blocks that it has activated, with the SAEs. */
  readonly activated = new Map<string, string>();
  /** Takes the place of its proper answer, if it returns something. */
  react: (request: ReceivedRequest) => PeerReaction | undefined | Promise<PeerReaction | undefined> = () =>
    undefined;
  readonly #server: https.Server;
  readonly #silent: ServerResponse[] = [];

  private constructor(server: https.Server, free: Iterable<string>) {
    this.#server = server;
    this.free = new Set(free);
    server.on("request", (request, response) => void this.#receive(request, response));
    server.on("tlsClientError", () => {});
    server.on("secureConnection", (socket) => socket.on("error", () => {}));
  }

  /** @param ca that issues its server certificate; that of the network by default. */
  static async start(
    network: TestNetwork,
    id: TestId,
    free: Iterable<string>,
    ca: TestCa = network.interKmeCa,
  ): Promise<RustKme> {
    const { cert, key } = await ca.server({ commonName: `Rust KME ${id}` });
    const server = https.createServer({
      cert,
      key,
      ca: network.interKmeCa.ca,
      requestCert: true,
      rejectUnauthorized: true,
    });
    const kme = new RustKme(server, free);
    server.listen(network.kme(id).kmesPort, "127.0.0.1");
    await once(server, "listening");
    return kme;
  }

  async #receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Uint8Array[] = [];
    try {
      for await (const chunk of request) chunks.push(chunk);
    } catch {
      return;
    }
    const received: ReceivedRequest = {
      method: request.method ?? "",
      path: request.url ?? "",
      contentType: request.headers["content-type"],
      body: new TextDecoder().decode(new Uint8Array(await new Blob(chunks as BlobPart[]).arrayBuffer())),
      serial: (request.socket as TLSSocket).getPeerCertificate().serialNumber,
    };
    const isActivation = received.path === "/keys/activate";
    (isActivation ? this.requests : this.others).push(received);
    const reaction = await this.react(received) ?? (isActivation ? this.#activate(received) : NOT_FOUND);
    if (reaction === "silence") this.#silent.push(response);
    else if (reaction === "hang up") request.socket.destroy();
    else if (reaction === "half an answer") {
      request.socket.end("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nO");
    } else {
      response.writeHead(reaction.status, { "Content-Type": "text/plain" });
      response.end(reaction.body);
    }
  }

  #activate({ method, body }: ReceivedRequest): PeerReaction {
    if (method !== "POST") return NOT_FOUND;
    const { key_IDs_list, origin_SAE_ID, remote_SAE_ID } = JSON.parse(body);
    if (key_IDs_list.length > 10) return { status: 400, body: "Too many keys requested, max is 10" };
    const saes = `${origin_SAE_ID} to ${remote_SAE_ID}`;
    const mayHave = (id: string) => this.free.has(id) || this.activated.get(id) === saes;
    if (!key_IDs_list.every(mayHave)) return CANNOT_ACTIVATE;
    for (const id of key_IDs_list) {
      this.free.delete(id);
      this.activated.set(id, saes);
    }
    return { status: 200, body: "OK" };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const response of this.#silent) response.destroy();
    this.#server.closeAllConnections();
    await closed;
  }
}

const NOT_FOUND = { status: 404, body: "Not found" } as const;
export const CANNOT_ACTIVATE = { status: 400, body: "Cannot activate key" } as const;
