/** Calls a neighbour once, over a separate connection, and asks for its id and SAEs. */
import { Buffer } from "node:buffer";
import https from "node:https";
import type { X509Certificate } from "node:crypto";
import type { NeighbourKme, ThisKme } from "../config/config.ts";
import { connectTls, explain } from "../tls/connect.ts";
import { clientContext } from "../tls/credentials.ts";
import { serverVerifier } from "../tls/server_trust.ts";
import { proxyFor } from "../tls/proxy.ts";
import { formatHello, PeerPath } from "../inter_kme/wire.ts";

/** Bytes of an answer at most. */
const MAX_BYTES = 8 * 1024 * 1024;

export type Probe =
  /** No TLS connection. */
  | { readonly kind: "unreached"; readonly reason: string }
  /** The peer's certificate was accepted here, but no answer came: it does not accept ours. */
  | { readonly kind: "refused"; readonly server: X509Certificate; readonly reason: string }
  | {
    readonly kind: "answered";
    readonly server: X509Certificate;
    readonly status: number;
    readonly body: string;
    /** Milliseconds by which the peer's clock is ahead of this one, to about a second; absent: unknown. */
    readonly clockAhead?: number;
  };

/** @returns never rejects. */
export async function probePeer(neighbour: NeighbourKme, thisKme: ThisKme): Promise<Probe> {
  const { address } = neighbour;
  const env = (name: string) => Deno.env.get(name);
  const timeout = thisKme.interKmeTimeoutSeconds * 1000;
  const controller = new AbortController();
  let socket;
  try {
    socket = await connectTls(
      {
        address,
        secureContext: clientContext(
          neighbour.clientCertificate,
          neighbour.serverCa,
          `TLSv${thisKme.tlsMinVersion}`,
        ),
        verifier: serverVerifier(neighbour.serverCa),
        proxy: neighbour.ignoreSystemProxySettings ? undefined : proxyFor(address, env),
      },
      timeout,
      controller.signal,
    );
  } catch (error) {
    return { kind: "unreached", reason: explain(error) };
  }
  const server = socket.getPeerX509Certificate()!;
  const body = Buffer.from(formatHello(thisKme.id.text));
  const sent = Date.now();
  try {
    return await new Promise<Probe>((resolve, reject) => {
      const request = https.request({
        createConnection: () => socket,
        method: "POST",
        host: address.hostname,
        port: address.port,
        path: PeerPath.hello,
        headers: { "content-type": "application/json", "content-length": body.length, connection: "close" },
      }, (response) => {
        const received = Date.now();
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (part: string) => {
          text += part;
          if (text.length > MAX_BYTES) response.destroy(new Error("the answer is too long"));
        });
        response.on("error", reject);
        response.on("end", () => {
          const date = Date.parse(response.headers.date ?? "");
          resolve({
            kind: "answered",
            server,
            status: response.statusCode ?? 0,
            body: text,
            // The header has whole seconds.
            clockAhead: Number.isNaN(date) ? undefined : date + 500 - (sent + received) / 2,
          });
        });
      });
      request.setTimeout(timeout, () => request.destroy(new Error(`no answer within ${timeout / 1000} s`)));
      request.on("error", reject);
      request.end(body);
    });
  } catch (error) {
    return { kind: "refused", server, reason: explain(error) };
  } finally {
    socket.destroy();
  }
}
