/** What the tests of the SAE interface share: running networks, and what every answer must look like. */
import assert from "node:assert/strict";
import { allIngested } from "../harness/key_files.ts";
import type { KmeProcess } from "../harness/kme_process.ts";
import { makeTestNetwork, type NetworkSpec, type TestId, type TestNetwork } from "../harness/test_network.ts";
import type { SaeClient, SaeResponse } from "../harness/sae_client.ts";

export interface RunningNetwork extends TestNetwork {
  readonly processes: readonly KmeProcess[];
}

/** Blocks that are there when the KMEs start: both ends of a link, and random blocks or the bytes. */
export type Stock = [a: TestId, b: TestId, content: number | Uint8Array];

/** SAEs 1, 2 and 4 at KME 1, SAE 3 at KME 2. */
export const twoKmes: NetworkSpec = {
  kmes: [{ id: 1, nickname: "Alice", saes: [1, 2, 4] }, { id: 2, nickname: "Bob", saes: [3] }],
};

/** KME 1 alone, with SAEs 1, 2 and 4. */
export const oneKme: NetworkSpec = { kmes: [{ id: 1, saes: [1, 2, 4] }] };

/** {@linkcode oneKme} with more members of `this_kme`. */
export function oneKmeWith(options: Record<string, unknown>, database?: string): NetworkSpec {
  return { kmes: [{ id: 1, saes: [1, 2, 4], options, ...database === undefined ? {} : { database } }] };
}

/** Starts all KMEs of a network; resolves when each end of each link has its blocks in stock. */
export async function startNetwork(spec: NetworkSpec, ...stock: Stock[]): Promise<RunningNetwork> {
  const network = await makeTestNetwork(spec);
  try {
    for (const [a, b, content] of stock) await network.writeKeyFile(a, b, content);
    const processes = await network.startAll();
    for (const { keyDirectories } of spec.kmes.map((kme) => network.kme(kme.id))) {
      await allIngested(keyDirectories.values());
    }
    return Object.assign(network, { processes });
  } catch (error) {
    await network.remove();
    throw error;
  }
}

/** What enc_keys can deliver now, as Status says. */
export async function stockOf(client: SaeClient, slave: TestId): Promise<number> {
  const response = await client.status(slave);
  assert.equal(response.status, 200, response.text);
  return response.json.stored_key_count;
}

/** Fails unless an answer has the form and the headers that every answer has. */
export function assertForm(response: SaeResponse): void {
  assert.equal(response.headers["content-type"], "application/json");
  assert.equal(response.headers["cache-control"], "no-store");
  assert.ok(response.json !== undefined, "the body is not JSON");
  const compact = `${JSON.stringify(JSON.parse(response.text))}\n`;
  assert.ok(response.text === compact, "the body is not compact JSON and a newline");
}

/** Fails unless it is this error, in the form of clause 6.5, with exactly these details. */
export function assertProblem(
  response: SaeResponse,
  status: number,
  message?: string | RegExp,
  details?: unknown,
): void {
  assert.equal(
    response.status,
    status,
    response.status === 200 ? "answered as if it were right" : response.text,
  );
  assertForm(response);
  const { json } = response;
  assert.deepEqual(Object.keys(json).filter((name) => name !== "message" && name !== "details"), []);
  assert.equal(typeof json.message, "string");
  if (typeof message === "string") assert.equal(json.message, message);
  else if (message !== undefined) assert.match(json.message, message);
  if (details !== undefined) assert.deepEqual(json.details, details);
  if (json.details !== undefined) {
    assert.ok(Array.isArray(json.details) && json.details.length > 0, "details is not a list");
  }
  assert.doesNotMatch(
    response.text,
    /\bat .*\.ts\b|\.ts:\d|sqlite|select |insert /i,
    "the answer shows internals",
  );
}

/** A UUID that no block has. */
export function unknownKeyId(): string {
  return crypto.randomUUID();
}
