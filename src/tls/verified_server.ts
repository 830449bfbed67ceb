/** A server that this program calls: pools of verified connections, whose certificates and revocations may change meanwhile. */
import type tls from "node:tls";
import type { ClientCertificate } from "../config/config.ts";
import type { HostPort } from "../domain/address.ts";
import { log } from "../log.ts";
import type { Certificate } from "../x509/certificate.ts";
import type { Revocations } from "../x509/revocations.ts";
import type { ServerVerifier } from "../x509/verifier.ts";
import { connectTls, explain } from "./connect.ts";
import { clientContext } from "./credentials.ts";
import { verifyServer } from "./peer_certificates.ts";
import { type Env, proxyFor } from "./proxy.ts";
import { serverVerifier } from "./server_trust.ts";
import { socketsOf, VerifiedAgent } from "./verified_agent.ts";

/** The certificate with which a server is called, and the CA that it is verified against. */
export interface ServerMaterial {
  readonly clientCertificate: ClientCertificate;
  /** PEM; absent: the system's trust store. */
  readonly serverCa?: string;
}

export interface VerifiedServerOptions {
  /** For messages, as `KME 2`. */
  readonly name: string;
  readonly address: HostPort;
  readonly ignoreSystemProxySettings: boolean;
  /** Milliseconds for a connection. */
  readonly timeout: number;
  readonly minVersion: tls.SecureVersion;
  /** False: any server is accepted. */
  readonly verify: boolean;
  /** Looks up the proxy variables. */
  readonly env: Env;
}

export class VerifiedServer {
  readonly #options: VerifiedServerOptions;
  readonly #maxIdle: readonly number[];
  readonly #closed = new AbortController();
  /** Absent: any server is accepted. */
  #verifier: ServerVerifier | undefined;
  #revocations: (authorities: readonly Certificate[]) => Revocations = () => [];
  #agents: readonly VerifiedAgent[];

  /**
   * @param maxIdle connections that each of the pools keeps while nothing uses them.
   * @throws Error with one line when the client certificate cannot be used.
   */
  constructor(options: VerifiedServerOptions, material: ServerMaterial, maxIdle: readonly number[]) {
    this.#options = options;
    this.#maxIdle = maxIdle;
    this.#agents = this.#open(material);
  }

  /** Pools of connections, in the order of `maxIdle`. Others after {@linkcode renew}. */
  get agents(): readonly VerifiedAgent[] {
    return this.#agents;
  }

  /** Whether {@linkcode close} was called. */
  get isClosed(): boolean {
    return this.#closed.signal.aborted;
  }

  /**
   * New connections are made with these certificates; requests under way finish on theirs.
   *
   * @throws Error with one line when the client certificate cannot be used; then the old one stays.
   */
  renew(material: ServerMaterial): void {
    const old = this.#agents;
    this.#agents = this.#open(material);
    for (const agent of old) {
      // Connections that are idle now, or become idle later, are closed.
      agent.maxFreeSockets = 0;
      for (const socket of socketsOf(agent.freeSockets)) socket.destroy();
    }
  }

  /**
   * A server whose certificate is revoked is refused from now on.
   *
   * @param revocations what the given CAs have revoked.
   */
  useRevocations(revocations: (authorities: readonly Certificate[]) => Revocations): void {
    this.#revocations = revocations;
    this.revocationsChanged();
  }

  /** What is revoked has changed: connections with a server that is revoked now are closed. */
  revocationsChanged(): void {
    const verifier = this.#verifier;
    if (!verifier) return;
    verifier.revocations = this.#revocations(verifier.authorities);
    const { name, address } = this.#options;
    for (const agent of this.#agents) {
      for (const socket of [...socketsOf(agent.sockets), ...socketsOf(agent.freeSockets)]) {
        try {
          verifyServer(socket, verifier, address.hostname);
        } catch (error) {
          log("tls").warn("connection with {server} closed: {reason}", {
            server: name,
            reason: explain(error),
          });
          socket.destroy();
        }
      }
    }
  }

  /** Closes all connections. Requests under way fail. */
  close(): void {
    this.#closed.abort();
    for (const agent of this.#agents) agent.destroy();
  }

  #open({ clientCertificate, serverCa }: ServerMaterial): VerifiedAgent[] {
    const { name, address, ignoreSystemProxySettings, timeout, minVersion, verify, env } = this.#options;
    let secureContext: tls.SecureContext;
    try {
      secureContext = clientContext(clientCertificate, serverCa, minVersion);
    } catch (error) {
      throw new Error(`the client certificate for ${name} cannot be used: ${explain(error)}`);
    }
    const verifier = verify ? serverVerifier(serverCa) : undefined;
    if (verifier) verifier.revocations = this.#revocations(verifier.authorities);
    this.#verifier = verifier;
    const connect = () => {
      const proxy = ignoreSystemProxySettings ? undefined : proxyFor(address, env);
      return connectTls({ address, secureContext, verifier, proxy }, timeout, this.#closed.signal);
    };
    return this.#maxIdle.map((idle) => new VerifiedAgent(connect, idle));
  }
}
