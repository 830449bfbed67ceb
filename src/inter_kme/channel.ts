/** Messages to one neighbour KME: HTTPS/1.1 POST with mutual TLS over kept connections. */
import { Buffer } from "node:buffer";
import type { ClientRequest } from "node:http";
import https from "node:https";
import type { NeighbourKme, ThisKme } from "../config/config.ts";
import { log } from "../log.ts";
import { explain } from "../tls/connect.ts";
import { type ServerMaterial, VerifiedServer } from "../tls/verified_server.ts";
import { type Certificate, certificatesInPem } from "../x509/certificate.ts";
import { checkCaDates } from "../x509/certificate_files.ts";
import type { Revocations } from "../x509/revocations.ts";
import type { Env } from "../tls/proxy.ts";
import { Slots } from "./slots.ts";
import { MAX_MESSAGE_BYTES } from "./wire.ts";
import { formatHostPort } from "../domain/address.ts";
import { within } from "../domain/within.ts";

/** Connections to one peer at the same time; further messages wait for a free one. */
export const MAX_SOCKETS = 32;

/**
 * Bytes of an answer that are kept; the rest is cut off. The longest ones name each block of the message that they answer
 * twice: 0.2 MB for the most blocks of a message.
 */
export const MAX_ANSWER_BYTES = MAX_MESSAGE_BYTES;

/** Milliseconds that a message waits for a probe of a peer that is down. Clients give up after 5 or 10 s. */
const PROBE_WAIT_MS = 2000;

/** What became of one message. Reasons are one line each and hold no secrets. */
export type PostOutcome =
  /** The peer answered; `body` is cut at {@linkcode MAX_ANSWER_BYTES}. */
  | { readonly kind: "answer"; readonly status: number; readonly body: string }
  /** Certainly not processed: not a byte of it was handed to a connection. */
  | { readonly kind: "unreached"; readonly reason: string }
  /** The peer may have processed it: it was sent, at least in part, and no whole answer came back. */
  | { readonly kind: "unknown"; readonly reason: string };

/** Of a probe that takes longer than {@linkcode PROBE_WAIT_MS}. */
const NO_ANSWER_SOON: PostOutcome = {
  kind: "unreached",
  reason: `no answer to a probe within ${PROBE_WAIT_MS / 1000} s`,
};

/** Whether a peer can be reached, according to the last message or probe. */
export interface PeerHealth {
  /** `undefined` before the first message. */
  readonly up: boolean | undefined;
  /** Time of the last change of `up`. */
  readonly since?: Date;
  readonly lastError?: string;
}

/** How a peer is probed. */
export interface Probes {
  /** Time without an exchange after which a probe is sent. */
  readonly seconds: number;
  /** The message. Any answer shows that the peer runs and accepts our certificate. */
  readonly path: string;
  readonly json: string;
  /** Called when the peer is reached for the first time, becomes unreachable, or is reachable again. */
  readonly onChange: (health: PeerHealth) => void;
}

/** A kept connection broke before the answer began. Most likely the peer had closed it while it was idle. */
interface Stale {
  readonly kind: "stale";
  readonly reason: string;
}

/** `ended`: the channel was closed meanwhile, so the outcome tells nothing about the peer. */
type Attempt = (PostOutcome | Stale) & { readonly ended?: boolean };

/** Client side of the inter-KME interface towards one neighbour. */
export class PeerChannel {
  /** The neighbour's id as text. */
  readonly kmeId: string;
  readonly #neighbour: NeighbourKme;
  readonly #timeout: number;
  readonly #verifyServer: boolean;
  /** What the configuration trusts; empty: the system's trust store, or any server is accepted. */
  #serverCa: readonly Certificate[] = [];
  /** Pools of connections: the first for many messages, the second for one each. */
  readonly #server: VerifiedServer;
  readonly #slots = new Slots(MAX_SOCKETS);
  readonly #log = log("inter_kme");
  #health: PeerHealth = { up: undefined };
  #material: ServerMaterial;
  #probing: Promise<PostOutcome> | undefined;
  /** The probe until {@linkcode startProbing} sets another one: a path that no KME has; every KME answers with an error. */
  #probeMessage: Pick<Probes, "path" | "json"> = { path: "/", json: "{}" };
  #onChange: Probes["onChange"] = () => {};
  #probeTimer: ReturnType<typeof setTimeout> | undefined;
  /** When the last exchange ended, in milliseconds of a monotonic clock. */
  #reportedAt = -Infinity;

