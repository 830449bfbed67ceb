/** A tap between two KMEs: ends TLS as the called KME would, calls it as the calling KME would, and keeps all that passes. */
import { once } from "node:events";
import type { AddressInfo, Socket } from "node:net";
import tls from "node:tls";
import type { TestId, TestNetwork } from "../harness/test_network.ts";

export interface Tap extends AsyncDisposable {
  /** All bytes that the called KME received so far, headers included, decrypted. */
  received(): Uint8Array;
  /** All bytes that the called KME answered. */
  answered(): Uint8Array;
}

/** Puts a tap where `from` calls `to`; before `from` is started, whose configuration is changed. */
export async function tap(network: TestNetwork, from: TestId, to: TestId): Promise<Tap> {
  const caller = network.kme(from).interKmeClient;
  const server = await network.interKmeCa.server({ commonName: `KME ${to}` });
  const received: Uint8Array[] = [];
  const answered: Uint8Array[] = [];
  const sockets = new Set<Socket>();
  const listener = tls.createServer({
    cert: server.cert,
    key: server.key,
    ca: network.interKmeCa.ca,
    requestCert: true,
    rejectUnauthorized: true,
  }, (client) => {
    const onward = tls.connect({
      host: "127.0.0.1",
      port: network.kme(to).kmesPort,
      cert: caller.cert,
      key: caller.key,
      ca: network.interKmeCa.ca,
    });
    for (const [source, target, kept] of [[client, onward, received], [onward, client, answered]] as const) {
      sockets.add(source);
      source.on("data", (chunk: Uint8Array) => {
        kept.push(Uint8Array.from(chunk));
        target.write(chunk);
      });
      source.on("end", () => target.end());
      source.on("error", () => target.destroy());
      source.on("close", () => {
        sockets.delete(source);
        target.destroy();
      });
    }
  });
  listener.on("tlsClientError", () => {});
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address() as AddressInfo;
  await network.redirect(from, to, port);
  return {
    received: () => join(received),
    answered: () => join(answered),
    async [Symbol.asyncDispose]() {
      const closed = once(listener, "close");
      listener.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

/**
 * Where in the bytes there is anything of a key: raw, in hexadecimal, in base64 at whatever place of a longer text, or in
 * an array of numbers. Looks for every piece of 8 bytes that begins at a multiple of 4.
 *
 * @returns how it is written; `undefined` when there is nothing.
 */
export function traceOf(key: Uint8Array, bytes: Uint8Array): string | undefined {
  const text = latin1(bytes);
  const lower = text.toLowerCase();
  const standard = text.replaceAll("-", "+").replaceAll("_", "/").replaceAll("\\/", "/");
  for (let start = 0; start + 8 <= key.length; start += 4) {
    const piece = key.subarray(start, start + 8);
    if (text.includes(latin1(piece))) return "raw";
    if (lower.includes(piece.toHex())) return "hexadecimal";
    if (text.includes([...piece].join(","))) return "numbers";
    for (const before of [0, 1, 2]) {
      // Only characters that are wholly made of the piece.
      const shifted = Uint8Array.from([...new Uint8Array(before), ...piece]).toBase64();
      const first = Math.ceil((before * 8) / 6);
      const last = Math.floor(((before + 8) * 8) / 6);
      if (standard.includes(shifted.slice(first, last))) return "base64";
    }
  }
  return undefined;
}

function latin1(bytes: Uint8Array): string {
  return new TextDecoder("latin1").decode(bytes);
}

function join(chunks: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let offset = 0;
  for (const chunk of chunks) {
    whole.set(chunk, offset);
    offset += chunk.length;
  }
  return whole;
}
