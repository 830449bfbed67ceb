/** `/keys/activate` as `qkd_kme_server` calls it at a KME of this program. */
import assert from "node:assert/strict";
import { assertProblem, stockOf, unknownKeyId } from "../sae_api/api_fixture.ts";
import type { NetworkSpec, TestNetwork } from "../harness/test_network.ts";
import { keyIdsOf, keysOf, SaeClient } from "../harness/sae_client.ts";
import { assertActivated, assertRefused, KmeCaller, startFirst } from "./rust_kme.ts";

/** The KME under test is 1, with SAEs 1 and 2; it knows KME 2 with SAEs 3 and 5, and KME 3 with SAE 6. */
const spec: NetworkSpec = {
  kmes: [{ id: 1, nickname: "Alice", saes: [1, 2] }, { id: 2, saes: [3, 5] }, { id: 3, saes: [6] }],
};

function callerOf(network: TestNetwork, kme: number): KmeCaller {
  return new KmeCaller(network, 1, network.kme(kme).interKmeClient);
}

Deno.test("an activated key is delivered to its slave once; its master is the SAE of the other KME", async () => {
  const bytes = new TextEncoder().encode("this_is_secret_key_1_of_32_bytes");
  await using network = await startFirst(spec, [1, 2, bytes]);
  using caller = callerOf(network, 2);
  const id = "8844cba7-29e1-3251-a50a-25da13e65eea";
  assertProblem(await network.client(1).decKeys(3, id), 400);
  assertActivated(
    await caller.activate(`{"key_IDs_list": ["${id}"], "origin_SAE_ID": 3, "remote_SAE_ID": 1}`),
  );
  assert.equal(await stockOf(network.client(1), 3), 0);
  assertProblem(await network.client(2).decKeys(3, id), 401);
  assertProblem(await network.client(1).decKeys(5, id), 400);
  const [key] = keysOf(await network.client(1).decKeys(3, id));
  assert.ok(key!.key === bytes.toBase64(), "other bits");
  assertProblem(await network.client(1).decKeys(3, id), 400);
  assert.equal(await network.process.stop(), 0);
  const events = network.process.lines.filter((line) => line.includes("[Alice]"));
  assert.equal(events.length, 2);
  assert.ok(events[0]!.endsWith(`[Alice] Key ${id} activated between SAEs 3 and 1`));
  assert.ok(events[1]!.endsWith(`[Alice] SAE 1 requested key ${id} (from 3)`));
});

Deno.test("ten keys can be activated at once, eleven are refused", async () => {
  await using network = await startFirst(spec, [1, 2, 15]);
  using caller = callerOf(network, 2);
  const [ids] = network.blockIds;
  const saes = { origin: 3, remote: 1 };
  assertRefused(
    await caller.activate({ ids: ids!.slice(0, 11), ...saes }),
    "Too many keys requested, max is 10",
  );
  assertRefused(
    await caller.activate({ ids: Array(11).fill(ids![0]), ...saes }),
    "Too many keys requested, max is 10",
  );
  assert.equal(await stockOf(network.client(1), 3), 15);
  assertActivated(await caller.activate({ ids: ids!.slice(0, 10), ...saes }));
  assert.equal(await stockOf(network.client(1), 3), 5);
  assert.deepEqual(keyIdsOf(await network.client(1).decKeys(3, ids!.slice(0, 10))), ids!.slice(0, 10));
});

Deno.test("the same activation again answers as the first did and gives nothing twice", async () => {
  await using network = await startFirst(spec, [1, 2, 6]);
  using caller = callerOf(network, 2);
  const [a, b, c, d] = network.blockIds[0]!;
  const activation = { ids: [a!, b!], origin: 3, remote: 1 };
  assertActivated(await caller.activate(activation));
  assertActivated(await caller.activate(activation));
  assertActivated(await caller.activate({ ...activation, ids: [b!.toUpperCase(), a!] }));
  assert.equal(await stockOf(network.client(1), 3), 4);
  keysOf(await network.client(1).decKeys(3, a!));
  // Even when the slave was faster than the repetition.
  assertActivated(await caller.activate(activation));
  assertProblem(await network.client(1).decKeys(3, a!), 400);
  keysOf(await network.client(1).decKeys(3, b!));

  assertRefused(await caller.activate({ ...activation, remote: 2 }), "Cannot activate key");
  assertRefused(await caller.activate({ ...activation, origin: 5 }), "Cannot activate key");
  assertRefused(await caller.activate({ ...activation, ids: [a!, c!] }), "Cannot activate key");
  assert.equal(await stockOf(network.client(1), 3), 4);

  const many = await Promise.all(
    Array.from({ length: 20 }, () => caller.activate({ ...activation, ids: [c!] })),
  );
  many.forEach(assertActivated);
  const rivals = await Promise.all(
    Array.from({ length: 20 }, (_, i) => caller.activate({ ids: [d!], origin: 3, remote: 1 + i % 2 })),
  );
  const winners = new Set(rivals.flatMap(({ status }, i) => status === 200 ? [1 + i % 2] : []));
  assert.equal(winners.size, 1);
  rivals.forEach((answer, i) => winners.has(1 + i % 2) ? assertActivated(answer) : assertRefused(answer));
  assert.equal(await stockOf(network.client(1), 3), 2);
  assert.equal(await network.process.stop(), 0);
  const told = network.process.lines.filter((line) => / activated between /.test(line));
  assert.equal(told.length, 4);
});

