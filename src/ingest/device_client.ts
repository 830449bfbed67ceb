/** This KME as an SAE of a QKD device: a client of ETSI GS QKD 014 V1.1.1 over mutual TLS. */
import { Buffer } from "node:buffer";
import https from "node:https";
import { z } from "zod";
import type { DeviceSource, NeighbourKme, ThisKme } from "../config/config.ts";
import { formatHostPort } from "../domain/address.ts";
import { MAX_DEVICE_KEY_ID } from "../domain/device_keys.ts";
import { toOneLine } from "../domain/text.ts";
import { explain } from "../tls/connect.ts";
import { VerifiedServer } from "../tls/verified_server.ts";

/** Bytes of an answer: keys in base64, and what a device may add. */
const MAX_ANSWER_BYTES = 8 * 1024 * 1024;

const CONNECTIONS = 8;

/**
 * Milliseconds without an exchange after which a connection is not used for keys any more: the device may be closing it, and a
 * request whose answer is lost costs keys.
 */
const MAX_IDLE_MS = 2000;

/** Characters of a device's own words that are shown. */
const MAX_WORDS = 200;

/** The device refused a request: it has processed it, and spent no keys for it. */
export class DeviceRefusal extends Error {
  override readonly name = "DeviceRefusal";
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

/** No usable answer came. */
export class DeviceFailure extends Error {
  override readonly name = "DeviceFailure";
  /** @param sent whether the device may have processed the request, and spent keys for it. */
  constructor(message: string, readonly sent: boolean) {
    super(message);
  }
}

const count = z.int().nonnegative();
const saeId = z.union([z.string(), z.number()]).transform(String);

/** Status (clause 6.1), as far as it is used. */
const statusSchema = z.object({
  stored_key_count: count,
  max_key_count: count.optional(),
  max_key_per_request: count.optional(),
  min_key_size: count.optional(),
  max_key_size: count.optional(),
  master_SAE_ID: saeId.optional(),
  slave_SAE_ID: saeId.optional(),
});

export type DeviceStatus = z.output<typeof statusSchema>;

/** Key container (clause 6.3). */
const containerSchema = z.object({
  keys: z.array(
    z.object({
      key_ID: z.string().max(MAX_DEVICE_KEY_ID).regex(/^[\x21-\x7e]+$/, "not printable ASCII"),
      key: z.base64(),
    }),
  ),
});

/** A key as the device gave it. */
export interface GivenKey {
  readonly id: string;
  readonly bits: Uint8Array;
}

export interface DeviceClientOptions {
  readonly device: DeviceSource;
  readonly ignoreSystemProxySettings: boolean;
  /** Milliseconds for a connection, and again for an answer. */
  readonly timeout: number;
  readonly tlsMinVersion: "1.2" | "1.3";
}

/** Whether the device answered the last request. */
export interface DeviceHealth {
  /** Absent before the first request. */
  readonly up?: boolean;
  /** Since when. */
  readonly since?: Date;
  /** Why there was no usable answer last, one line. */
  readonly lastError?: string;
}

export class DeviceClient {
  /** The connections with the device. */
  readonly server: VerifiedServer;
  readonly #device: DeviceSource;
  readonly #timeout: number;
  #usedAt = -Infinity;
  #health: DeviceHealth = {};

  /** @throws Error when the client certificate cannot be used. */
  constructor({ device, ignoreSystemProxySettings, timeout, tlsMinVersion }: DeviceClientOptions) {
    this.#device = device;
    this.#timeout = timeout;
    this.server = new VerifiedServer(
      {
        name: `the device ${this.name}`,
        address: device.url.address,
        ignoreSystemProxySettings,
        timeout,
        minVersion: `TLSv${tlsMinVersion}`,
        verify: true,
        env: (name) => Deno.env.get(name),
      },
      device,
      [CONNECTIONS],
    );
  }