  /**
   * @param settings of this KME: seconds to connect, and again to answer.
   * @param env looks up `QKD_KME_SERVER_DANGER_INTER_KME_IGNORE_CERT` and the proxy variables.
   * @throws Error when the client certificate cannot be used.
   */
  constructor(
    neighbour: NeighbourKme,
    settings: Pick<ThisKme, "interKmeTimeoutSeconds"> & Partial<Pick<ThisKme, "tlsMinVersion">>,
    env: Env = (name) => Deno.env.get(name),
  ) {
    this.#neighbour = neighbour;
    this.kmeId = neighbour.id.text;
    this.#timeout = settings.interKmeTimeoutSeconds * 1000;
    this.#verifyServer = env("QKD_KME_SERVER_DANGER_INTER_KME_IGNORE_CERT") !== "Y";
    if (!this.#verifyServer) {
      this.#log.warn(
        "DANGER: the server certificate of KME {kme} is NOT verified, anyone can pretend to be that KME " +
          "(QKD_KME_SERVER_DANGER_INTER_KME_IGNORE_CERT=Y)",
        { kme: this.kmeId },
      );
    }
    this.#material = neighbour;
    this.#server = new VerifiedServer(
      {
        name: `KME ${this.kmeId}`,
        address: neighbour.address,
        ignoreSystemProxySettings: neighbour.ignoreSystemProxySettings,
        timeout: this.#timeout,
        minVersion: `TLSv${settings.tlsMinVersion ?? "1.2"}`,
        verify: this.#verifyServer,
        env,
      },
      neighbour,
      [MAX_SOCKETS, 0],
    );
    this.#use(neighbour);
  }

  /** Whether the peer can be reached, according to the last message or probe. */
  get health(): PeerHealth {
    return this.#health;
  }

  /**
   * Sends a probe now, and again after every period without an exchange, so that {@linkcode health} is known before a
   * message has to be sent. A probe changes nothing at the peer. A peer that does not answer is probed more often.
   */
  startProbing({ seconds, path, json, onChange }: Probes): void {
    this.#probeMessage = { path, json };
    this.#onChange = onChange;
    const next = () => {
      const pause = 1000 * (this.#health.up === false ? seconds / 3 : seconds);
      const idle = performance.now() - this.#reportedAt;
      if (this.#server.isClosed) return;
      if (idle < pause) {
        this.#probeTimer = setTimeout(next, pause - idle);
        return;
      }
      void this.#probe().finally(() => {
        if (!this.#server.isClosed) this.#probeTimer = setTimeout(next, pause);
      });
    };
    next();
  }

  /**
   * Sends one message. The message must be idempotent: if a kept connection breaks before the answer begins, it is sent
   * once more over a new connection.
   *
   * A peer that was last found unreachable is probed first. If it does not answer the probe, or not within two seconds, the
   * message is not sent, so the outcome is `unreached` and not `unknown`, and an SAE gets its answer before it gives up.
   *
   * @param path absolute, like `/keys/activate`.
   * @param json the body.
   */
  async post(path: string, json: string): Promise<PostOutcome> {
    if (this.#health.up === false) {
      // The probe itself goes on for as long as any message.
      const found = await within(this.#probe(), PROBE_WAIT_MS, () => NO_ANSWER_SOON);
      if (found.kind !== "answer") return { kind: "unreached", reason: found.reason };
    }
    return await this.#exchange(path, json);
  }

  /**
   * New connections are made with these certificates; messages under way finish on theirs.
   *
   * @throws Error when the client certificate cannot be used; then the old one stays.
   */
  renew(material: ServerMaterial): void {
    this.#server.renew(material);
    this.#use(material);
  }

  /**
   * Servers whose certificate is revoked are refused from now on.
   *
   * @param revocations what the given CAs have revoked.
   */
  useRevocations(revocations: (authorities: readonly Certificate[]) => Revocations): void {
    this.#server.useRevocations(revocations);
  }

  /** What is revoked has changed: connections with a server that is revoked now are closed. */
  revocationsChanged(): void {
    this.#server.revocationsChanged();
  }

  /** Closes all connections. Messages under way end as if their connection had broken. */
  close(): void {
    clearTimeout(this.#probeTimer);
    this.#server.close();
  }

  /** Sends the probe; callers at the same time share one message. */
  #probe(): Promise<PostOutcome> {
    const { path, json } = this.#probeMessage;
    return this.#probing ??= this.#exchange(path, json).finally(() => this.#probing = undefined);
  }

  async #exchange(path: string, json: string): Promise<PostOutcome> {
    if (!await this.#slots.acquire(this.#timeout)) {
      return { kind: "unreached", reason: "all connections are busy" };
    }
    try {
      const body = Buffer.from(json);
      let attempt = await this.#attempt("kept", path, body);
      if (attempt.kind === "stale") {
        const again = await this.#attempt("fresh", path, body);
        // Not `unreached`: the peer may have processed what came over the broken connection.
        attempt = again.kind === "answer" ? again : { ...again, kind: "unknown" };
      }
      const { ended, ...outcome } = attempt;
      if (!ended) this.#report(outcome);
      return outcome;
    } finally {
      this.#slots.release();
    }
  }

  #attempt(connection: "kept" | "fresh", path: string, body: Buffer): Promise<Attempt> {
    if (this.#server.isClosed) {
      return Promise.resolve({ kind: "unreached", reason: "the channel is closed", ended: true });
    }
    const invalid = this.#materialInvalid();
    if (invalid !== undefined) return Promise.resolve({ kind: "unreached", reason: invalid });
    const agent = this.#server.agents[connection === "kept" ? 0 : 1]!;
    agent.closeExpired();
    return new Promise((resolve) => {
      const seconds = this.#timeout / 1000;
      const request = this.#request(agent, path, body.length);
      let sent = false;
      let answering = false;

      const finish = (attempt: Attempt) => {
        clearTimeout(timer);
        resolve(this.#server.isClosed ? { ...attempt, ended: true } : attempt);
      };
      const stop = (attempt: Attempt) => {
        finish(attempt);
        request.destroy();
      };
      const broken = (error: unknown) => {
        const reason = explain(error);
        if (!sent) finish({ kind: "unreached", reason });
        else if (agent.isOnUsedConnection(request) && !answering) finish({ kind: "stale", reason });
        else finish({ kind: "unknown", reason });
      };
      let timer = setTimeout(
        () => stop({ kind: "unreached", reason: `no connection within ${seconds} s` }),
        this.#timeout,
      );

      // The request is written right after this event, not before. From here on, without an answer it is not known whether
      // the peer processed it: in TLS 1.3 even the refusal of our certificate arrives later, and an alert does not tell what
      // was processed before it.
      request.on("socket", () => {
        if (request.destroyed) return;
        sent = true;
        clearTimeout(timer);
        timer = setTimeout(
          () => stop({ kind: "unknown", reason: `no answer within ${seconds} s` }),
          this.#timeout,
        );
      });
      request.on("response", (response) => {
        answering = true;
        const status = response.statusCode ?? 0;
        const chunks: Buffer[] = [];
        let length = 0;
        const answer = (): Attempt => ({
          kind: "answer",
          status,
          body: Buffer.concat(chunks).subarray(0, MAX_ANSWER_BYTES).toString(),
        });
        response.on("data", (chunk: Buffer) => {
          chunks.push(chunk);
          length += chunk.length;
          if (length > MAX_ANSWER_BYTES) stop(answer());
        });
        response.on(
          "end",
          () => response.complete ? finish(answer()) : broken(new Error("the answer was cut off")),
        );
        response.on("error", broken);
        response.on("close", () => broken(new Error("the answer was cut off")));
      });
      request.on("error", broken);
      // This event may come while an answer is still in the buffers.
      request.on(
        "close",
        () => answering || broken(new Error("the connection was closed without an answer")),
      );
      request.end(body);
    });
  }

  #request(agent: https.Agent, path: string, length: number): ClientRequest {
    const { hostname, port } = this.#neighbour.address;
    return https.request({
      agent,
      host: hostname,
      port,
      method: "POST",
      path,
      headers: {
        "host": formatHostPort({ hostname, port }),
        "content-type": "application/json",
        "content-length": length,
      },
    });
  }

  /**
   * Why the own certificate, or the CA certificates of the peer's server, cannot be used now. Checked before sending, because a
   * peer's refusal may arrive when a message has already been sent.
   */
  #materialInvalid(): string | undefined {
    const { notBefore, notAfter } = this.#material.clientCertificate.validity;
    const now = Date.now();
    if (now > notAfter) {
      return `the certificate for calls to KME ${this.kmeId} expired on ${new Date(notAfter).toISOString()}`;
    }
    if (now < notBefore) {
      return `the certificate for calls to KME ${this.kmeId} is not valid before ${
        new Date(notBefore).toISOString()
      }`;
    }
    const { problem } = this.#serverCa.length === 0 ? {} : checkCaDates(this.#serverCa, new Date(now));
    return problem === undefined ? undefined : `the CA file for the server of KME ${this.kmeId}: ${problem}`;
  }

  /** What messages are sent with from now on; reports when it cannot be used. */
  #use(material: ServerMaterial): void {
    this.#material = material;
    const { serverCa } = material;
    this.#serverCa = this.#verifyServer && serverCa !== undefined ? certificatesInPem(serverCa) : [];
    const reason = this.#materialInvalid();
    if (reason !== undefined) this.#report({ kind: "unreached", reason });
  }

  #report(outcome: PostOutcome): void {
    const up = outcome.kind === "answer";
    const before = this.#health.up;
    const lastError = outcome.kind === "answer" ? this.#health.lastError : outcome.reason;
    this.#health = { up, since: up === before ? this.#health.since : new Date(), lastError };
    this.#reportedAt = performance.now();
    if (up !== before) this.#onChange(this.#health);
    if (outcome.kind !== "answer") {
      if (before !== false) {
        this.#log.warn("KME {kme} is unreachable: {reason}", { kme: this.kmeId, reason: outcome.reason });
      }
    } else if (before === false) {
      this.#log.info("KME {kme} is reachable again", { kme: this.kmeId });
    }
  }
}
