/** Paths and methods, whatever the request then says; and what every answer carries. */
import assert from "node:assert/strict";
import { keyIdsOf, readToEnd, type SaeClient } from "../harness/sae_client.ts";
import {
  assertForm,
  assertProblem,
  oneKme,
  startNetwork,
  stockOf,
  twoKmes,
  unknownKeyId,
} from "./api_fixture.ts";

const ROUTES = [
  { path: "/api/v1/keys/2/status", allowed: ["GET", "HEAD"] },
  { path: "/api/v1/keys/2/enc_keys", allowed: ["GET", "POST"] },
  { path: "/api/v1/keys/2/dec_keys", allowed: ["GET", "POST"] },
  { path: "/api/v1/sae/info/me", allowed: ["GET"] },
  { path: "/api/v1/keys/entropy/total", allowed: ["GET"] },
];

Deno.test("a known path with another method gets 405 with Allow and consumes no keys", async () => {
  await using network = await startNetwork(oneKme, [1, 1, 5]);
  const client = network.client(1);
  for (const { path, allowed } of ROUTES) {
    for (const method of ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"]) {
      if (allowed.includes(method)) continue;
      for (const variant of [path, `${path}/`, `${path}?number=0`]) {
        const response = await client.raw({ method, path: variant });
        assert.equal(response.status, 405, `${method} ${variant}`);
        assert.deepEqual(
          response.headers.allow?.split(",").map((name) => name.trim()).toSorted(),
          allowed.toSorted(),
        );
        if (method === "HEAD") assert.equal(response.text, "");
        else assertProblem(response, 405);
      }
    }
  }
  assert.equal(await stockOf(client, 2), 5);
});

Deno.test("HEAD of Status answers like GET, without the body", async () => {
  await using network = await startNetwork(oneKme, [1, 1, 5]);
  const client = network.client(1);
  const get = await client.status(2);
  const head = await client.raw({ method: "HEAD", path: "/api/v1/keys/2/status" });
  assert.equal(head.status, 200);
  assert.equal(head.text, "");
  assert.equal(head.headers["content-type"], "application/json");
  assert.equal(head.headers["cache-control"], "no-store");
  // What is announced is what GET sends, or nothing is.
  assert.ok(get.text.endsWith("}\n"), "for people who use curl");
  const length = head.headers["content-length"];
  assert.ok(length === undefined || Number(length) === get.text.length, `content-length ${length}`);
  assert.equal((await client.raw({ method: "HEAD", path: "/api/v1/keys/9/status" })).status, 400);

  // The connection is in step afterwards: no byte of a body follows.
  const socket = await client.openSocket();
  const request = (method: string, more = "") =>
    `${method} /api/v1/keys/2/status HTTP/1.1\r\nHost: kme\r\n${more}\r\n`;
  socket.write(request("HEAD") + request("HEAD") + request("GET", "Connection: close\r\n"));
  const text = await readToEnd(socket);
  assert.equal(text.match(/^HTTP\/1\.1 200 /gm)?.length, 3);
  assert.equal(text.match(/stored_key_count/g)?.length, 1);
});

Deno.test("trailing and doubled slashes are tolerated", async () => {
  await using network = await startNetwork(oneKme, [1, 1, 9]);
  const client = network.client(1);
  const answered = async (client: SaeClient, path: string) => {
    const response = await client.raw({ path });
    assert.equal(response.status, 200, `${path}: ${response.status}`);
    return response;
  };
  for (
    const path of [
      "/api/v1/keys/2/status/",
      "/api/v1/keys/2/status//",
      "//api/v1/keys/2/status",
      "/api//v1///keys//2//status//",
      "/api/v1/keys/entropy/total/",
      "//api/v1/keys//entropy/total",
      "/api/v1/sae/info/me/",
      "/api/v1//sae/info//me",
    ]
  ) await answered(client, path);
  for (
    const path of [
      "/api/v1/keys/2/enc_keys/",
      "/api/v1/keys//2/enc_keys?number=1",
      "//api/v1/keys/2/enc_keys/?number=1",
    ]
  ) {
    const [keyId] = keyIdsOf(await answered(client, path));
    await answered(network.client(2), `/api/v1//keys/1/dec_keys/?key_ID=${keyId}`);
  }
  const posted = await client.raw({
    method: "POST",
    path: "/api/v1/keys/2/enc_keys//",
    body: '{"number":2}',
  });
  assert.equal(keyIdsOf(posted).length, 2);
  assert.equal(await stockOf(client, 2), 4);
});

