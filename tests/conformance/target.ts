/**
 * The server that the conformance tests talk to: the one that `KME_CONFORMANCE_...` name, or else two KMEs of this project
 * that are started for each file. The README beside this file says how.
 */
import assert from "node:assert/strict";
import { makeTestNetwork } from "../harness/test_network.ts";
import { SaeClient, type SaeClientOptions, type SaeResponse } from "../harness/sae_client.ts";
import { makeTestCa } from "../harness/test_certificates.ts";
import { eventually } from "../harness/eventually.ts";

/** An SAE and its KME. */
export interface Party {
  /** SAE ID. */
  readonly id: string;
  readonly client: SaeClient;
  /** What `client` was made with. */
  readonly options: SaeClientOptions;
}

/** Items of the Status data format (clause 6.1). */
export interface Status {
  readonly source_KME_ID: string;
  readonly target_KME_ID: string;
  readonly master_SAE_ID: string;
  readonly slave_SAE_ID: string;
  readonly key_size: number;
  readonly stored_key_count: number;
  readonly max_key_count: number;
  readonly max_key_per_request: number;
  readonly max_key_size: number;
  readonly min_key_size: number;
  readonly max_SAE_ID_count: number;
}

export interface Target {
  readonly master: Party;
  readonly slave: Party;
  /** Of the slave's KME. */
  readonly third: Party;
  /** What the master's KME said of keys with the slave when the tests began. */
  readonly status: Status;
  /** True: keys come and go only by these tests, so that counts can be compared. */
  readonly atRest: boolean;
}

const PREFIX = "KME_CONFORMANCE_";
const BLOCKS = 1200;

const clients: SaeClient[] = [];
Deno.test.afterAll(() => {
  for (const client of clients) client.close();
});

/** The server under test. */
export const target: Target = await open();

/** Options that a KME need not offer; a test that needs one is ignored, with the reason in its name. */
export const offers = {
  multicast: {
    offered: target.status.max_SAE_ID_count > 0,
    reason: "max_SAE_ID_count of Status is 0",
  },
  severalKeys: {
    offered: target.status.max_key_per_request > 1,
    reason: "max_key_per_request of Status is 1",
  },
  severalSizes: {
    offered: target.status.min_key_size < target.status.max_key_size,
    reason: "min_key_size and max_key_size of Status are the same",
  },
  counts: {
    offered: target.atRest,
    reason: `other keys may come and go; ${PREFIX}AT_REST=1 says that none do`,
  },
} as const;

/** Registers the test of one statement. */
export function clause(
  name: string,
  fn: () => void | Promise<void>,
  needs: readonly { readonly offered: boolean; readonly reason: string }[] = [],
): void {
  const missing = needs.find(({ offered }) => !offered);
  Deno.test({
    name: missing === undefined ? name : `${name} (${missing.reason})`,
    ignore: missing !== undefined,
    fn,
    // The KMEs and the connections to them outlive a test.
    sanitizeOps: false,
    sanitizeResources: false,
  });
}

/** New keys for the slave, and perhaps others. */
export async function newKeys(request: Record<string, unknown> = {}): Promise<SaeResponse> {
  const response = await target.master.client.encKeys(target.slave.id, request);
  assert.equal(response.status, 200, response.status === 200 ? "" : `Get key failed: ${response.text}`);
  return response;
}

/** Fails unless it is an error with this status and, except for a 401, a body of the Error data format (clause 6.5). */
export function assertError(response: SaeResponse, statuses: readonly number[], message?: string): void {
  assert.ok(
    statuses.includes(response.status),
    `status ${response.status}, not ${statuses.join(" or ")}${
      response.status === 200 ? "" : `: ${response.text}`
    }`,
  );
  if (response.status === 401) return;
  assertErrorFormat(response.json);
  if (message !== undefined) assert.equal(response.json.message, message);
}

