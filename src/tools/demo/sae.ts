/** A minimal SAE for the demo. */
import { createHash } from "node:crypto";
import { Buffer } from "node:buffer";
import https from "node:https";

interface SaeOptions {
  readonly id: string;
  /** Base of its KME's SAE interface, like `https://127.0.0.1:13000`. */
  readonly base: string;
  /** Paths of PEM files. */
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

interface ReceivedKey {
  readonly keyId: string;
  /** First 16 hex digits of the SHA-256 of the key: tells whether two keys agree, without showing them. */
  readonly fingerprint: string;
}

export class DemoSae {
  readonly #options: SaeOptions;
  readonly #agent: https.Agent;

  constructor(options: SaeOptions) {
    this.#options = options;
    this.#agent = new https.Agent({
      keepAlive: true,
      ca: Deno.readTextFileSync(options.ca),
      cert: Deno.readTextFileSync(options.cert),
      key: Deno.readTextFileSync(options.key),
    });
  }

  get id(): string {
    return this.#options.id;
  }

  /** The curl command that sends the same request. */
  curl(path: string): string {
    const { base, ca, cert, key } = this.#options;
    return `curl --cacert ${ca} --cert ${cert} --key ${key} '${base}/api/v1/keys/${path}'`;
  }

  /** Keys in stock for a slave. */
  async stock(slave: string): Promise<number> {
    return (await this.#get(`${slave}/status`) as { stored_key_count: number }).stored_key_count;
  }

  async encKey(slave: string): Promise<ReceivedKey> {
    return onlyKey(await this.#get(`${slave}/enc_keys`));
  }

  async decKey(master: string, keyId: string): Promise<ReceivedKey> {
    return onlyKey(await this.#get(`${master}/dec_keys?key_ID=${keyId}`));
  }

  close(): void {
    this.#agent.destroy();
  }

  #get(path: string): Promise<unknown> {
    return new Promise((resolve, reject) => {
      https.get(`${this.#options.base}/api/v1/keys/${path}`, { agent: this.#agent }, (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (chunk: string) => text += chunk);
        response.on("error", reject);
        response.on("end", () => {
          if (response.statusCode === 200) resolve(JSON.parse(text));
          else reject(new Error(`SAE ${this.id} got ${response.statusCode}: ${text}`));
        });
      }).on("error", reject);
    });
  }
}

function onlyKey(container: unknown): ReceivedKey {
  const [{ key_ID, key }] = (container as { keys: [{ key_ID: string; key: string }] }).keys;
  const digest = createHash("sha256").update(Buffer.from(key, "base64")).digest("hex");
  return { keyId: key_ID, fingerprint: digest.slice(0, 16) };
}
