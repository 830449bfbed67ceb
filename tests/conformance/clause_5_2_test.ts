/** Clause 5.2: Get status. */
import assert from "node:assert/strict";
import { assertError, clause, offers, target } from "./target.ts";

const { master, slave, third } = target;

clause("5.2: Get status returns Status from a KME to the calling SAE", async () => {
  const response = await master.client.status(slave.id);
  assert.equal(response.status, 200);
  assert.equal(response.json.slave_SAE_ID, slave.id);
  assert.equal(response.json.master_SAE_ID, master.id);
});

clause("5.2: Status is about the specified slave SAE, whichever it is", async () => {
  for (const other of [slave, third]) {
    const response = await master.client.status(other.id);
    assert.equal(response.status, 200);
    assert.equal(response.json.slave_SAE_ID, other.id);
  }
});

clause("5.2: {slave_SAE_ID} is the URL-encoded SAE ID", async () => {
  const encoded = [...new TextEncoder().encode(slave.id)]
    .map((byte) => `%${byte.toString(16).padStart(2, "0")}`).join("");
  const response = await master.client.raw({ path: `/api/v1/keys/${encoded}/status` });
  assert.equal(response.status, 200);
  assert.equal(response.json.slave_SAE_ID, slave.id);
});

clause("5.2: request data model: none, post-condition: none: asking changes nothing", async () => {
  const counts = [];
  for (let i = 0; i < 3; i++) counts.push((await master.client.status(slave.id)).json.stored_key_count);
  assert.deepEqual(counts, Array(3).fill(counts[0]));
}, [offers.counts]);

clause(
  "5.2: Get status may return an error 400, 401 or 503: an SAE ID that does not exist gets one",
  async () => {
    const response = await master.client.status(`${crypto.randomUUID()}-does-not-exist`);
    assertError(response, [400, 401, 503]);
  },
);
