/** Clause 5.1: common specification. */
import assert from "node:assert/strict";
import { keyIdsOf, type SaeResponse } from "../harness/sae_client.ts";
import {
  assertRefused,
  clause,
  clientLike,
  newKeys,
  offers,
  strangersCertificate,
  target,
} from "./target.ts";

const { master, slave } = target;

function assertJsonType({ headers }: SaeResponse): void {
  const [type, ...parameters] = (headers["content-type"] ?? "").split(";").map((part) =>
    part.trim().toLowerCase()
  );
  assert.equal(type, "application/json");
  for (const parameter of parameters) {
    if (parameter.startsWith("charset=")) assert.match(parameter, /^charset="?utf-8"?$/);
  }
}

clause("5.1: HTTP Content-type is application/json, character code UTF-8", async () => {
  assertJsonType(await master.client.status(slave.id));
  const enc = await newKeys();
  assertJsonType(enc);
  assertJsonType(await slave.client.decKeys(master.id, keyIdsOf(enc)));
});

clause("5.1: HTTP Content-type of an Error is application/json", async () => {
  const response = await slave.client.decKeys(master.id, crypto.randomUUID());
  assert.equal(response.status, 400);
  assertJsonType(response);
});

clause(
  "5.1: mutual authentication shall be performed: the SAE shall verify the KME's certificate",
  async () => {
    // The connection is made only when the certificate chains to the CA, so this is about the certificate of the KME.
    const response = await clientLike(master, { agent: false }).status(slave.id);
    assert.equal(response.status, 200);
  },
);

clause(
  "5.1: mutual authentication shall be performed: an SAE without a certificate is rejected",
  async () => {
    for (const party of [master, slave]) {
      const client = clientLike(party, { cert: undefined, key: undefined, agent: false });
      await assertRefused(client.encKeys(slave.id));
    }
  },
);

clause("5.1: the KME shall verify the validity of a certificate the SAE possesses", async () => {
  const stranger = await strangersCertificate();
  for (const party of [master, slave]) {
    await assertRefused(clientLike(party, { ...stranger, agent: false }).encKeys(slave.id));
  }
});

clause("5.1: Get status is GET https://{KME_hostname}/api/v1/keys/{slave_SAE_ID}/status", async () => {
  const path = `/api/v1/keys/${encodeURIComponent(slave.id)}/status`;
  assert.equal((await master.client.raw({ method: "GET", path })).status, 200);
});

for (const method of ["POST", "GET"] as const) {
  clause(`5.1: Get key is ${method} https://{KME_hostname}/api/v1/keys/{slave_SAE_ID}/enc_keys`, async () => {
    const response = await master.client.raw({
      method,
      path: `/api/v1/keys/${encodeURIComponent(slave.id)}/enc_keys`,
      ...method === "POST" ? { headers: { "Content-Type": "application/json" }, body: "{}" } : {},
    });
    assert.equal(keyIdsOf(response).length, 1);
  });

  clause(
    `5.1: Get key with key IDs is ${method} https://{KME_hostname}/api/v1/keys/{master_SAE_ID}/dec_keys`,
    async () => {
      const [id] = keyIdsOf(await newKeys());
      const path = `/api/v1/keys/${encodeURIComponent(master.id)}/dec_keys`;
      const response = method === "GET"
        ? await slave.client.raw({ path: `${path}?key_ID=${id}` })
        : await slave.client.raw({
          method,
          path,
          headers: { "Content-Type": "application/json" },
          body: JSON.stringify({ key_IDs: [{ key_ID: id }] }),
        });
      assert.deepEqual(keyIdsOf(response), [id]);
    },
  );
}

clause(
  "5.1: after the mutual authentication the SAE may call API methods, several over one connection",
  async () => {
    const client = clientLike(master, { maxSockets: 1 });
    for (let i = 0; i < 3; i++) assert.equal((await client.status(slave.id)).status, 200);
    assert.equal(keyIdsOf(await client.encKeys(slave.id, { number: 2 })).length, 2);
  },
  [offers.severalKeys],
);
