/** Clause 6.1: Status data format. */
import assert from "node:assert/strict";
import { assertError, clause, isObject, newKeys, offers, target } from "./target.ts";
import { keysOf } from "../harness/sae_client.ts";

const { master, slave, status } = target;

const STRINGS = ["source_KME_ID", "target_KME_ID", "master_SAE_ID", "slave_SAE_ID"] as const;
const INTEGERS = [
  "key_size",
  "stored_key_count",
  "max_key_count",
  "max_key_per_request",
  "max_key_size",
  "min_key_size",
  "max_SAE_ID_count",
] as const;

for (const name of STRINGS) {
  clause(`6.1: ${name} is a string`, () => {
    assert.equal(typeof status[name], "string");
    assert.notEqual(status[name], "");
  });
}

for (const name of INTEGERS) {
  clause(`6.1: ${name} is an integer`, () => {
    assert.ok(Number.isSafeInteger(status[name]), `${name} is ${status[name]}`);
    assert.ok(status[name] >= 0, `${name} is ${status[name]}`);
  });
}

clause("6.1: status_extension is an option: absent or an object", () => {
  const { status_extension } = status as { status_extension?: unknown };
  assert.ok(status_extension === undefined || isObject(status_extension));
});

clause(
  "6.1: master_SAE_ID is the SAE ID of the calling master SAE, slave_SAE_ID that of the specified slave SAE",
  async () => {
    const { json } = await slave.client.status(master.id);
    assert.deepEqual([status.master_SAE_ID, status.slave_SAE_ID], [master.id, slave.id]);
    assert.deepEqual([json.master_SAE_ID, json.slave_SAE_ID], [slave.id, master.id]);
  },
);

clause("6.1: source_KME_ID is the KME ID of the KME, target_KME_ID that of the target KME", async () => {
  const { json } = await slave.client.status(master.id);
  assert.deepEqual([status.source_KME_ID, status.target_KME_ID], [json.target_KME_ID, json.source_KME_ID]);
});

clause("6.1: key_size, the default, lies between min_key_size and max_key_size", () => {
  assert.ok(status.min_key_size <= status.key_size);
  assert.ok(status.key_size <= status.max_key_size);
});

clause("6.1: max_key_count is the maximum of stored_key_count", async () => {
  const { json } = await master.client.status(slave.id);
  assert.ok(json.stored_key_count <= json.max_key_count);
});

clause(
  "6.1: stored_key_count is the number of keys the KME can deliver: one of them can be had",
  async () => {
    const { json } = await master.client.status(slave.id);
    assert.ok(json.stored_key_count > 0, "there are no keys to test with");
    assert.equal(keysOf(await newKeys()).length, 1);
  },
);

clause(
  "6.1: max_key_per_request is the maximum number of keys per request: that many are delivered",
  async () => {
    const { json } = await master.client.status(slave.id);
    assert.ok(json.max_key_per_request <= json.stored_key_count, "there are too few keys to test with");
    assert.equal(
      keysOf(await newKeys({ number: json.max_key_per_request })).length,
      json.max_key_per_request,
    );
  },
  [offers.counts],
);

clause(
  "6.1: max_key_per_request is the maximum number of keys per request: one more is an error",
  async () => {
    const response = await master.client.encKeys(slave.id, { number: status.max_key_per_request + 1 });
    assertError(response, [400, 503]);
  },
);

for (
  const [name, size] of [["max_key_size", status.max_key_size], [
    "min_key_size",
    status.min_key_size,
  ]] as const
) {
  clause(`6.1: ${name} is a size the KME can deliver`, async () => {
    const [key] = keysOf(await newKeys({ size }));
    assert.equal(Uint8Array.fromBase64(key!.key).length, Math.ceil(size / 8));
  });
}

clause("6.1: max_key_size is the maximum, min_key_size the minimum: beyond is an error", async () => {
  assertError(await master.client.encKeys(slave.id, { size: status.max_key_size + 8 }), [400, 503]);
  if (status.min_key_size > 8) {
    assertError(await master.client.encKeys(slave.id, { size: status.min_key_size - 8 }), [400, 503]);
  }
});