  /** Address of the device, for people. */
  get name(): string {
    return formatHostPort(this.#device.url.address);
  }

  get health(): DeviceHealth {
    return this.#health;
  }

  /**
   * Get status (clause 5.1).
   *
   * @throws DeviceRefusal
   * @throws DeviceFailure
   */
  async status(): Promise<DeviceStatus> {
    return read(statusSchema, await this.#call("status"));
  }

  /**
   * Get key (clause 5.2) for the SAE at the other device.
   *
   * @returns what the device gave, which may be fewer keys, or one more, of any size. What is beyond that is not read: an answer has
   * room for hundreds of thousands.
   * @throws DeviceRefusal
   * @throws DeviceFailure
   */
  async encKeys(number: number, size: number): Promise<GivenKey[]> {
    return keysOf(await this.#call("enc_keys", { number, size }), number + 1);
  }

  /**
   * Get key with key IDs (clause 5.3) of keys that the SAE at the other device got.
   *
   * @throws DeviceRefusal also when one of them is not there.
   * @throws DeviceFailure
   */
  async decKeys(ids: readonly string[]): Promise<GivenKey[]> {
    return keysOf(await this.#call("dec_keys", { key_IDs: ids.map((key_ID) => ({ key_ID })) }));
  }

  /** Closes all connections; requests under way fail. */
  close(): void {
    this.server.close();
  }

  async #call(method: "status" | "enc_keys" | "dec_keys", body?: unknown): Promise<unknown> {
    try {
      const answer = await this.#exchange(method, body);
      this.#report(undefined);
      return answer;
    } catch (error) {
      // A refusal shows that it answers, unless it refuses this KME, or has failed itself.
      const isUp = error instanceof DeviceRefusal && error.status < 500 && ![401, 403].includes(error.status);
      if (!this.server.isClosed) this.#report(isUp ? undefined : (error as Error).message);
      throw error;
    }
  }

  #report(error: string | undefined): void {
    const up = error === undefined;
    this.#usedAt = performance.now();
    const since = this.#health.up === up ? this.#health.since : new Date();
    this.#health = { up, since, lastError: error ?? this.#health.lastError };
  }

  #exchange(method: string, json: unknown): Promise<unknown> {
    const agent = this.server.agents[0]!;
    agent.closeExpired();
    if (performance.now() - this.#usedAt > MAX_IDLE_MS) agent.closeIdle();
    const { url: { address, path }, remoteSae } = this.#device;
    const body = json === undefined ? undefined : Buffer.from(JSON.stringify(json));
    return new Promise((resolve, reject) => {
      let [sent, ended] = [false, false];
      const request = https.request({
        agent,
        host: address.hostname,
        port: address.port,
        method: body === undefined ? "GET" : "POST",
        path: `${path}/api/v1/keys/${encodeURIComponent(remoteSae)}/${method}`,
        headers: {
          host: formatHostPort(address),
          accept: "application/json",
          ...body === undefined ? {} : { "content-type": "application/json", "content-length": body.length },
        },
      });
      const end = (settle: () => void) => {
        if (ended) return;
        ended = true;
        clearTimeout(timer);
        settle();
      };
      const fail = (reason: string) =>
        end(() => {
          reject(new DeviceFailure(`${this.name}: ${reason}`, sent));
          request.destroy();
        });
      const late = () => fail(`no ${sent ? "answer" : "connection"} within ${this.#timeout / 1000} s`);
      let timer = setTimeout(late, this.#timeout);
      request.on("socket", () => {
        sent = true;
        clearTimeout(timer);
        timer = setTimeout(late, this.#timeout);
      });
      request.on("error", (error) => fail(explain(error)));
      request.on("response", (response) => {
        const chunks: Buffer[] = [];
        let length = 0;
        response.on("data", (chunk: Buffer) => {
          chunks.push(chunk);
          length += chunk.length;
          if (length > MAX_ANSWER_BYTES) fail("its answer is too long");
        });
        response.on("error", (error) => fail(explain(error)));
        response.on("close", () => fail("the answer was cut off"));
        response.on("end", () => {
          if (!response.complete) return fail("the answer was cut off");
          const status = response.statusCode ?? 0;
          const bytes = Buffer.concat(chunks);
          const value = parse(bytes);
          // They may hold keys.
          for (const chunk of [bytes, ...chunks]) chunk.fill(0);
          if (status !== 200) {
            return end(() =>
              reject(new DeviceRefusal(status, `${this.name} answers with status ${status}${wordsOf(value)}`))
            );
          }
          if (value === undefined) return fail("its answer is not JSON");
          end(() => resolve(value));
        });
      });
      request.end(body);
    });
  }
}

/**
 * The client for the device of a link, as the configuration says. Opens no connection yet.
 *
 * @throws Error with one line when the client certificate cannot be used.
 */
export function deviceClient(device: DeviceSource, neighbour: NeighbourKme, thisKme: ThisKme): DeviceClient {
  return new DeviceClient({
    device,
    ignoreSystemProxySettings: neighbour.ignoreSystemProxySettings,
    timeout: 1000 * thisKme.interKmeTimeoutSeconds,
    tlsMinVersion: thisKme.tlsMinVersion,
  });
}

/** Where a device's status names another SAE than the configuration. */
export interface WrongSae {
  readonly member: "local_SAE_id" | "remote_SAE_id";
  /** One line. */
  readonly message: string;
}

/** The SAEs of a status that are not those of the configuration: keys would be those of another pair. */
export function wrongSaes(
  { url, localSae, remoteSae }: Pick<DeviceSource, "url" | "localSae" | "remoteSae">,
  { master_SAE_ID: master = localSae, slave_SAE_ID: slave = remoteSae }: DeviceStatus,
): WrongSae[] {
  const name = formatHostPort(url.address);
  const wrong: WrongSae[] = [];
  if (master !== localSae) {
    const message = `the QKD device ${name} knows this KME as SAE ${shown(master)}, not ${localSae}`;
    wrong.push({ member: "local_SAE_id", message });
  }
  if (slave !== remoteSae) {
    const message = `the status of the QKD device ${name} is of SAE ${shown(slave)}, not ${remoteSae}`;
    wrong.push({ member: "remote_SAE_id", message });
  }
  return wrong;
}

function shown(words: string): string {
  return toOneLine(words).slice(0, MAX_WORDS);
}

function parse(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString());
  } catch {
    return undefined;
  }
}

/** What an error answer says (clause 6.5); keys cannot be in it. */
function wordsOf(value: unknown): string {
  const message = (value as { message?: unknown } | null | undefined)?.message;
  return typeof message === "string" ? `: ${shown(message)}` : "";
}

function read<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const parsed = schema.safeParse(value);
  // Without the library's words: they may quote what is there.
  if (!parsed.success) throw new DeviceFailure("the device's answer is not what the standard says", true);
  return parsed.data;
}

/** @param limit keys that are read. */
function keysOf(value: unknown, limit = Infinity): GivenKey[] {
  const keys = (value as { keys?: unknown } | null)?.keys;
  const container = Array.isArray(keys) ? { keys: keys.slice(0, limit) } : value;
  return read(containerSchema, container).keys.map(({ key_ID, key }) => ({
    id: key_ID,
    bits: decoded(key),
  }));
}

/** Base64 as bytes in memory of their own: a Buffer shares its memory with others. */
function decoded(base64: string): Uint8Array {
  const shared = Buffer.from(base64, "base64");
  const bytes = Uint8Array.from(shared);
  shared.fill(0);
  return bytes;
}
