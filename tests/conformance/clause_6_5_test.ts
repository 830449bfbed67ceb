/** Clause 6.5: Error data format. */
import assert from "node:assert/strict";
import type { SaeResponse } from "../harness/sae_client.ts";
import { assertErrorFormat, clause, target } from "./target.ts";

const { master, slave } = target;

/** Errors of each method, however it words them. */
const ERRORS: [name: string, call: () => Promise<SaeResponse>][] = [
  ["Get key, not JSON", () => master.client.encKeys(slave.id, {}, { body: "{" })],
  ["Get key, wrong type", () => master.client.encKeys(slave.id, {}, { body: '{"number":{}}' })],
  [
    "Get key, unsupported extension",
    () => master.client.encKeys(slave.id, { extension_mandatory: [{ conformancetest_unsupported: 1 }] }),
  ],
  ["Get key with key IDs, unknown key", () => slave.client.decKeys(master.id, crypto.randomUUID())],
  ["Get key with key IDs, not JSON", () => slave.client.decKeys(master.id, [], { body: "[" })],
  ["Get status, unknown SAE", () => master.client.status(`${crypto.randomUUID()}-does-not-exist`)],
];

for (const [name, call] of ERRORS) {
  clause(`6.5: message is a string, details an option, an array of objects: ${name}`, async () => {
    const response = await call();
    assert.notEqual(response.status, 200);
    if (response.status !== 401) assertErrorFormat(response.json);
  });
}

clause("6.5: details are name/value pairs: every one has a name", async () => {
  for (const [name, call] of ERRORS) {
    const { status, json } = await call();
    if (status === 401 || json?.details === undefined) continue;
    for (const detail of json.details) assert.ok(Object.keys(detail).length > 0, name);
  }
});
