/** Who calls: the client certificate decides, before anything else about a request. */
import assert from "node:assert/strict";
import type { SaeClientOptions } from "../harness/sae_client.ts";
import { keyIdsOf, SaeClient } from "../harness/sae_client.ts";
import { makeTestCa } from "../harness/test_certificates.ts";
import {
  assertForm,
  assertProblem,
  oneKme,
  startNetwork,
  stockOf,
  twoKmes,
  unknownKeyId,
} from "./api_fixture.ts";

const VERSIONS = ["TLSv1.2", "TLSv1.3"] as const;

Deno.test("TLS 1.2 and TLS 1.3 are both served", async () => {
  await using network = await startNetwork(oneKme);
  for (const version of VERSIONS) {
    const client = network.client(1, { minVersion: version, maxVersion: version });
    const socket = await client.openSocket();
    assert.equal(socket.getProtocol(), version);
    socket.destroy();
    assert.equal((await client.raw({ path: "/api/v1/sae/info/me" })).text, '{"SAE_ID":1,"KME_ID":1}\n');
  }
});

Deno.test("a client without a certificate of this zone in date is refused", async () => {
  await using network = await startNetwork(twoKmes);
  const { saesPort, zoneCa, interKmeClient } = network.kme(1);
  const now = Date.now();
  const day = 86_400_000;
  const lookalike = await makeTestCa("zone CA of KME 1");
  const refused: Record<string, Partial<SaeClientOptions>> = {
    "no certificate": { cert: undefined, key: undefined },
    "SAE of another zone": network.sae(3),
    "KME": interKmeClient,
    "CA of the same name": await lookalike.client({ serialHex: network.sae(1).serialHex }),
    "expired": await zoneCa.client({
      serialHex: network.sae(1).serialHex,
      notBefore: new Date(now - 3 * day),
      notAfter: new Date(now - day),
    }),
    "not yet valid": await zoneCa.client({
      serialHex: network.sae(1).serialHex,
      notBefore: new Date(now + day),
      notAfter: new Date(now + 3 * day),
    }),
    "server certificate": await zoneCa.server({ serialHex: network.sae(1).serialHex }),
  };
  for (const [what, { cert, key }] of Object.entries(refused)) {
    for (const version of VERSIONS) {
      using client = new SaeClient({
        port: saesPort,
        ca: zoneCa.ca,
        cert,
        key,
        minVersion: version,
        maxVersion: version,
      });
      const { status, json } = await client.status(2);
      assert.equal(status, 401, `${what} over ${version}`);
      assert.equal(typeof json.message, "string");
    }
  }
  // The listener still serves.
  assert.equal((await network.client(1).status(2)).status, 200);
});

Deno.test("a certificate of the zone that no SAE owns gets 401 before anything else is looked at", async () => {
  await using network = await startNetwork(oneKme, [1, 1, 3]);
  const stranger = network.client(1, await network.issueClient(1));
  const message = /certificate/;
  const paths = [
    "/api/v1/keys/2/status",
    "/api/v1/keys/2/enc_keys",
    "/api/v1/keys/2/dec_keys",
    `/api/v1/keys/2/dec_keys?key_ID=${unknownKeyId()}`,
    "/api/v1/keys/entropy/total",
    "/api/v1/keys/2/enc_keys?number=0&other=1",
    "/api/v1/keys/nobody/enc_keys",
    "/api/v1/keys/%ZZ/enc_keys",
    "//api/v1//keys/2/enc_keys/",
    "/api/v1/keys/2/no_such_thing",
    "/api/v1/keys/2",
    "/api/v1/keys",
  ];
  for (const path of paths) {
    for (const method of ["GET", "POST", "DELETE", "PUT"]) {
      assertProblem(await stranger.raw({ method, path }), 401, message);
    }
    assert.equal((await stranger.raw({ method: "HEAD", path })).status, 401);
  }
  const post = (body: string | Uint8Array, type: string) =>
    stranger.raw({
      method: "POST",
      path: "/api/v1/keys/2/enc_keys",
      headers: { "Content-Type": type },
      body,
    });
  assertProblem(await post("{", "application/json"), 401, message);
  assertProblem(await post("a=b", "text/plain"), 401, message);
  assertProblem(await post(new Uint8Array([0xff]), "application/json"), 401, message);
  assertProblem(await post(" ".repeat(100_000), "application/json"), 401, message);

  assertProblem(await stranger.raw({ path: "/api/v1/sae/info/me" }), 404, /certificate/);
  assert.equal(await stockOf(network.client(1), 2), 3);
});

