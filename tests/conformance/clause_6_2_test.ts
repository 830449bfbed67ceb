/** Clause 6.2: Key request data format. */
import assert from "node:assert/strict";
import { assertSameKeys, keyIdsOf, keysOf, type SaeResponse } from "../harness/sae_client.ts";
import { assertError, clause, newKeys, offers, target } from "./target.ts";

const { master, slave, third, status } = target;

function sizes(response: SaeResponse): number[] {
  return keysOf(response).map(({ key }) => Uint8Array.fromBase64(key).length * 8);
}

clause("6.2: number is an option, its default value is 1", async () => {
  assert.equal(keysOf(await newKeys({ size: status.key_size })).length, 1);
});

clause("6.2: number is the number of keys requested", async () => {
  for (const number of [1, 2]) assert.equal(keysOf(await newKeys({ number })).length, number);
}, [offers.severalKeys]);

clause("6.2: size is an option, its default value is key_size of Status", async () => {
  assert.deepEqual(sizes(await newKeys({ number: 1 })), [status.key_size]);
});

clause("6.2: size is the size of each key in bits, and both ends get it", async () => {
  for (const size of [status.min_key_size, status.max_key_size].filter((size) => size % 8 === 0)) {
    const enc = await newKeys({ size });
    assert.deepEqual(sizes(enc), [size]);
    assertSameKeys(await slave.client.decKeys(master.id, keyIdsOf(enc)), enc);
  }
}, [offers.severalSizes]);

clause("6.2: all items are optional and the Key request may be empty", async () => {
  for (const body of ["{}", undefined]) {
    const response = await master.client.encKeys(
      slave.id,
      {},
      body === undefined ? { method: "GET" } : { body },
    );
    assert.deepEqual(sizes(response), [status.key_size]);
  }
});

clause("6.2: a request that would be empty may be a GET with no message body", async () => {
  const path = `/api/v1/keys/${encodeURIComponent(slave.id)}/enc_keys`;
  assert.deepEqual(sizes(await master.client.raw({ path })), [status.key_size]);
});

clause("6.2: number and size may be URI parameters of a GET", async () => {
  const path = `/api/v1/keys/${encodeURIComponent(slave.id)}/enc_keys`;
  const size = status.min_key_size % 8 === 0 ? status.min_key_size : status.key_size;
  assert.deepEqual(sizes(await master.client.raw({ path: `${path}?number=2&size=${size}` })), [size, size]);
  assert.deepEqual(sizes(await master.client.raw({ path: `${path}?size=${size}` })), [size]);
  assert.equal(keysOf(await master.client.raw({ path: `${path}?number=2` })).length, 2);
}, [offers.severalKeys]);

clause("6.2: size that is no multiple of 8: keys, or a 400 with the message of the standard", async () => {
  const size = status.key_size % 8 === 0 ? status.key_size - 1 : status.key_size;
  for (const method of ["POST", "GET"] as const) {
    const response = await master.client.encKeys(slave.id, { size }, { method });
    if (response.status !== 200) assertError(response, [400], "size shall be a multiple of 8");
  }
});

clause(
  "6.2: additional_slave_SAE_IDs: the identical key material is shared with the other slave SAEs",
  async () => {
    const enc = await newKeys({ additional_slave_SAE_IDs: [third.id] });
    assertSameKeys(await third.client.decKeys(master.id, keyIdsOf(enc)), enc);
    assertSameKeys(await slave.client.decKeys(master.id, keyIdsOf(enc)), enc);
  },
  [offers.multicast],
);

clause("6.2: additional_slave_SAE_IDs may be empty", async () => {
  assert.equal(keysOf(await newKeys({ additional_slave_SAE_IDs: [] })).length, 1);
});

clause("6.2: additional_slave_SAE_IDs: no more than max_SAE_ID_count of Status", async () => {
  const ids = Array.from(
    { length: status.max_SAE_ID_count + 1 },
    (_, i) => i === 0 ? third.id : `no SAE ${i}`,
  );
  assertError(await master.client.encKeys(slave.id, { additional_slave_SAE_IDs: ids }), [400, 503]);
});

clause("6.2: extension_mandatory that is not supported: 400 with the message of the standard", async () => {
  for (const value of ["direct", 1, null, { deep: [true] }]) {
    const response = await master.client.encKeys(slave.id, {
      extension_mandatory: [{ conformancetest_unsupported: value }],
    });
    assertError(response, [400], "not all extension_mandatory parameters are supported");
  }
});

clause("6.2: extension_mandatory may be empty", async () => {
  assert.equal(keysOf(await newKeys({ extension_mandatory: [] })).length, 1);
});

clause("6.2: extension_optional may be ignored, or be a 400 with the message of the standard", async () => {
  const response = await master.client.encKeys(slave.id, {
    extension_optional: [{ conformancetest_max_age: 30000 }, { conformancetest_type: { deep: [true] } }],
  });
  if (response.status === 200) assert.equal(keysOf(response).length, 1);
  else assertError(response, [400], "not all extension_optional request options handled");
});
