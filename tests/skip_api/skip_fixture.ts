/** What the tests of the SKIP interface share: two running KMEs with it, and clients. */
import assert from "node:assert/strict";
import type { SaeClient, SaeResponse } from "../harness/sae_client.ts";
import type { NetworkSpec, TestId, TestNetwork } from "../harness/test_network.ts";

/** SAEs 1 and 2 at KME 1, SAEs 3 and 5 at KME 2; both KMEs have a SKIP interface, KME 1 a console. */
export const twoSkipKmes: NetworkSpec = {
  kmes: [
    { id: 1, saes: [1, 2], skip: true, console: true },
    { id: 2, saes: [3, 5], skip: true },
  ],
};

/** A key as SKIP has it. */
export interface SkipKey {
  /** 32 hexadecimal digits. */
  readonly keyId: string;
  /** Hexadecimal. */
  readonly key: string;
}

export class SkipClient {
  readonly #client: SaeClient;

  /** A client with the certificate of the SAE, at the SKIP interface of its KME; closed by the network. */
  constructor(network: TestNetwork, sae: TestId) {
    this.#client = network.client(sae, { port: network.kme(network.sae(sae).kmeId).skipPort });
  }

  get(path: string, headers?: Record<string, string>): Promise<SaeResponse> {
    return this.#client.raw({ path, headers });
  }

  raw(method: string, path: string, body?: string): Promise<SaeResponse> {
    return this.#client.raw({ method, path, body });
  }

  newKey(remoteSystem: TestId, size?: number): Promise<SaeResponse> {
    return this.get(`/key?remoteSystemID=${remoteSystem}${size === undefined ? "" : `&size=${size}`}`);
  }

  keyById(keyId: string, remoteSystem: TestId): Promise<SaeResponse> {
    return this.get(`/key/${keyId}?remoteSystemID=${remoteSystem}`);
  }
}

/** The key of an answer. Fails, without showing a key, when it is not a 200 with exactly a key of this size. */
export function skipKeyOf(response: SaeResponse, size = 256): SkipKey {
  if (response.status !== 200) assert.fail(`status ${response.status}: ${response.text}`);
  assert.deepEqual(Object.keys(response.json), ["keyId", "key"]);
  const { keyId, key } = response.json as SkipKey;
  assert.match(keyId, /^[0-9a-f]{32}$/);
  assert.ok(new RegExp(`^[0-9a-f]{${size / 4}}$`).test(key), "the key is not that many hexadecimal digits");
  return { keyId, key };
}

/** The key_ID of clause 6.3 for a keyId. */
export function toUuid(keyId: string): string {
  return keyId.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

export function toSkipId(uuid: string): string {
  return uuid.replaceAll("-", "");
}

/** Fails, without showing a key, when a key of SKIP and one of ETSI GS QKD 014 differ. */
export function assertSameBits({ key }: SkipKey, base64: string): void {
  assert.ok(Uint8Array.fromHex(key).toBase64() === base64, "the keys have other bits");
}