Deno.test("an invalid message is refused and activates nothing", async () => {
  await using network = await startFirst(spec, [1, 2, 3]);
  using caller = callerOf(network, 2);
  const [id] = network.blockIds[0]!;
  const list = `["${id}"]`;
  const body = (ids: string, origin: string, remote: string) =>
    `{"key_IDs_list":${ids},"origin_SAE_ID":${origin},"remote_SAE_ID":${remote}}`;
  const wrong = [
    "",
    "{",
    "null",
    "[]",
    "{}",
    list,
    `{"key_IDs_list":${list}}`,
    `{"key_IDs_list":${list},"origin_SAE_ID":3}`,
    `{"origin_SAE_ID":3,"remote_SAE_ID":1}`,
    body("[]", "3", "1"),
    body(`"${id}"`, "3", "1"),
    body("null", "3", "1"),
    body("[1]", "3", "1"),
    body(`[${list}]`, "3", "1"),
    body(`["${id}",null]`, "3", "1"),
    body(`["${id}","x"]`, "3", "1"),
    body(`["${id!.replaceAll("-", "")}"]`, "3", "1"),
    body(list, "null", "1"),
    body(list, "3", "null"),
    body(list, "[3]", "1"),
    body(list, "3.5", "1"),
    body(list, "3", "1.25"),
    body(list, "true", "1"),
    body(list, "{}", "1"),
    body(list, "3", "1") + "}",
  ];
  for (const text of wrong) assertRefused(await caller.activate(text), "Bad request");
  const notUtf8 = new Uint8Array([...new TextEncoder().encode(body(list, "3", "1")), 0xff]);
  assertRefused(await caller.raw("POST", "/keys/activate", notUtf8), "Bad request");
  const large = await caller.activate(body(list, "3", "1").padEnd(2_000_000));
  assert.equal(large.status, 413);
  assert.equal(await stockOf(network.client(1), 3), 3);
  // Members that others may add do not matter.
  assertActivated(await caller.activate(body(list, "3", "1").replace("{", '{"more":[1],')));
});

Deno.test("SAEs must be known, the origin of the other KME, the remote of this one", async () => {
  await using network = await startFirst(spec, [1, 2, 3], [1, 3, 3], [1, 1, 3]);
  using caller = callerOf(network, 2);
  const ids = [network.blockIds[0]![0]!];
  for (
    const [origin, remote] of [
      [9, 1],
      [3, 9],
      [9, 9],
      ["", 1],
      [3, ""],
      [3, 5],
      [3, 3],
      [3, 6],
      [1, 2],
      [1, 1],
      [1, 3],
      [-3, 1],
      ["03", 1],
      [" 3", 1],
    ]
  ) {
    assertRefused(await caller.activate({ ids, origin, remote }));
    assert.equal(await stockOf(network.client(1), 3), 3, `${origin} to ${remote}`);
  }
  assertProblem(await network.client(1).decKeys(3, ids), 400);
});

Deno.test("a KME that is identified by its certificate can act for its own SAEs only", async () => {
  await using network = await startFirst(spec, [1, 2, 3], [1, 3, 3]);
  using two = callerOf(network, 2);
  using three = callerOf(network, 3);
  using unknown = new KmeCaller(
    network,
    1,
    await network.interKmeCa.client({ commonName: "some other KME" }),
  );
  using own = callerOf(network, 1);
  const [ofTwo, ofThree] = network.blockIds.map((ids) => [ids[0]!]);
  for (
    const [caller, origin, ids] of [
      [three, 3, ofTwo],
      [three, 3, ofThree],
      [two, 6, ofThree],
      [two, 6, ofTwo],
      [unknown, 3, ofTwo],
      [unknown, 6, ofThree],
      [own, 3, ofTwo],
    ] as const
  ) {
    assertRefused(await caller.activate({ ids: ids!, origin, remote: 1 }));
  }
  assert.equal(await stockOf(network.client(1), 3), 3);
  assert.equal(await stockOf(network.client(1), 6), 3);
  assertActivated(await two.activate({ ids: ofTwo!, origin: 3, remote: 1 }));
  assertActivated(await three.activate({ ids: ofThree!, origin: 6, remote: 1 }));
});