/** Fails unless a value has the Error data format (clause 6.5). */
export function assertErrorFormat(value: unknown): void {
  assert.ok(isObject(value), "the body is no JSON object");
  assert.equal(typeof value.message, "string", "message is no string");
  if (!("details" in value)) return;
  assert.ok(Array.isArray(value.details), "details is no array");
  for (const detail of value.details) assert.ok(isObject(detail), "a detail is no object");
}

/** Fails unless the call does not succeed: a refused handshake, a closed connection, or a 401. */
export async function assertRefused(call: Promise<SaeResponse>): Promise<void> {
  const response = await call.catch(() => undefined);
  if (response !== undefined) assert.equal(response.status, 401);
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A client like a party's, but with other options; closed with the others. */
export function clientLike(party: Party, options: Partial<SaeClientOptions>): SaeClient {
  const client = new SaeClient({ ...party.options, ...options });
  clients.push(client);
  return client;
}

/** A certificate of a CA that no KME knows. */
export async function strangersCertificate(): Promise<Pick<SaeClientOptions, "cert" | "key">> {
  const { cert, key } = await (await makeTestCa("unknown CA")).client({ commonName: target.master.id });
  return { cert, key };
}

async function open(): Promise<Target> {
  const named = Object.keys(Deno.env.toObject()).filter((name) => name.startsWith(PREFIX));
  const found = named.length > 0 ? openNamed() : await openOwn();
  const response = await found.master.client.status(found.slave.id);
  if (response.status !== 200) {
    throw new Error(`Get status failed with status ${response.status}: ${response.text}`);
  }
  return { ...found, status: response.json };
}

function openNamed(): Omit<Target, "status"> {
  const need = (name: string): string => {
    const value = Deno.env.get(PREFIX + name);
    if (value === undefined || value === "") throw new Error(`${PREFIX}${name} is not set`);
    return value;
  };
  const either = (name: string, otherwise: () => string) => Deno.env.get(PREFIX + name) || otherwise();
  const make = (role: "MASTER" | "SLAVE" | "THIRD"): Party => {
    const url = new URL(either(`${role}_URL`, () => need(role === "THIRD" ? "SLAVE_URL" : `${role}_URL`)));
    if (url.protocol !== "https:") throw new Error(`${PREFIX}${role}_URL: ${url} is not https`);
    const ca = either(
      `${role}_CA`,
      () => either(role === "THIRD" ? "SLAVE_CA" : "CA", () => need("CA")),
    );
    return party(need(`${role}_SAE_ID`), {
      hostname: url.hostname.replace(/^\[|\]$/g, ""),
      port: Number(url.port || 443),
      ca: Deno.readTextFileSync(ca),
      cert: Deno.readTextFileSync(need(`${role}_CERT`)),
      key: Deno.readTextFileSync(need(`${role}_KEY`)),
    });
  };
  return {
    master: make("MASTER"),
    slave: make("SLAVE"),
    third: make("THIRD"),
    atRest: Deno.env.get(`${PREFIX}AT_REST`) === "1",
  };
}

async function openOwn(): Promise<Omit<Target, "status">> {
  const network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1] }, { id: 2, saes: [2, "third SAE"] }] });
  Deno.test.afterAll(() => network.remove());
  await network.writeKeyFile(1, 2, BLOCKS);
  await network.startAll();
  const make = (id: string) => {
    const { cert, key, ca, kmeId } = network.sae(id);
    return party(id, { hostname: "127.0.0.1", port: network.kme(kmeId).saesPort, cert, key, ca });
  };
  const parties = { master: make("1"), slave: make("2"), third: make("third SAE") };
  for (const [a, b] of [[parties.master, parties.slave], [parties.slave, parties.master]] as const) {
    const stock = async () => (await a!.client.status(b!.id)).json.stored_key_count === BLOCKS;
    await eventually(stock, { what: "keys in stock" });
  }
  return { ...parties, atRest: true };
}

function party(id: string, options: SaeClientOptions): Party {
  const client = new SaeClient(options);
  clients.push(client);
  return { id, client, options };
}
