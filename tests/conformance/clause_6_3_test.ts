/** Clause 6.3: Key container data format. */
import assert from "node:assert/strict";
import { keyIdsOf, keysOf, type SaeResponse } from "../harness/sae_client.ts";
import { clause, isObject, newKeys, offers, target } from "./target.ts";

const { master, slave, status } = target;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** A container of Get key, and that of the keys' slave. */
async function containers(number: number): Promise<[name: string, SaeResponse][]> {
  const enc = await newKeys({ number });
  return [["Get key", enc], ["Get key with key IDs", await slave.client.decKeys(master.id, keyIdsOf(enc))]];
}

clause("6.3: keys is an array of objects", async () => {
  for (const [name, { json }] of await containers(1)) {
    assert.ok(isObject(json) && Array.isArray(json.keys), name);
    assert.ok((json.keys as unknown[]).every(isObject), name);
  }
});

clause("6.3: the number of keys is specified by number in Get key", async () => {
  for (const [name, response] of await containers(2)) assert.equal(keysOf(response).length, 2, name);
}, [offers.severalKeys]);

clause("6.3: if not specified, the default number of keys is 1", async () => {
  assert.equal(keysOf(await newKeys()).length, 1);
});

clause("6.3: key_ID is a string in UUID format", async () => {
  for (const [name, response] of await containers(1)) {
    for (const { key_ID } of keysOf(response)) assert.match(key_ID, UUID, name);
  }
});

clause("6.3: key is key data encoded by base64 (RFC 4648, clause 4: with padding)", async () => {
  for (const [name, response] of await containers(1)) {
    for (const { key } of keysOf(response)) {
      assert.ok(
        /^[A-Za-z0-9+/]+={0,2}$/.test(key) && key.length % 4 === 0,
        `${name}: not that alphabet or length`,
      );
      const bits = Uint8Array.fromBase64(key, { lastChunkHandling: "strict" });
      assert.ok(bits.toBase64() === key, `${name}: not the one encoding`);
    }
  }
});

clause("6.3: if size is not specified, key_size of Status is the key size", async () => {
  for (const [name, response] of await containers(1)) {
    for (const { key } of keysOf(response)) {
      assert.equal(Uint8Array.fromBase64(key).length, Math.ceil(status.key_size / 8), name);
    }
  }
});

clause(
  "6.3: key_ID_extension, key_extension and key_container_extension are options: absent or objects",
  async () => {
    for (const [name, { json }] of await containers(1)) {
      assert.ok(json.key_container_extension === undefined || isObject(json.key_container_extension), name);
      for (const key of json.keys) {
        assert.ok(key.key_ID_extension === undefined || isObject(key.key_ID_extension), name);
        assert.ok(key.key_extension === undefined || isObject(key.key_extension), name);
      }
    }
  },
);