Deno.test("where no serial is configured the claim counts, and the rest is checked", async () => {
  await using network = await startFirst({ ...spec, callerSerials: false }, [1, 2, 3], [1, 3, 3]);
  using unknown = new KmeCaller(
    network,
    1,
    await network.interKmeCa.client({ commonName: "some other KME" }),
  );
  const [ofTwo, ofThree] = network.blockIds;
  assertRefused(await unknown.activate({ ids: [ofThree![0]!], origin: 3, remote: 1 }), "Cannot activate key");
  assertRefused(await unknown.activate({ ids: [ofTwo![0]!], origin: 6, remote: 1 }), "Cannot activate key");
  assertRefused(await unknown.activate({ ids: [ofTwo![0]!], origin: 1, remote: 2 }));
  assertRefused(await unknown.activate({ ids: [ofTwo![0]!], origin: 3, remote: 6 }));
  assertActivated(await unknown.activate({ ids: [ofTwo![0]!], origin: 3, remote: 1 }));
  assertActivated(await unknown.activate({ ids: [ofThree![0]!], origin: 6, remote: 1 }));
});

Deno.test("a KME whose serial is configured cannot act as one whose serial is not", async () => {
  const edit: NetworkSpec["edit"] = (config) => {
    for (const other of config.other_kmes) if (other.id === 3) delete other.https_client_certificate_serial;
  };
  await using network = await startFirst({ ...spec, edit }, [1, 2, 3], [1, 3, 3]);
  using two = callerOf(network, 2);
  using three = callerOf(network, 3);
  const [ofTwo, ofThree] = network.blockIds.map((ids) => [ids[0]!]);
  assertRefused(await two.activate({ ids: ofThree!, origin: 6, remote: 1 }));
  assertRefused(await three.activate({ ids: ofTwo!, origin: 3, remote: 1 }));
  assertActivated(await three.activate({ ids: ofThree!, origin: 6, remote: 1 }));
});

Deno.test("every block must be of the link and free, or none is activated", async () => {
  await using network = await startFirst(spec, [1, 2, 4], [1, 3, 2], [1, 1, 3]);
  using caller = callerOf(network, 2);
  const [link, other, own] = network.blockIds;
  const saes = { origin: 3, remote: 1 };
  const [given] = keyIdsOf(await network.client(1).encKeys(2));
  for (const bad of [other![0]!, ...own!, given!, unknownKeyId(), "00000000-0000-0000-0000-000000000000"]) {
    assertRefused(await caller.activate({ ids: [bad], ...saes }), "Cannot activate key");
    assertRefused(await caller.activate({ ids: [link![0]!, bad], ...saes }), "Cannot activate key");
    assertRefused(
      await caller.activate({ ids: [bad, link![0]!, link![1]!], ...saes }),
      "Cannot activate key",
    );
  }
  assert.equal(await stockOf(network.client(1), 3), 4);
  assert.equal(await stockOf(network.client(1), 6), 2);
  assert.equal(await stockOf(network.client(1), 2), 2);
  assertProblem(await network.client(1).decKeys(3, link![0]!), 400);
  assertActivated(await caller.activate({ ids: [link![0]!, link![1]!], ...saes }));
  // The key between the SAEs of this KME is still theirs.
  assert.deepEqual(keyIdsOf(await network.client(2).decKeys(1, given!)), [given]);
});