Deno.test("ids in URLs are percent-encoded, once", async () => {
  const names = ["lab/1 é", "a+b", "100%", "?#&=", "日本", "%41", "status", "entropy", "a:b@c;d,e"];
  await using network = await startNetwork({ kmes: [{ id: 1, saes: [1, ...names] }] }, [1, 1, 40]);
  const client = network.client(1);
  for (const name of names) {
    const status = await client.status(name);
    assert.equal(status.status, 200, `${name}: ${status.text}`);
    assert.equal(status.json.slave_SAE_ID, name);
    const [keyId] = keyIdsOf(await client.encKeys(name));
    assert.deepEqual(keyIdsOf(await network.client(name).decKeys(1, keyId!)), [keyId]);
    const [back] = keyIdsOf(await network.client(name).encKeys(1));
    assert.deepEqual(keyIdsOf(await client.decKeys(name, back!)), [back]);
    assert.equal((await network.client(name).raw({ path: "/api/v1/sae/info/me" })).json.SAE_ID, name);
  }
  assert.equal((await client.raw({ path: "/api/v1/keys/%31/status" })).json.slave_SAE_ID, "1");
  assert.equal((await client.raw({ path: "/api/v1/keys/%6c%61b%2f1%20%c3%a9/status" })).status, 200);
  for (const id of ["%2531", "%252541", "a%20b", "lab%2F1+%C3%A9"]) {
    assertProblem(await client.raw({ path: `/api/v1/keys/${id}/status` }), 400, /SAE/);
  }
  for (const id of ["%", "%2", "%ZZ", "%FF", "%C3", "%ED%A0%80"]) {
    for (const call of ["status", "enc_keys", `dec_keys?key_ID=${unknownKeyId()}`]) {
      assertProblem(await client.raw({ path: `/api/v1/keys/${id}/${call}` }), 400, /SAE_ID/);
    }
  }
  assert.equal(await stockOf(client, 1), 40 - 2 * names.length);
});

Deno.test("unknown paths get 404, to SAEs of this KME", async () => {
  await using network = await startNetwork(oneKme, [1, 1, 1]);
  const client = network.client(1);
  for (
    const path of [
      "/",
      "//",
      "/api",
      "/api/v1",
      "/api/v1/keys",
      "/api/v1/keys/",
      "/api/v1/keys/2",
      "/api/v1/keys//status",
      "/api/v1/keys/2/other",
      "/api/v1/keys/2/Status",
      "/api/v1/keys/2/status/more",
      "/api/v1/keys/2/enc_keys/more",
      "/api/v2/keys/2/status",
      "/API/v1/keys/2/status",
      "/api/v1/sae/info",
      "/api/v1/sae/info/2",
      "/api/v1/sae/info/me/more",
      "/api/v1/keys/entropy",
      "/keys/activate",
      "/favicon.ico",
      "/api/v1/keys/2%2Fenc_keys",
    ]
  ) {
    for (const method of ["GET", "POST", "DELETE"]) {
      assertProblem(await client.raw({ method, path }), 404);
    }
    assert.equal((await client.raw({ method: "HEAD", path })).status, 404);
  }
  assert.equal(await stockOf(client, 2), 1);
});

Deno.test("every answer is compact JSON with Cache-Control: no-store", async () => {
  await using network = await startNetwork(twoKmes, [1, 1, 2]);
  const client = network.client(1);
  const enc = await client.encKeys(2);
  const [keyId] = keyIdsOf(enc);
  const right = [
    await client.status(2),
    enc,
    await network.client(2).decKeys(1, keyId!),
    await client.raw({ path: "/api/v1/sae/info/me" }),
    await client.raw({ path: "/api/v1/keys/entropy/total" }),
  ];
  for (const response of right) {
    assert.equal(response.status, 200);
    assertForm(response);
  }
  assertProblem(await client.encKeys(2, { number: 0 }), 400);
  assertProblem(await client.encKeys(2, { number: 100 }), 503);
  assertProblem(await client.encKeys(3), 503);
  assertProblem(await client.raw({ method: "PUT", path: "/api/v1/keys/2/status" }), 405);
  assertProblem(await client.raw({ path: "/api" }), 404);
  assertProblem(
    await client.raw({
      method: "POST",
      path: "/api/v1/keys/2/enc_keys",
      headers: { "Content-Type": "text/plain" },
      body: "x",
    }),
    415,
  );
  assertProblem(
    await client.raw({ method: "POST", path: "/api/v1/keys/2/enc_keys", body: " ".repeat(70_000) }),
    413,
  );
  assertProblem(await network.client(1, await network.issueClient(1)).status(2), 401);
});