Deno.test("serials are numbers: leading zeros, a top bit and the way they are written do not matter", async () => {
  const saes = [
    { id: 1, serialHex: "0a0b0c" },
    { id: 2, serialHex: "0a0b0d", configuredSerial: "A0B0D" },
    { id: 3, serialHex: "0a0b0e", configuredSerial: [0, 0, 10, 11, 14] },
    { id: 4, serialHex: "ff0102" },
    { id: 5, serialHex: "ff0103", configuredSerial: [0, 255, 1, 3] },
    { id: 6, serialHex: "ff0104", configuredSerial: "00FF0104" },
    { id: 7, serialHex: "ff0105", configuredSerial: "ff:01:05" },
    { id: 8, serialHex: "01000000", configuredSerial: [1, 0, 0, 0] },
    { id: 9, serialHex: "01" },
    { id: 10, serialHex: "0100" },
    // With the octet that keeps it positive these have the 20 that a certificate may have (RFC 5280, clause 4.1.2.2).
    { id: 11, serialHex: "80" + "00".repeat(17) + "01" },
    { id: 12, serialHex: "80" + "00".repeat(17) + "02" },
    { id: 13, serialHex: "0b" + "00".repeat(18) + "01" },
  ];
  await using network = await startNetwork({ kmes: [{ id: 1, saes }] });
  for (const { id, serialHex } of saes) {
    const me = await network.client(id).raw({ path: "/api/v1/sae/info/me" });
    assert.equal(me.text, `{"SAE_ID":${id},"KME_ID":1}\n`, `serial ${serialHex}`);
    assertForm(me);
  }
  for (const serialHex of ["0a0b0f", "a0b0c0", "ff01", "0f0102", "7f0102", "0b", "10", "010000"]) {
    const other = network.client(1, await network.issueClient(1, { serialHex }));
    assertProblem(await other.raw({ path: "/api/v1/sae/info/me" }), 404);
    assertProblem(await other.status(1), 401);
  }
});

Deno.test("many SAEs on many connections at once are never confused", async () => {
  await using network = await startNetwork({ kmes: [{ id: 1, saes: [1, 2, 3, 4, 5, 6] }] });
  const ids = [1, 2, 3, 4, 5, 6];
  const kept = ids.map((id) => network.client(id));
  const fresh = ids.map((id) => network.client(id, { agent: false }));
  await Promise.all(
    Array.from({ length: 20 }, () =>
      ids.map(async (id, i) => {
        for (const client of [kept[i]!, fresh[i]!]) {
          const me = await client.raw({ path: "/api/v1/sae/info/me" });
          assert.equal(me.json.SAE_ID, id);
        }
      })).flat(),
  );
});

Deno.test("an SAE that is removed from the configuration loses access, and no other SAE gets its keys", async () => {
  await using network = await startNetwork(
    { kmes: [{ id: 1, saes: [1, 2, 4], database: "sqlite" }] },
    [1, 1, 2],
  );
  const [keyId] = keyIdsOf(await network.client(1).encKeys(2));
  assert.equal(await network.processes[0]!.stop(), 0);
  await network.writeConfig(1, (config) => config.saes = config.saes.filter((sae) => sae.id !== 2));
  await network.start(1);
  assertProblem(await network.client(2).decKeys(1, keyId!), 401);
  assertProblem(await network.client(4).decKeys(1, keyId!), 401);
  assertProblem(await network.client(1).encKeys(2), 400, /2/);
});
