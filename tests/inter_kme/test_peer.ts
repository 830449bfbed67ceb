/** A peer KME for tests: a real HTTPS server with mutual TLS, and certificates made for the run. */
import { configure, type LogRecord } from "@logtape/logtape";
import { Buffer } from "node:buffer";
import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import https from "node:https";
import type { AddressInfo, Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { encodePkcs12 } from "../../src/tools/certs/pkcs12.ts";
import {
  certificateToPem,
  generateKeys,
  type Identity,
  issueCa,
  issueLeaf,
  privateKeyToPem,
  validity,
} from "../../src/tools/certs/issue.ts";
import type { ClientCertificate, NeighbourKme } from "../../src/config/config.ts";
import { PeerChannel } from "../../src/inter_kme/channel.ts";

const lifetime = validity(2, new Date());
const ALWAYS = { notBefore: 0, notAfter: Infinity };

export interface Pem {
  readonly cert: string;
  readonly key: string;
}

async function pem(identity: Identity): Promise<Pem> {
  return {
    cert: certificateToPem(identity.certificate),
    key: await privateKeyToPem(identity.keys.privateKey),
  };
}

function makeCa(commonName: string): Promise<Identity> {
  return generateKeys("P-256").then((keys) => issueCa({ commonName }, keys, lifetime));
}

async function client(ca: Identity, commonName: string): Promise<Identity> {
  return await issueLeaf(ca, { commonName }, { kind: "client" }, await generateKeys("P-256"), lifetime);
}

async function server(ca: Identity, hosts: string[]): Promise<Pem> {
  const keys = await generateKeys("P-256");
  return await pem(
    await issueLeaf(ca, { commonName: "test only server" }, { kind: "server", hosts }, keys, lifetime),
  );
}

async function pfx(identity: Identity, passphrase: string): Promise<ClientCertificate> {
  const key = await crypto.subtle.exportKey("pkcs8", identity.keys.privateKey);
  return {
    kind: "pfx",
    pfx: await encodePkcs12(identity.certificate.rawData, key, passphrase, "test only"),
    passphrase,
    validity: ALWAYS,
  };
}

const ca = await makeCa("test only CA");
const otherCa = await makeCa("test only other CA");
const caller = await client(ca, "test only caller");
const secondCaller = await client(ca, "test only second caller");
const stranger = await client(otherCa, "test only stranger");

const pemOf = async (identity: Identity): Promise<ClientCertificate> => ({
  kind: "pem",
  ...await pem(identity),
  passphrase: "",
  validity: ALWAYS,
});

/** Made for this run of the tests. */
export const certificates = {
  ca: certificateToPem(ca.certificate),
  caPem: await pem(ca),
  otherCa: certificateToPem(otherCa.certificate),
  server: await server(ca, ["localhost", "127.0.0.1"]),
  serverElsewhere: await server(ca, ["elsewhere.example", "127.0.0.2"]),
  caller: await pemOf(caller),
  callerPfx: await pfx(caller, "test only password"),
  callerPfxNoPassword: await pfx(caller, ""),
  secondCaller: await pemOf(secondCaller),
  unknownCa: await pemOf(stranger),
};

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: string[];
  readonly body: string;
  readonly clientName: string;
}

export type Handler = (request: SeenRequest, response: ServerResponse, socket: TLSSocket) => void;

/** Answers `OK`. */
export const ok: Handler = (_request, response) => {
  response.end("OK");
};

/** Answers with a status and a text. */
export const answer = (status: number, body: string): Handler => (_request, response) => {
  response.writeHead(status).end(body);
};

export class TestPeer implements AsyncDisposable {
  readonly requests: SeenRequest[] = [];
  /** Plain connections that were accepted. */
  accepted = 0;
  /** Connections whose handshake was done. */
  secured = 0;
  readonly #sockets = new Set<Socket>();

  private constructor(readonly server: https.Server, public handler: Handler) {}

  static async start(
    handler: Handler = ok,
    identity: Pem = certificates.server,
    port = 0,
  ): Promise<TestPeer> {
    const server = https.createServer({
      ...identity,
      ca: certificates.ca,
      requestCert: true,
      rejectUnauthorized: true,
      keepAliveTimeout: 0,
    });
    const peer = new TestPeer(server, handler);
    server.on("connection", (socket: Socket) => {
      peer.accepted++;
      peer.#sockets.add(socket);
      socket.on("close", () => peer.#sockets.delete(socket));
    });
    server.on("secureConnection", (socket: TLSSocket) => {
      peer.secured++;
      socket.on("error", () => {});
    });
    server.on("tlsClientError", () => {});
    server.on(
      "request",
      (request: IncomingMessage, response: ServerResponse) => peer.#receive(request, response),
    );
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    return peer;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  async #receive(request: IncomingMessage, response: ServerResponse) {
    const socket = request.socket as TLSSocket;
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request) chunks.push(chunk);
    } catch {
      return;
    }
    const seen: SeenRequest = {
      method: request.method ?? "",
      path: request.url ?? "",
      headers: request.rawHeaders,
      body: Buffer.concat(chunks).toString(),
      clientName: String(socket.getPeerCertificate().subject?.CN),
    };
    this.requests.push(seen);
    this.handler(seen, response, socket);
  }

  async [Symbol.asyncDispose]() {
    const closed = once(this.server, "close");
    this.server.close();
    this.server.closeAllConnections();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

export interface ChannelOptions {
  readonly port: number;
  readonly hostname?: string;
  readonly clientCertificate?: ClientCertificate;
  /** `null`: the system's trust store. */
  readonly serverCa?: string | null;
  readonly timeoutSeconds?: number;
  readonly env?: Record<string, string>;
  readonly ignoreSystemProxySettings?: boolean;
}

/** A channel as a KME would make it; disposed of with `using`. */
export function openChannel(options: ChannelOptions): PeerChannel & Disposable {
  const neighbour: NeighbourKme = {
    id: { text: "2", integer: true },
    keyDirectory: "unused",
    address: { hostname: options.hostname ?? "localhost", port: options.port },
    ignoreSystemProxySettings: options.ignoreSystemProxySettings ?? false,
    clientCertificate: options.clientCertificate ?? certificates.caller,
    ...(options.serverCa === null ? {} : { serverCa: options.serverCa ?? certificates.ca }),
  };
  const channel = new PeerChannel(
    neighbour,
    { interKmeTimeoutSeconds: options.timeoutSeconds ?? 20 },
    (name) => options.env?.[name],
  );
  return Object.assign(channel, { [Symbol.dispose]: () => channel.close() });
}

/** Log lines of this program, while the test runs. */
export async function recordLog(): Promise<{ lines: string[] } & AsyncDisposable> {
  const lines: string[] = [];
  await configure({
    sinks: { lines: (record: LogRecord) => void lines.push(`${record.level}: ${record.message.join("")}`) },
    loggers: [
      { category: "kme", sinks: ["lines"], lowestLevel: "debug" },
      { category: ["logtape", "meta"], sinks: [], lowestLevel: "error" },
    ],
    reset: true,
  });
  return {
    lines,
    [Symbol.asyncDispose]: () =>
      configure({
        sinks: {},
        loggers: [{ category: ["logtape", "meta"], sinks: [], lowestLevel: "error" }],
        reset: true,
      }),
  };
}
