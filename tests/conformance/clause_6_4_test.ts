/** Clause 6.4: Key IDs data format. */
import assert from "node:assert/strict";
import { assertSameKeys, keyIdsOf } from "../harness/sae_client.ts";
import { assertError, clause, newKeys, offers, target } from "./target.ts";

const { master, slave } = target;

const NOT_FOUND = "one or more keys specified are not found on KME";

clause("6.4: key_IDs is an array of objects with a key_ID each", async () => {
  const enc = await newKeys();
  const body = { key_IDs: keyIdsOf(enc).map((key_ID) => ({ key_ID })) };
  assertSameKeys(await slave.client.decKeys(master.id, [], { body }), enc);
});

clause("6.4: two or more key IDs are specified with POST", async () => {
  const enc = await newKeys({ number: 2 });
  assertSameKeys(await slave.client.decKeys(master.id, keyIdsOf(enc)), enc);
}, [offers.severalKeys]);

clause("6.4: key IDs of several calls of Get key may be specified together", async () => {
  const ids = [...keyIdsOf(await newKeys()), ...keyIdsOf(await newKeys())];
  assert.deepEqual(keyIdsOf(await slave.client.decKeys(master.id, ids)).toSorted(), ids.toSorted());
}, [offers.severalKeys]);

clause("6.4: a single key ID may be specified with GET and no message body", async () => {
  const [id] = keyIdsOf(await newKeys());
  const path = `/api/v1/keys/${encodeURIComponent(master.id)}/dec_keys?key_ID=${id}`;
  assert.deepEqual(keyIdsOf(await slave.client.raw({ path })), [id]);
});

clause("6.4: key_ID_extension and key_IDs_extension are options: objects are taken", async () => {
  const [key_ID] = keyIdsOf(await newKeys());
  const body = { key_IDs: [{ key_ID, key_ID_extension: {} }], key_IDs_extension: {} };
  assert.deepEqual(keyIdsOf(await slave.client.decKeys(master.id, [], { body })), [key_ID]);
});

for (const method of ["GET", "POST"] as const) {
  clause(
    `6.4: a key that the KME is not able to return: 400 with the message of the standard, ${method}`,
    async () => {
      const response = await slave.client.decKeys(master.id, crypto.randomUUID(), { method });
      assertError(response, [400], NOT_FOUND);
    },
  );
}

clause("6.4: one or more keys that the KME is not able to return: 400, beside one that it is", async () => {
  const enc = await newKeys();
  const [id] = keyIdsOf(enc);
  for (const ids of [[id!, crypto.randomUUID()], [crypto.randomUUID(), id!]]) {
    assertError(await slave.client.decKeys(master.id, ids), [400], NOT_FOUND);
  }
  // It was not provided, so that it is still there.
  assertSameKeys(await slave.client.decKeys(master.id, id!), enc);
}, [offers.severalKeys]);
