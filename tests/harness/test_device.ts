/**
 * A pair of QKD devices in the process of a test: servers of ETSI GS QKD 014 with a common stock, which misbehave as the test says.
 * Their keys are for tests.
 */
import https from "node:https";
import type { AddressInfo } from "node:net";
import type { TLSSocket } from "node:tls";
import { Buffer } from "node:buffer";
import type { DeviceAddress } from "./device_network.ts";
import { type IssuedCertificate, makeTestCa } from "./test_certificates.ts";

export interface DeviceRequest {
  readonly device: 0 | 1;
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** Parsed JSON; undefined without a body. */
  readonly body: unknown;
  /** Serial of the client's certificate as lower-case hexadecimal digits. */
  readonly serial: string;
}

export interface DeviceAnswer {
  status: number;
  // deno-lint-ignore no-explicit-any
  json: any;
}

/**
 * Answers a request in its own way; `"cut"`: the connection is closed instead. `right` does what a device does, and gives its
 * answer.
 */
export type Misbehaviour = (
  request: DeviceRequest,
  right: () => DeviceAnswer,
) => DeviceAnswer | "cut" | Promise<DeviceAnswer | "cut">;

export interface TestDevices extends AsyncDisposable {
  readonly addresses: [DeviceAddress, DeviceAddress];
  /** All requests so far. */
  readonly requests: readonly DeviceRequest[];
  /** Keys that enc_keys can still give. */
  stock: number;
  /** Bits of a key; random by default. */
  makeKey: (bits: number) => Uint8Array;
  misbehave: Misbehaviour;
  /** Keys that both devices gave. */
  readonly agreed: number;
}

const SAES = ["201", "202"] as const;

/** PEM. */
export interface DeviceCertificates {
  readonly ca: string;
  /** Of both devices, for loopback. */
  readonly server: Pick<IssuedCertificate, "cert" | "key">;
  /** As which both KMEs call their device. */
  readonly client: Pick<IssuedCertificate, "cert" | "key">;
}

async function makeCertificates(): Promise<DeviceCertificates> {
  const ca = await makeTestCa("CA of test devices");
  return { ca: ca.ca, server: await ca.server(), client: await ca.client({ commonName: "SAE of a device" }) };
}

/** @param certificates fresh ones by default. */
export async function startTestDevices(
  stock = 100_000,
  certificates?: DeviceCertificates,
): Promise<TestDevices> {
  const { ca, server, client } = certificates ?? await makeCertificates();
  const requests: DeviceRequest[] = [];
  /** Keys that the other device still has. */
  const waiting: [Map<string, string>, Map<string, string>] = [new Map(), new Map()];
  let agreed = 0;
  const devices = {
    stock,
    requests,
    makeKey: (bits: number): Uint8Array => crypto.getRandomValues(new Uint8Array(bits / 8)),
    misbehave: ((_, right) => right()) as Misbehaviour,
    get agreed() {
      return agreed;
    },
  };
  const answerTo = ({ device, method, path, body }: DeviceRequest): DeviceAnswer => {
    const other = 1 - device as 0 | 1;
    const match = /^\/api\/v1\/keys\/(\w+)\/(status|enc_keys|dec_keys)$/.exec(path);
    if (match?.[1] !== SAES[other]) return { status: 400, json: { message: "no such SAE" } };
    switch (match[2]) {
      case "status":
        return {
          status: 200,
          json: {
            source_KME_ID: String(device),
            target_KME_ID: String(other),
            master_SAE_ID: SAES[device],
            slave_SAE_ID: SAES[other],
            key_size: 256,
            stored_key_count: devices.stock,
            max_key_count: 1_000_000,
            max_key_per_request: 500,
            max_key_size: 65_536,
            min_key_size: 64,
            max_SAE_ID_count: 0,
          },
        };
      case "enc_keys": {
        const { number, size } = body as { number: number; size: number };
        if (method !== "POST" || number > devices.stock) {
          return { status: 503, json: { message: "too few keys" } };
        }
        devices.stock -= number;
        const keys = Array.from({ length: number }, () => ({
          key_ID: crypto.randomUUID() as string,
          key: Buffer.from(devices.makeKey(size)).toString("base64"),
        }));
        for (const { key_ID, key } of keys) waiting[other].set(key_ID, key);
        return { status: 200, json: { keys } };
      }
      default: {
        const ids = (body as { key_IDs: { key_ID: string }[] }).key_IDs.map(({ key_ID }) => key_ID);
        if (!ids.every((id) => waiting[device].has(id))) {
          return { status: 400, json: { message: "one or more keys specified are not found on KME" } };
        }
        const keys = ids.map((key_ID) => ({ key_ID, key: waiting[device].get(key_ID)! }));
        for (const id of ids) waiting[device].delete(id);
        agreed += ids.length;
        return { status: 200, json: { keys } };
      }
    }
  };

  const servers = await Promise.all(([0, 1] as const).map(async (device) => {
    const options = { cert: server.cert, key: server.key, ca, requestCert: true };
    const sockets = new Set<TLSSocket>();
    const listener = https.createServer(options, async (incoming, outgoing) => {
      const chunks: Uint8Array[] = [];
      for await (const chunk of incoming) chunks.push(chunk as Uint8Array);
      const text = Buffer.concat(chunks).toString();
      const request: DeviceRequest = {
        device,
        method: incoming.method!,
        path: incoming.url!,
        headers: incoming.headers,
        body: text === "" ? undefined : JSON.parse(text),
        serial: (incoming.socket as TLSSocket).getPeerX509Certificate()!.serialNumber.toLowerCase(),
      };
      requests.push(request);
      const answer = await devices.misbehave(request, () => answerTo(request));
      if (answer === "cut") return void incoming.socket.destroy();
      outgoing.writeHead(answer.status, { "content-type": "application/json" });
      outgoing.end(JSON.stringify(answer.json));
    });
    listener.on("secureConnection", (socket: TLSSocket) => {
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket)).on("error", () => {});
    });
    await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
    return { listener, sockets, port: (listener.address() as AddressInfo).port };
  }));
  const address = (device: 0 | 1): DeviceAddress => ({
    port: servers[device]!.port,
    ca,
    client,
    localSae: Number(SAES[device]),
    remoteSae: Number(SAES[1 - device]),
  });
  return Object.assign(devices, {
    addresses: [address(0), address(1)] as [DeviceAddress, DeviceAddress],
    [Symbol.asyncDispose]: async () => {
      await Promise.all(servers.map(({ listener, sockets }) => {
        const closed = new Promise((resolve) => listener.close(resolve));
        for (const socket of sockets) socket.destroy();
        return closed;
      }));
    },
  });
}
