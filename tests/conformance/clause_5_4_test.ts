/** Clause 5.4: Get key with key IDs. */
import assert from "node:assert/strict";
import { assertSameKeys, keyIdsOf } from "../harness/sae_client.ts";
import { assertError, clause, newKeys, offers, target } from "./target.ts";

const { master, slave, third } = target;

const NOT_FOUND = "one or more keys specified are not found on KME";

clause(
  "5.4: Get key with key IDs returns the keys that were delivered to the remote master SAE",
  async () => {
    const enc = await newKeys();
    assertSameKeys(await slave.client.decKeys(master.id, keyIdsOf(enc)), enc);
  },
);

clause("5.4: the keys match the Key IDs supplied, and are no others", async () => {
  const [a, b] = [keyIdsOf(await newKeys())[0]!, keyIdsOf(await newKeys())[0]!];
  assert.deepEqual(keyIdsOf(await slave.client.decKeys(master.id, b)), [b]);
  assert.deepEqual(keyIdsOf(await slave.client.decKeys(master.id, a)), [a]);
});

for (const method of ["POST", "GET"] as const) {
  clause(`5.4: access method POST, or GET for simple requests: ${method}`, async () => {
    const enc = await newKeys();
    assertSameKeys(await slave.client.decKeys(master.id, keyIdsOf(enc), { method }), enc);
  });
}

clause("5.4: {master_SAE_ID} is the URL-encoded SAE ID", async () => {
  const enc = await newKeys();
  const encoded = [...new TextEncoder().encode(master.id)]
    .map((byte) => `%${byte.toString(16).padStart(2, "0")}`).join("");
  const path = `/api/v1/keys/${encoded}/dec_keys?key_ID=${keyIdsOf(enc)[0]}`;
  assertSameKeys(await slave.client.raw({ path }), enc);
});

clause("5.4: the KME shall reject with 401 an SAE whose SAE ID was not supplied to Get key", async () => {
  const enc = await newKeys();
  const [id] = keyIdsOf(enc);
  for (const method of ["GET", "POST"] as const) {
    assert.equal((await third.client.decKeys(master.id, id!, { method })).status, 401);
  }
  // It was not provided to anybody, so that it is still there.
  assertSameKeys(await slave.client.decKeys(master.id, id!), enc);
});

clause("5.4: the KME shall reject with 401 when that is so for any of the Key IDs requested", async () => {
  const [theirs] = keyIdsOf(await newKeys());
  const own = await master.client.encKeys(third.id);
  const [mine] = keyIdsOf(own);
  for (const ids of [[mine!, theirs!], [theirs!, mine!]]) {
    assert.equal((await third.client.decKeys(master.id, ids)).status, 401);
  }
  assertSameKeys(await third.client.decKeys(master.id, mine!), own);
}, [offers.severalKeys]);

clause(
  "5.4: keys provided to the SAE are removed from the key pool: a second request does not find them",
  async () => {
    const ids = keyIdsOf(await newKeys());
    assert.equal((await slave.client.decKeys(master.id, ids)).status, 200);
    for (const method of ["GET", "POST"] as const) {
      assertError(await slave.client.decKeys(master.id, ids, { method }), [400], NOT_FOUND);
    }
  },
);

const BAD: [name: string, body: string][] = [
  ["a body that is not JSON", "{"],
  ["a body that is no object", "[]"],
  ["no key_IDs", "{}"],
  ["key_IDs that is no array", '{"key_IDs":"x"}'],
  ["an item without key_ID", '{"key_IDs":[{}]}'],
  ["a key_ID that is no string", '{"key_IDs":[{"key_ID":1}]}'],
];
for (const [name, body] of BAD) {
  clause(`5.4: 400 with Error for a bad request format: ${name}`, async () => {
    assertError(await slave.client.decKeys(master.id, [], { body }), [400]);
  });
}
