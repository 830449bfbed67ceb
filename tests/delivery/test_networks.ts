/** Networks that the tests of several KMEs share, and what they look at. */
import assert from "node:assert/strict";
import { allIngested } from "../harness/key_files.ts";
import type { NetworkSpec, TestId, TestNetwork } from "../harness/test_network.ts";
import { assertSameKeys, keyIdsOf, type SaeResponse } from "../harness/sae_client.ts";
import { stockOf } from "../sae_api/api_fixture.ts";

/** SAEs 1 and 11 at KME 1, SAE 2 at KME 2. */
export const pair: NetworkSpec = { kmes: [{ id: 1, saes: [1, 11] }, { id: 2, saes: [2] }] };

/** SAEs 1 and 11 at KME 1, SAEs 2 and 22 at KME 2, SAE 3 at KME 3; each two KMEs share a link. */
export const triangle: NetworkSpec = {
  kmes: [{ id: 1, saes: [1, 11] }, { id: 2, saes: [2, 22] }, { id: 3, saes: [3] }],
};

/** Four KMEs in a row: SAEs 1 and 11 at KME 1, SAE n at KME n. */
export const chain: NetworkSpec = {
  kmes: [{ id: 1, saes: [1, 11] }, { id: 2, saes: [2] }, { id: 3, saes: [3] }, { id: 4, saes: [4] }],
  links: [[1, 2], [2, 3], [3, 4]],
  reachedThrough: [
    { kme: 1, other: 3, through: 2 },
    { kme: 1, other: 4, through: 3 },
    { kme: 2, other: 4, through: 3 },
    { kme: 3, other: 1, through: 2 },
    { kme: 4, other: 2, through: 3 },
    { kme: 4, other: 1, through: 2 },
  ],
};

/** {@linkcode triangle}, and KME 4 with SAE 4, which has a link with KME 3 only. */
export const triangleWithTail: NetworkSpec = {
  kmes: [...triangle.kmes, { id: 4, saes: [4] }],
  links: [[1, 2], [1, 3], [2, 3], [3, 4]],
  reachedThrough: [
    { kme: 1, other: 4, through: 3 },
    { kme: 2, other: 4, through: 3 },
    { kme: 4, other: 1, through: 3 },
    { kme: 4, other: 2, through: 3 },
  ],
};

/** The same network with other members of every `this_kme`. */
export function withOptions(
  spec: NetworkSpec,
  options: Record<string, unknown>,
  database?: string,
): NetworkSpec {
  return { ...spec, kmes: spec.kmes.map((kme) => ({ ...kme, options, database })) };
}

/** Each slave reads the keys of an answer once: the same, and never again. */
export async function assertEachReadsOnce(
  network: TestNetwork,
  enc: SaeResponse,
  master: TestId,
  slaves: readonly TestId[],
): Promise<void> {
  const ids = keyIdsOf(enc);
  for (const slave of slaves) {
    const dec = await network.client(slave).decKeys(master, ids);
    assert.equal(dec.status, 200, `SAE ${slave}: ${dec.status === 200 ? "" : dec.text}`);
    assertSameKeys(dec, enc);
    assert.equal((await network.client(slave).decKeys(master, ids)).status, 400, `SAE ${slave} reads twice`);
  }
}

/** Free blocks as an SAE at one end of a link and one at the other see them. */
export async function stocks(
  network: TestNetwork,
  ...ends: [sae: TestId, other: TestId][]
): Promise<number[]> {
  return await Promise.all(ends.flatMap(([a, b]) => [
    stockOf(network.client(a), b),
    stockOf(network.client(b), a),
  ]));
}

/** Bytes of each key of an answer. Never print them. */
export function bitsOf(response: SaeResponse): Uint8Array[] {
  keyIdsOf(response);
  return response.json.keys.map(({ key }: { key: string }) =>
    Uint8Array.fromBase64(key, { lastChunkHandling: "strict" })
  );
}

/** Resolves when the key files of every KME have been ingested. */
export async function allKmesIngested(network: TestNetwork, spec: NetworkSpec): Promise<void> {
  for (const { id } of spec.kmes) await allIngested(network.kme(id).keyDirectories.values());
}
