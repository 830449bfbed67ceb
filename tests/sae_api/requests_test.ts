/** What a request says: each mistake is refused with its member's name and spends nothing. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { keyIdsOf, keysOf, readToEnd, type SaeClient, type SaeResponse } from "../harness/sae_client.ts";
import { assertProblem, oneKme, oneKmeWith, startNetwork, stockOf, unknownKeyId } from "./api_fixture.ts";

const ENC = "/api/v1/keys/2/enc_keys";
const DEC = "/api/v1/keys/2/dec_keys";
const JSON_TYPE = { "Content-Type": "application/json" };

function post(
  client: SaeClient,
  path: string,
  body?: string | Uint8Array,
  headers: Record<string, string> = JSON_TYPE,
) {
  return client.raw({ method: "POST", path, headers, body });
}

Deno.test("an invalid Key request gets 400 that names the member, and consumes no keys", async () => {
  await using network = await startNetwork(oneKmeWith({ max_key_per_request: 4 }), [1, 1, 6]);
  const client = network.client(1);
  const wrong: [body: string, message: string | RegExp][] = [
    ...["0", "-1", "1.5", '"1"', "true", "[1]", "{}", "1e400", "0.1", "18446744073709551617", "5", "1e9"]
      .map((value): [string, RegExp] => [`{"number":${value}}`, /^number\b/]),
    ...["256.5", '"256"', "false", "[256]", "{}", "1e400"]
      .map((value): [string, RegExp] => [`{"size":${value}}`, /^size\b/]),
    ...["1e30", "-1e30"].map((value): [string, RegExp] => [`{"size":${value}}`, /^size\b/]),
    ...["1", "7", "255", "257"].map((value): [string, string] => [
      `{"size":${value}}`,
      "size shall be a multiple of 8",
    ]),
    ...["0", "-1", "-256", "65544", "1000000000", "8000000"].map((
      value,
    ): [string, RegExp] => [
      `{"size":${value}}`,
      /^size\b.*8 to 65536/,
    ]),
    ...['"3"', "3", "true", "{}", "[3]", "[null]", '[["3"]]']
      .map((value): [string, RegExp] => [
        `{"additional_slave_SAE_IDs":${value}}`,
        /^additional_slave_SAE_IDs\b/,
      ]),
    ...["extension_mandatory", "extension_optional"].flatMap((member) =>
      ['"x"', "1", "{}", '["x"]', "[1]", "[null]", "[[]]"].map((value): [string, RegExp] => [
        `{"${member}":${value}}`,
        new RegExp(`^${member}\\b`),
      ])
    ),
    ...["[]", "1", '"x"', "true", '[{"number":1}]'].map((body): [string, RegExp] => [body, /object/]),
    ...[
      "{",
      '{"number":1',
      '{"number":1}}',
      "{'number':1}",
      '{"number":01}',
      "{number:1}",
      '{"number":1,}',
      "number=1",
      "NaN",
    ]
      .map((body): [string, RegExp] => [body, /JSON/]),
    // One right member does not make up for a wrong one.
    ['{"number":1,"size":"256"}', /^size\b/],
    ['{"number":"1","size":256}', /^number\b/],
  ];
  for (const [body, message] of wrong) {
    const response = await post(client, ENC, body);
    assert.notEqual(response.status, 200, `${body} was answered with keys`);
    assertProblem(response, 400, message);
  }
  assert.equal(await stockOf(client, 2), 6);
});

Deno.test("the first wrong element of a long list is named, whatever follows it", async () => {
  await using network = await startNetwork(oneKme, [1, 1, 6]);
  const client = network.client(1);
  const list = (right: string, count: number, wrong: string) =>
    `[${[...Array(count).fill(right), ...Array(900).fill(wrong)].join(",")}]`;
  const cases: [path: string, body: string, message: string][] = [
    [
      ENC,
      `{"additional_slave_SAE_IDs":${list('"3"', 63, "1")}}`,
      "additional_slave_SAE_IDs[63]: invalid input",
    ],
    [
      ENC,
      `{"additional_slave_SAE_IDs":${list('"3"', 64, "1")}}`,
      "additional_slave_SAE_IDs[64]: invalid input",
    ],
    [
      ENC,
      `{"additional_slave_SAE_IDs":${list('"3"', 1000, "1")}}`,
      "additional_slave_SAE_IDs[1000]: invalid input",
    ],
    [
      ENC,
      `{"extension_optional":${list("{}", 300, "1")},"number":1}`,
      "extension_optional[300]: invalid input",
    ],
    [ENC, `{"extension_optional":${list("{}", 300, "1")},"number":0}`, "number: "],
    [
      ENC,
      `{"extension_optional":${list("{}", 1101, "{}")}}`,
      "extension_optional: has more than 2000 elements",
    ],
    [
      ENC,
      `{"extension_mandatory":${list("{}", 20_000, "1")}}`,
      "extension_mandatory: has more than 2000 elements",
    ],
    [DEC, `{"key_IDs":${list(`{"key_ID":"x"}`, 130, "{}")}}`, "key_IDs[130].key_ID: invalid input"],
    [DEC, `{"key_IDs":${list(`{"key_ID":"x"}`, 130, '{"key_ID":"y"}')}}`, "key_IDs[0].key_ID: is not a UUID"],
  ];
  for (const [path, body, message] of cases) {
    assertProblem(await post(client, path, body), 400, new RegExp(`^${message.replace(/[[\]]/g, "\\$&")}`));
  }
  assert.equal(await stockOf(client, 2), 6);
});

Deno.test("an extension that is mandatory and unknown is refused by its name, an optional one is ignored", async () => {
  await using network = await startNetwork(oneKme, [1, 1, 6]);
  const client = network.client(1);
  const message = "not all extension_mandatory parameters are supported";
  assertProblem(
    await client.encKeys(2, { extension_mandatory: [{ abc_route_type: "direct" }] }),
    400,
    message,
    [{ extension_mandatory_unsupported: "abc_route_type is not supported" }],
  );
  assertProblem(
    await client.encKeys(2, {
      extension_mandatory: [{ one: 1 }, { two: { deep: [] } }],
      extension_optional: [{ three: null }],
    }),
    400,
    message,
    [
      { extension_mandatory_unsupported: "one is not supported" },
      { extension_mandatory_unsupported: "two is not supported" },
    ],
  );
  // Names that mean something to JavaScript.
  for (const name of ["__proto__", "constructor", "toString", "hasOwnProperty", ""]) {
    assertProblem(
      await post(client, ENC, `{"extension_mandatory":[{"${name}":{"x":1}}]}`),
      400,
      message,
      [{ extension_mandatory_unsupported: `${name} is not supported` }],
    );
  }
  assert.equal(await stockOf(client, 2), 6);
  const optional = {
    extension_optional: [{ abc_route_type: "direct" }, { abc_transfer_method: "qkd" }],
  };
  assert.equal(keyIdsOf(await client.encKeys(2, optional)).length, 1);
  assert.equal(keyIdsOf(await client.encKeys(2, { extension_mandatory: [] })).length, 1);
  const named = '{"extension_optional":[{"constructor":1},{"__proto__":{}}]}';
  assert.equal(keyIdsOf(await post(client, ENC, named)).length, 1);
  assert.equal(await stockOf(client, 2), 3);
});

Deno.test("a supported extension is applied, or refused where it cannot be", async () => {
  await using network = await startNetwork(oneKme, [1, 1, 6]);
  const client = network.client(1);
  const notMet = "not all extension_mandatory request options could be met";
  const withAge = (kme_max_age_seconds: unknown) =>
    client.encKeys(2, { number: 2, extension_mandatory: [{ kme_max_age_seconds }] });
  assertProblem(await withAge(0), 400, notMet);
  for (const value of ["60", -1, null, true, {}]) {
    assertProblem(await withAge(value), 400, /^extension_mandatory\b.*kme_max_age_seconds/);
  }
  assert.equal(await stockOf(client, 2), 6);
  assert.equal(keyIdsOf(await withAge(3600)).length, 2);
  const optional = { extension_optional: [{ kme_max_age_seconds: 0 }] };
  assert.equal(keyIdsOf(await client.encKeys(2, optional)).length, 1);
});

Deno.test("the parameters of enc_keys are number and size, each once, and nothing else", async () => {
  await using network = await startNetwork(oneKmeWith({ max_key_per_request: 4 }), [1, 1, 10]);
  const client = network.client(1);
  const wrong: [query: string, message: string | RegExp][] = [
    ...[
      "0",
      "-1",
      "1.5",
      "",
      "abc",
      "+1",
      "0x1",
      "1e0",
      "%201",
      "1%20",
      "5",
      "99999999999999999999",
      "%D9%A1",
    ]
      .map((value): [string, RegExp] => [`number=${value}`, /^number\b/]),
    ["number", /^number\b/],
    ...["", "abc", "0x100", "2.5", "1e3", "99999999999999999999", "1".repeat(400)].map((
      value,
    ): [string, RegExp] => [`size=${value}`, /^size\b/]),
    ...["0", "-1", "-8", "65544"].map((value): [string, RegExp] => [
      `size=${value}`,
      /^size\b.*8 to 65536/,
    ]),
    ["size=255", "size shall be a multiple of 8"],
    ["number=1&number=1", /^number\b/],
    ["size=256&number=1&size=256", /^size\b/],
    ["additional_slave_SAE_IDs=4", /^additional_slave_SAE_IDs\b/],
    ["extension_mandatory=x", /^extension_mandatory\b/],
    ["Number=1", "Number: is not a parameter of this request; did you mean number?"],
    ["nubmer=1", "nubmer: is not a parameter of this request; did you mean number?"],
    ["key_sizes=256", "key_sizes: is not a parameter of this request; did you mean key_size?"],
    ["colour=red", "colour: is not a parameter of this request"],
    ["key_ID=1", /^key_ID\b/],
    ["key_size=7", "size shall be a multiple of 8"],
    ["key_size=x", /^key_size\b/],
    ["key_size=256&key_size=256", /^key_size\b/],
    ["key_size=256&size=512", "key_size: means size, which has another value"],
    ["number=1&other=", /^other\b/],
    ["other", /^other\b/],
  ];
  for (const [query, message] of wrong) {
    const response = await client.raw({ path: `${ENC}?${query}` });
    assert.notEqual(response.status, 200, `${query} was answered with keys`);
    assertProblem(response, 400, message);
  }
  assertProblem(await client.raw({ path: "/api/v1/keys/2/status?number=1" }), 400, /^number\b/);
  assert.equal(await stockOf(client, 2), 10);

  for (
    const [query, keys] of [
      ["", 1],
      ["number=2", 2],
      ["size=256", 1],
      ["size=256&number=%32", 2],
      ["key_size=256&size=256", 1],
    ] as const
  ) {
    assert.equal(keyIdsOf(await client.raw({ path: `${ENC}?${query}` })).length, keys);
  }
  assert.equal(await stockOf(client, 2), 3);
});

Deno.test("a POST may have number and size in the URL too, if they do not contradict its body", async () => {
  await using network = await startNetwork(oneKmeWith({ max_key_per_request: 4 }), [1, 1, 12]);
  const client = network.client(1);
  const wrong: [query: string, body: string, message: string | RegExp][] = [
    ["number=2", '{"number":1}', "number: the URL and the body have different values"],
    ["size=512", '{"size":256}', "size: the URL and the body have different values"],
    ["key_size=512", '{"size":256}', "size: the URL and the body have different values"],
    ["number=x", "", /^number\b/],
    ["number=5", "{}", /^number\b/],
    ["key_ID=1", "", /^key_ID\b/],
    ["other=1", '{"number":1}', /^other\b/],
  ];
  for (const [query, body, message] of wrong) {
    assertProblem(await post(client, `${ENC}?${query}`, body), 400, message);
  }
  assert.equal(await stockOf(client, 2), 12);
  const right: [query: string, body: string, keys: number, bytes: number][] = [
    ["number=2", "", 2, 32],
    ["number=2&size=512", "{}", 2, 64],
    ["number=1", '{"number":1,"size":128}', 1, 16],
    ["key_size=128", '{"number":2}', 2, 16],
    ["size=256", '{"size":null}', 1, 32],
  ];
  for (const [query, body, number, bytes] of right) {
    const keys = keysOf(await post(client, `${ENC}?${query}`, body));
    assert.deepEqual(
      keys.map(({ key }) => atob(key).length === bytes),
      Array(number).fill(true),
      `${query} ${body}`,
    );
  }
});

Deno.test("what dec_keys does not know is ignored, and one key_ID may be in the URL of a POST", async () => {
  await using network = await startNetwork(oneKme, [1, 1, 4]);
  const [master, slave] = [network.client(1), network.client(2)];
  const ids = keyIdsOf(await master.encKeys(2, { number: 4 }));
  const dec = "/api/v1/keys/1/dec_keys";
  const listed = (...ids: string[]) => JSON.stringify({ key_IDs: ids.map((key_ID) => ({ key_ID })) });
  const wrong: [query: string, body: string][] = [
    [`key_ID=${ids[0]}`, listed(ids[1]!)],
    [`key_ID=${ids[0]}`, listed(ids[0]!, ids[1]!)],
    [`key_ID=${ids[0]}&key_ID=${ids[0]}`, ""],
    ["key_ID=x", listed(ids[0]!)],
  ];
  for (const [query, body] of wrong) {
    assertProblem(await post(slave, `${dec}?${query}`, body), 400, /^key_ID\b/);
  }
  assertProblem(await slave.raw({ path: `${dec}?key_ID=${ids[0]}&key_ID=${ids[1]}` }), 400, /^key_ID\b/);
  assertProblem(await slave.raw({ path: `${dec}?keyID=${ids[0]}` }), 400, /^key_ID\b/);
  const right: [string, Promise<SaeResponse>][] = [
    [ids[0]!, slave.raw({ path: `${dec}?key_ID=${ids[0]}&key_size=256&key_size=7&number` })],
    [ids[1]!, post(slave, `${dec}?key_ID=${ids[1]}`, "")],
    [ids[2]!, post(slave, `${dec}?key_ID=${ids[2]!.toUpperCase()}&x=1`, listed(ids[2]!))],
    [ids[3]!, post(slave, `${dec}?size=256`, listed(ids[3]!))],
  ];
  for (const [id, response] of right) assert.deepEqual(keyIdsOf(await response), [id]);
});

Deno.test("a member that comes twice in an object of the body gets 400, and consumes no keys", async () => {
  await using network = await startNetwork(oneKme, [1, 1, 8]);
  const [master, slave] = [network.client(1), network.client(2)];
  const [id] = keyIdsOf(await master.encKeys(2));
  const repeated: [body: string, name: string][] = [
    ['{"number":1,"number":2}', "number"],
    ['{"number":1,"number":1}', "number"],
    ['{"number":1,"size":256,"n\\u0075mber":null}', "number"],
    ['{"x":[{"y":{"a":1,"b":[],"a":2}}]}', "a"],
    ['{"\\"":1,"\\"":2}', '"'],
    ['{"__proto__":1,"__proto__":2}', "__proto__"],
    ['{"":1,"":2}', ""],
  ];
  for (const [body, name] of repeated) {
    assertProblem(await post(master, ENC, body), 400, `${name}: is given more than once`);
  }
  for (
    const body of [
      `{"key_IDs":[{"key_ID":"${unknownKeyId()}"}],"key_IDs":[{"key_ID":"${id}"}]}`,
      `{"key_IDs":[{"key_ID":"${unknownKeyId()}","key_ID":"${id}"}]}`,
    ]
  ) {
    assertProblem(
      await post(slave, "/api/v1/keys/1/dec_keys", body),
      400,
      /^key_IDs?: is given more than once$/,
    );
  }
  assert.equal(await stockOf(master, 2), 7);
  // Names that are values, that are in different objects, or that have a quote or a colon in them.
  const single = [
    '{"x":["number","number"],"number":1}',
    '{"x":{"number":7},"y":{"number":8},"number":1}',
    '{"x":"\\"number\\":","number":1}',
    '{"x":"number","number":1,"y":"{\\"number\\":1}"}',
  ];
  for (const body of single) assert.equal(keyIdsOf(await post(master, ENC, body)).length, 1, body);
  assert.deepEqual(keyIdsOf(await slave.decKeys(1, id!)), [id]);
});

Deno.test("null means absent, unknown members are ignored, an empty body of any type is an empty request", async () => {
  await using network = await startNetwork(oneKme, [1, 1, 40]);
  const client = network.client(1);
  const members = ["number", "size", "additional_slave_SAE_IDs", "extension_mandatory", "extension_optional"];
  const bodies = [
    "{}",
    " \r\n\t{ } ",
    ...members.map((name) => `{"${name}":null}`),
    `{${members.map((name) => `"${name}":null`)}}`,
    '{"additional_slave_SAE_IDs":[],"extension_mandatory":[],"extension_optional":[]}',
    '{"something":{"else":[1]},"Number":7,"__proto__":{"number":7},"constructor":1,"toString":null}',
    '{"number":1,"size":256}',
    '{"number":1.0,"size":2.56e2}',
  ];
  for (const body of bodies) {
    const response = await post(client, ENC, body);
    assert.equal(response.status, 200, `${body}: ${response.text}`);
    assert.equal(keyIdsOf(response).length, 1, body);
  }
  const types = ["application/json", "text/plain", "application/x-www-form-urlencoded", "x", ""];
  for (const type of types) {
    assert.equal(keyIdsOf(await post(client, ENC, "", { "Content-Type": type })).length, 1, type);
    assert.equal(keyIdsOf(await post(client, ENC, undefined, { "Content-Type": type })).length, 1, type);
  }
  for (const type of types) {
    assert.equal(keyIdsOf(await post(client, ENC, " \r\n\t", { "Content-Type": type })).length, 1, type);
    assertProblem(await post(client, DEC, " \r\n\t", { "Content-Type": type }), 400, /^key_IDs\b/);
  }
  assert.equal(keyIdsOf(await post(client, ENC, undefined, {})).length, 1);
  assert.equal(keyIdsOf(await post(client, ENC, "", { "Transfer-Encoding": "chunked" })).length, 1);
  // Not JSON's white space.
  assertProblem(await post(client, ENC, "\u00a0"), 400, /JSON/);
  assert.equal(await stockOf(client, 2), 40 - bodies.length - 3 * types.length - 2);
});

Deno.test("a body of another type gets 415; JSON is named in any way, not at all, or as a client's default", async () => {
  await using network = await startNetwork(oneKme, [1, 1, 10]);
  const client = network.client(1);
  const body = '{"number":1}';
  const others: [type: string, body: string][] = [
    ["application/xml", body],
    ["application/jsonx", body],
    ["text/html", body],
    ["application/x-www-form-urlencoded", "number=1"],
    ["text/plain", "number=1"],
    ["multipart/form-data; boundary=x", body],
  ];
  for (const [type, body] of others) {
    assertProblem(await post(client, ENC, body, { "Content-Type": type }), 415);
  }
  for (const type of ["application/xml", "application/jsonx"]) {
    const keyIds = `{"key_IDs":[{"key_ID":"${unknownKeyId()}"}]}`;
    assertProblem(await post(client, DEC, keyIds, { "Content-Type": type }), 415);
  }
  assert.equal(await stockOf(client, 2), 10);
  const right = [
    "application/json",
    "Application/JSON",
    "application/json; charset=utf-8",
    "application/json ;x=y",
    "application/x-www-form-urlencoded",
    "text/plain;charset=UTF-8",
  ];
  for (const type of right) {
    assert.equal(keyIdsOf(await post(client, ENC, body, { "Content-Type": type })).length, 1, type);
  }
  assert.equal(keyIdsOf(await post(client, ENC, body, {})).length, 1);
});

Deno.test("a body over 64 KiB gets 413, with and without an announced length", async () => {
  await using network = await startNetwork(oneKme, [1, 1, 10]);
  const client = network.client(1);
  const limit = 64 * 1024;
  const padded = (length: number) => '{"number":1}'.padEnd(length);
  for (const path of [ENC, DEC]) {
    for (const length of [limit + 1, 10 * limit]) {
      assertProblem(await post(client, path, padded(length)), 413);
      assertProblem(
        await post(client, path, padded(length), { ...JSON_TYPE, "Transfer-Encoding": "chunked" }),
        413,
      );
    }
  }
  assert.equal(await stockOf(client, 2), 10);
  assert.equal(keyIdsOf(await post(client, ENC, padded(limit))).length, 1);
  const chunked = { ...JSON_TYPE, "Transfer-Encoding": "chunked" };
  assert.equal(keyIdsOf(await post(client, ENC, padded(limit), chunked)).length, 1);

  // The answer to what is far too much comes before all of it was sent.
  const socket = await client.openSocket();
  socket.write(`POST ${ENC} HTTP/1.1\r\nHost: kme\r\nContent-Length: 1000000000\r\n\r\n{`);
  const [start] = await once(socket, "data");
  assert.match(String(start), /^HTTP\/1\.1 413 /);
  socket.destroy();
});

Deno.test("a body that is not UTF-8 gets 400 and consumes no keys", async () => {
  await using network = await startNetwork(oneKme, [1, 1, 3]);
  const client = network.client(1);
  const encode = (text: string) => new TextEncoder().encode(text);
  const broken = [
    new Uint8Array([...encode('{"x":"'), 0xff, ...encode('"}')]),
    new Uint8Array([...encode('{"x":"'), 0xc3, ...encode('"}')]),
    new Uint8Array([...encode('{"x":"'), 0xed, 0xa0, 0x80, ...encode('"}')]),
    new Uint8Array([0xff, 0xfe, 0x7b, 0x00, 0x7d, 0x00]),
  ];
  for (const body of broken) {
    assertProblem(await post(client, ENC, body), 400, /UTF-8/);
    assertProblem(await post(client, DEC, body), 400, /UTF-8/);
  }
  assert.equal(await stockOf(client, 2), 3);
});

Deno.test("a client that hangs up in the middle of its request consumes no keys", async () => {
  await using network = await startNetwork(oneKme, [1, 1, 3]);
  const client = network.client(1);
  // What came is whole JSON, and yet not what was announced.
  for (
    const rest of [
      'Content-Length: 20\r\n\r\n{"number":1}',
      'Transfer-Encoding: chunked\r\n\r\nc\r\n{"number":1}\r\n',
    ]
  ) {
    const socket = await client.openSocket();
    const text = `POST ${ENC} HTTP/1.1\r\nHost: kme\r\nExpect: 100-continue\r\n${rest}`;
    // The answer to the expectation shows that the body is being read.
    const [start] = await Promise.all([once(socket, "data"), socket.write(text)]);
    assert.match(String(start), /^HTTP\/1\.1 100 /);
    socket.destroy();
    await once(socket, "close");
  }
  // Asked for behind them: they are not under way any more.
  assert.equal(keyIdsOf(await client.encKeys(2)).length, 1);
  assert.equal(await stockOf(client, 2), 2);
});

Deno.test("an unknown SAE is 400 that names it", async () => {
  await using network = await startNetwork(oneKme, [1, 1, 3]);
  const client = network.client(1);
  for (const id of ["9", "02", "2 ", "2.0", "sae"]) {
    assertProblem(await client.status(id), 400, new RegExp(`"?${id}"?`));
    assertProblem(await client.encKeys(id), 400, new RegExp(`"?${id}"?`));
    assertProblem(await client.encKeys(id, {}, { body: {} }), 400, new RegExp(`"?${id}"?`));
    assertProblem(await client.decKeys(id, unknownKeyId()), 400, new RegExp(`"?${id}"?`));
  }
  assert.equal(await stockOf(client, 2), 3);
});

Deno.test("invalid Key IDs get 400 that names the member, and no key is read", async () => {
  await using network = await startNetwork(oneKmeWith({ max_key_per_request: 3 }), [1, 1, 3]);
  const [master, slave] = [network.client(1), network.client(2)];
  const ids = keyIdsOf(await master.encKeys(2, { number: 3 }));
  const dec = "/api/v1/keys/1/dec_keys";
  const right = `{"key_ID":"${ids[0]}"}`;
  const wrong: [body: string, message: RegExp][] = [
    ["", /key_IDs/],
    ["{}", /key_IDs/],
    ['{"key_IDs":null}', /key_IDs/],
    ['{"key_IDs":[]}', /key_IDs/],
    [`{"key_IDs":${right}}`, /key_IDs/],
    [`{"key_IDs":"${ids[0]}"}`, /key_IDs/],
    [`{"key_IDs":["${ids[0]}"]}`, /key_IDs/],
    [`{"key_ids":[${right}]}`, /key_IDs/],
    [`{"key_IDs":[${right},{}]}`, /key_ID/],
    [`{"key_IDs":[${right},null]}`, /key_IDs/],
    [`{"key_IDs":[${right},{"key_ID":null}]}`, /key_ID/],
    [`{"key_IDs":[${right},{"key_ID":7}]}`, /key_ID/],
    [`{"key_IDs":[${right},{"key_id":"${ids[1]}"}]}`, /key_ID/],
    ...["", "x", ids[1]!.replaceAll("-", ""), `{${ids[1]}}`, `urn:uuid:${ids[1]}`, `${ids[1]} `, `${ids[1]}0`]
      .map((id): [string, RegExp] => [`{"key_IDs":[${right},{"key_ID":${JSON.stringify(id)}}]}`, /key_ID\b/]),
    [`{"key_IDs":[${Array(4).fill(right)}]}`, /key_IDs/],
    [`[${right}]`, /object/],
    ["null", /./],
    ['"x"', /object/],
    ["{", /JSON/],
    [`key_ID=${ids[0]}`, /JSON/],
  ];
  for (const [body, message] of wrong) {
    const response = await post(slave, dec, body);
    assert.notEqual(response.status, 200, `${body} was answered with keys`);
    assertProblem(response, 400, message);
  }
  const queries = [
    "",
    "?key_ID=",
    "?key_ID=x",
    "?key_ID",
    `?key_ID=${ids[0]}&key_ID=${ids[1]}`,
    `?key_ID=${ids[0]}&key_ID=${ids[0]}`,
    `?key_ID=${ids[0]},${ids[1]}`,
    `?key_IDs=${ids[0]}`,
    `?key_id=${ids[0]}`,
  ];
  for (const query of queries) {
    const response = await slave.raw({ path: dec + query });
    assert.notEqual(response.status, 200, `${query} was answered with keys`);
    assertProblem(response, 400, /^key_ID\b/);
  }
  assert.equal((await slave.decKeys(1, ids)).status, 200);
});

Deno.test("extensions and unknown members of Key IDs are ignored", async () => {
  await using network = await startNetwork(oneKme, [1, 1, 1]);
  const [keyId] = keyIdsOf(await network.client(1).encKeys(2));
  const body = {
    key_IDs: [{ key_ID: keyId, key_ID_extension: { a: 1 }, other: null }],
    key_IDs_extension: null,
    number: "x",
  };
  assert.deepEqual(keyIdsOf(await network.client(2).decKeys(1, [], { body })), [keyId]);
});

Deno.test("a GET with a body is refused, not answered as if it had none", async () => {
  await using network = await startNetwork(oneKme, [1, 1, 3]);
  const client = network.client(1);
  const body = '{"number":2}';
  const response = await client.raw({ method: "GET", path: ENC, headers: JSON_TYPE, body });
  assertProblem(response, 400, /body/);
  assert.equal(await stockOf(client, 2), 3);
});

Deno.test("headers that are too large are refused, and the next connection is served", async () => {
  await using network = await startNetwork(oneKme, [1, 1, 1]);
  const client = network.client(1, { agent: false });
  const socket = await client.openSocket();
  socket.write(`GET ${ENC} HTTP/1.1\r\nHost: kme\r\nX-Large: ${"x".repeat(1_000_000)}\r\n\r\n`);
  assert.doesNotMatch(await readToEnd(socket), /^HTTP\/1\.1 [25]/);
  assert.equal(await stockOf(client, 2), 1);
});