Deno.test("ids are integers of any length, or strings, and never rounded", async () => {
  const big = "9007199254740993";
  const near = "9007199254740992";
  await using network = await startFirst({
    kmes: [{ id: 1, saes: [1, big, near, "alice"] }, { id: 2, saes: [3, "18446744073709551615", "bob"] }],
  }, [1, 2, 8]);
  using caller = callerOf(network, 2);
  const [ids] = network.blockIds;
  const activate = async (origin: string, remote: string, i: number) =>
    assertActivated(
      await caller.activate(
        `{"key_IDs_list":["${ids![i]}"],"origin_SAE_ID":${origin},"remote_SAE_ID":${remote}}`,
      ),
    );
  await activate("18446744073709551615", big, 0);
  assertProblem(await network.client(near).decKeys("18446744073709551615", ids![0]!), 401);
  assert.deepEqual(keyIdsOf(await network.client(big).decKeys("18446744073709551615", ids![0]!)), [ids![0]]);
  await activate("3", near, 1);
  assertProblem(await network.client(big).decKeys(3, ids![1]!), 401);
  assert.deepEqual(keyIdsOf(await network.client(near).decKeys(3, ids![1]!)), [ids![1]]);
  await activate('"bob"', '"alice"', 2);
  assert.deepEqual(keyIdsOf(await network.client("alice").decKeys("bob", ids![2]!)), [ids![2]]);
  // A string of digits is an id all the same: between KMEs an id is its text.
  await activate('"3"', `"${big}"`, 3);
  assert.deepEqual(keyIdsOf(await network.client(big).decKeys(3, ids![3]!)), [ids![3]]);
  assertRefused(
    await caller.activate(
      `{"key_IDs_list":["${ids![4]}"],"origin_SAE_ID":18446744073709551614,"remote_SAE_ID":1}`,
    ),
  );
  assert.equal(await stockOf(network.client(1), 3), 4);
});

Deno.test("only POST of known paths is accepted between KMEs", async () => {
  await using network = await startFirst(spec, [1, 2, 2]);
  using caller = callerOf(network, 2);
  const body = JSON.stringify({ key_IDs_list: network.blockIds[0], origin_SAE_ID: 3, remote_SAE_ID: 1 });
  for (const method of ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"]) {
    const response = await caller.raw(method, "/keys/activate", method === "GET" ? undefined : body);
    assert.equal(response.status, 405, method);
    assert.equal(response.headers.allow, "POST");
  }
  for (
    const path of [
      "/",
      "/keys",
      "/keys/activate/more",
      "/activate",
      "/api/v1/keys/1/status",
      "/api/v1/keys/1/enc_keys",
    ]
  ) {
    assert.equal((await caller.raw("POST", path, body)).status, 404, path);
  }
  assert.equal(await stockOf(network.client(1), 3), 2);
});

Deno.test("a client that is not a KME is refused on the inter-KME port, and a KME on the SAE port", async () => {
  await using network = await startFirst(spec, [1, 2, 1]);
  const body = { ids: network.blockIds[0]!, origin: 3, remote: 1 };
  const { zoneCa } = network.kme(1);
  const refused = {
    "an SAE": network.sae(1),
    "an SAE of the other KME": network.sae(3),
    "an SAE with the serial of a KME": await zoneCa.client({
      serialHex: network.kme(2).interKmeClient.serialHex,
    }),
    "no certificate": { ca: zoneCa.ca },
    "an expired certificate": await network.interKmeCa.client({
      serialHex: network.kme(2).interKmeClient.serialHex,
      notBefore: new Date(Date.now() - 200_000_000),
      notAfter: new Date(Date.now() - 100_000_000),
    }),
  };
  for (const [what, certificate] of Object.entries(refused)) {
    using caller = new KmeCaller(network, 1, certificate);
    assert.equal((await caller.activate(body)).status, 401, what);
  }
  for (const kme of [1, 2]) {
    const { cert, key } = network.kme(kme).interKmeClient;
    using client = new SaeClient({ port: network.kme(1).saesPort, ca: zoneCa.ca, cert, key });
    assert.equal((await client.status(3)).status, 401, `KME ${kme}`);
  }
  // One with the serial of an SAE is no SAE.
  const { cert, key } = await network.interKmeCa.client({ serialHex: network.sae(1).serialHex });
  using client = new SaeClient({ port: network.kme(1).saesPort, ca: zoneCa.ca, cert, key });
  assert.equal((await client.status(3)).status, 401);
  assert.equal(await stockOf(network.client(1), 3), 1);
});

Deno.test("what was answered OK survives a crash", async () => {
  const [first, ...others] = spec.kmes;
  await using network = await startFirst({ kmes: [{ ...first!, database: "sqlite" }, ...others] }, [1, 2, 5]);
  using caller = callerOf(network, 2);
  const ids = network.blockIds[0]!.slice(0, 3);
  assertActivated(await caller.activate({ ids, origin: 3, remote: 1 }));
  await network.process.kill();
  await network.start(1);
  using again = callerOf(network, 2);
  assertActivated(await again.activate({ ids, origin: 3, remote: 1 }));
  const client = network.client(1);
  assert.deepEqual(keyIdsOf(await client.decKeys(3, ids)), ids);
  assert.equal(await stockOf(client, 3), 2);
});
