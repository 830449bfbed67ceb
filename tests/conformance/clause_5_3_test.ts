/** Clause 5.3: Get key. */
import assert from "node:assert/strict";
import { assertSameKeys, keyIdsOf, keysOf } from "../harness/sae_client.ts";
import { assertError, clause, newKeys, offers, target } from "./target.ts";

const { master, slave } = target;

clause("5.3: Get key returns Key container data to the calling master SAE", async () => {
  const keys = keysOf(await newKeys());
  assert.equal(keys.length, 1);
});

clause("5.3: Key container data contains one or more keys", async () => {
  const ids = keyIdsOf(await newKeys({ number: 2 }));
  assert.equal(new Set(ids).size, 2);
}, [offers.severalKeys]);

clause("5.3: the slave SAE may subsequently request matching keys using key_ID identifiers", async () => {
  const enc = await newKeys();
  assertSameKeys(await slave.client.decKeys(master.id, keyIdsOf(enc)), enc);
});

clause("5.3: any SAE may be the master: the other end gets keys for this one", async () => {
  const enc = await slave.client.encKeys(master.id);
  assertSameKeys(await master.client.decKeys(slave.id, keyIdsOf(enc)), enc);
});

for (const method of ["POST", "GET"] as const) {
  clause(`5.3: access method POST, or GET for simple requests: ${method}`, async () => {
    const response = await master.client.encKeys(slave.id, { number: 1 }, { method });
    assert.equal(keysOf(response).length, 1);
  });
}

clause("5.3: {slave_SAE_ID} is the URL-encoded SAE ID", async () => {
  const encoded = [...new TextEncoder().encode(slave.id)]
    .map((byte) => `%${byte.toString(16).padStart(2, "0")}`).join("");
  const response = await master.client.raw({ path: `/api/v1/keys/${encoded}/enc_keys` });
  assertSameKeys(await slave.client.decKeys(master.id, keyIdsOf(response)), response);
});

clause("5.3: keys provided to the SAE are removed from the key pool: none is delivered again", async () => {
  const ids = new Set<string>();
  const bits = new Set<string>();
  for (const party of [master, master, slave, slave]) {
    const other = party === master ? slave : master;
    for (const { key_ID, key } of keysOf(await party.client.encKeys(other.id))) {
      assert.ok(!ids.has(key_ID), "a key_ID twice");
      assert.ok(!bits.has(key), "a key twice");
      ids.add(key_ID);
      bits.add(key);
    }
  }
});

clause("5.3: the requested number of keys is removed from the key pool: stored_key_count falls", async () => {
  const count = async () => (await master.client.status(slave.id)).json.stored_key_count;
  const before = await count();
  await newKeys({ number: 2 });
  assert.equal(await count(), before - 2);
}, [offers.severalKeys, offers.counts]);

const BAD: [name: string, body: string][] = [
  ["a body that is not JSON", "{"],
  ["a body that is no object", "[]"],
  ["number that is no integer", '{"number":"one"}'],
  ["size that is no integer", '{"size":"large"}'],
  ["additional_slave_SAE_IDs that is no array", '{"additional_slave_SAE_IDs":"x"}'],
  ["extension_mandatory that is no array", '{"extension_mandatory":"x"}'],
];
for (const [name, body] of BAD) {
  clause(`5.3: 400 with Error for a bad request format: ${name}`, async () => {
    assertError(await master.client.encKeys(slave.id, {}, { body }), [400]);
  });
}

clause(
  "5.3: Get key may return an error 400, 401 or 503: an SAE ID that does not exist gets one",
  async () => {
    assertError(await master.client.encKeys(`${crypto.randomUUID()}-does-not-exist`), [400, 401, 503]);
  },
);
