/** Opens one verified TLS connection to a peer, directly or through a proxy. */
import { Buffer } from "node:buffer";
import http from "node:http";
import { isIP, type Socket } from "node:net";
import tls from "node:tls";
import { systemTrust } from "./credentials.ts";
import { verifyServer } from "./peer_certificates.ts";
import { CertificateRefused } from "../x509/refusal.ts";
import type { ServerVerifier } from "../x509/verifier.ts";
import { formatHostPort, type HostPort } from "../domain/address.ts";

/** Where to connect and what to accept there. */
export interface TlsTarget {
  readonly address: HostPort;
  readonly secureContext: tls.SecureContext;
  /** Verifies the server; absent: any server is accepted, without a verification. */
  readonly verifier?: ServerVerifier;
  /** `http:` or `https:` proxy to tunnel through. */
  readonly proxy?: URL;
}

/** When the first certificate of the server's chain expires. */
const ends = new WeakMap<tls.TLSSocket, number>();

/** Milliseconds since 1970 until which the server of a verified connection is valid; `Infinity` where it was not verified. */
export function serverValidUntil(socket: tls.TLSSocket): number {
  return ends.get(socket) ?? Infinity;
}

/** No connection could be opened, and nothing of a request was sent. The message contains no secrets. */
export class ConnectError extends Error {
  override readonly name = "ConnectError";
}

/**
 * Connects: TCP, the proxy's tunnel if any, TLS with the server's certificate and host name verified. The socket is returned
 * only after all these steps, so a failure means that nothing of a request was sent.
 *
 * @param timeout milliseconds for all steps together.
 * @param signal cancels the attempt.
 * @throws ConnectError
 */
export async function connectTls(
  target: TlsTarget,
  timeout: number,
  signal: AbortSignal,
): Promise<tls.TLSSocket> {
  const attempt = new AbortController();
  const closed = () => attempt.abort(new ConnectError("the connection attempt was cancelled"));
  const timer = setTimeout(
    () => attempt.abort(new ConnectError(`no connection within ${timeout / 1000} s`)),
    timeout,
  );
  signal.addEventListener("abort", closed);
  if (signal.aborted) closed();
  try {
    const tunnel = target.proxy && await openTunnel(target.proxy, target.address, attempt.signal);
    return await startTls(target, tunnel, attempt.signal);
  } catch (error) {
    throw error instanceof ConnectError ? error : new ConnectError(explain(error), { cause: error });
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", closed);
  }
}

function startTls(
  target: TlsTarget,
  tunnel: Socket | undefined,
  signal: AbortSignal,
): Promise<tls.TLSSocket> {
  const { hostname: host, port } = target.address;
  const { verifier } = target;
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      tunnel?.destroy();
      return reject(signal.reason);
    }
    // No `session`: every connection makes a full handshake, so that no peer can resume the session of another one.
    const socket = tls.connect({
      ...(tunnel ? { socket: tunnel, host } : { host, port }),
      servername: isIP(host) ? undefined : host,
      secureContext: target.secureContext,
      // Decided below, where the reason can be given.
      rejectUnauthorized: false,
      ALPNProtocols: ["http/1.1"],
    });
    const end = (error?: unknown) => {
      signal.removeEventListener("abort", aborted);
      socket.off("error", end).off("close", closed).off("secureConnect", secure);
      if (error === undefined) return resolve(socket);
      socket.on("error", () => {}).destroy();
      tunnel?.destroy();
      reject(error);
    };
    const aborted = () => end(signal.reason);
    const closed = () => end(new ConnectError("the peer closed the connection during the TLS handshake"));
    const secure = () => {
      try {
        if (verifier !== undefined) {
          const chain = verifyServer(socket, verifier, host);
          ends.set(socket, Math.min(...chain.map(({ notAfter }) => notAfter)));
          if (!socket.authorized) {
            throw new ConnectError(
              `TLS does not accept the server's certificate: ${socket.authorizationError}`,
            );
          }
        }
      } catch (error) {
        return end(error);
      }
      socket.setNoDelay(true);
      socket.setKeepAlive(true, 30_000);
      end();
    };
    signal.addEventListener("abort", aborted);
    socket.on("error", end).on("close", closed).on("secureConnect", secure);
  });
}

/** `CONNECT` through a proxy (RFC 9110, clause 9.3.6). */
async function openTunnel(proxy: URL, { hostname, port }: HostPort, signal: AbortSignal): Promise<Socket> {
  const authority = formatHostPort({ hostname, port });
  const headers: Record<string, string> = { host: authority };
  if (proxy.username !== "" || proxy.password !== "") {
    const credentials = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
    headers["proxy-authorization"] = `Basic ${Buffer.from(credentials).toString("base64")}`;
  }
  const address = {
    hostname: proxy.hostname.replace(/^\[|\]$/g, ""),
    port: Number(proxy.port || (proxy.protocol === "https:" ? 443 : 80)),
  };
  let secured: tls.TLSSocket | undefined;
  if (proxy.protocol === "https:") {
    try {
      secured = await startTls({ address, ...systemTrust() }, undefined, signal);
    } catch (error) {
      throw signal.aborted ? signal.reason : new ConnectError(`proxy ${proxy.host}: ${explain(error)}`);
    }
  }
  return await new Promise((resolve, reject) => {
    if (signal.aborted) {
      secured?.destroy();
      return reject(signal.reason);
    }
    const connect = http.request({
      method: "CONNECT",
      host: address.hostname,
      port: address.port,
      path: authority,
      headers,
      ...(secured ? { createConnection: () => secured } : { agent: false }),
    });
    let open = false;
    const refuse = (error: unknown) => {
      // The request closes as soon as the tunnel is open.
      if (open) return;
      signal.removeEventListener("abort", aborted);
      connect.on("error", () => {}).destroy();
      secured?.destroy();
      reject(error);
    };
    const aborted = () => refuse(signal.reason);
    const status = (code: number | undefined) =>
      refuse(new ConnectError(`the proxy ${proxy.host} refused the connection with status ${code}`));
    signal.addEventListener("abort", aborted);
    connect.on("connect", (answer, socket: Socket) => {
      if (answer.statusCode === undefined || answer.statusCode < 200 || answer.statusCode > 299) {
        socket.on("error", () => {}).destroy();
        return status(answer.statusCode);
      }
      open = true;
      signal.removeEventListener("abort", aborted);
      // Failures of the tunnel appear on the TLS connection inside it.
      resolve(socket.on("error", () => {}));
    });
    connect.on("response", (answer) => status(answer.statusCode));
    connect.on("error", (error) => refuse(new ConnectError(`proxy ${proxy.host}: ${explain(error)}`)));
    connect.on("close", () => refuse(new ConnectError(`the proxy ${proxy.host} closed the connection`)));
    connect.end();
  });
}

const TEXTS: Record<string, string> = {
  ECONNREFUSED: "connection refused",
  ECONNRESET: "connection reset",
  EPIPE: "connection closed",
  ETIMEDOUT: "connection timed out",
  EHOSTUNREACH: "no route to the host",
  ENETUNREACH: "no route to the network",
  ENOTFOUND: "host name not found",
  EAI_AGAIN: "temporary failure in looking up the host name",
};

/** One line for a failed connection or request. */
export function explain(error: unknown): string {
  if (error instanceof CertificateRefused) return `${error.message}; ${error.remedy}`;
  const { code, message } = error as { code?: unknown; message?: unknown };
  const text = (typeof code === "string" ? TEXTS[code] : undefined) ??
    (message ? String(message) : String(code ?? error));
  return text.replace(/\s+/g, " ").slice(0, 300);
}
