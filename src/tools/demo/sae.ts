/** An SAE of the demo. */
import { keyFingerprint } from "../key_fingerprint.ts";
import { SaeClient, type SaeKey } from "../sae_client.ts";

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
  readonly fingerprint: string;
}

export class DemoSae {
  readonly #options: SaeOptions;
  readonly #client: SaeClient;

  constructor(options: SaeOptions) {
    this.#options = options;
    this.#client = new SaeClient({
      base: new URL(options.base),
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
    return (await this.#client.status(slave)).stored_key_count as number;
  }

  async encKey(slave: string): Promise<ReceivedKey> {
    return onlyKey(await this.#client.getKeys(slave));
  }

  async decKey(master: string, keyId: string): Promise<ReceivedKey> {
    return onlyKey(await this.#client.getKeysWithIds(master, [keyId]));
  }

  close(): void {
    this.#client.close();
  }
}

function onlyKey([key]: readonly SaeKey[]): ReceivedKey {
  return { keyId: key!.keyId, fingerprint: keyFingerprint(key!.bits) };
}
