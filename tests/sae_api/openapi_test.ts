/** docs/openapi.yaml says what the SAE interface does: no more, no less. */
import assert from "node:assert/strict";
import { Validator } from "@seriousme/openapi-schema-validator";
import addFormats from "ajv-formats";
import Ajv2020, { type ValidateFunction } from "ajv/dist/2020.js";
import { parse } from "yaml";
import { z } from "zod";
import type { Delivery } from "../../src/delivery/delivery.ts";
import { KeySize } from "../../src/domain/key.ts";
import { Directory } from "../../src/delivery/directory.ts";
import { parseExtensions } from "../../src/sae_api/extensions.ts";
import { keyIdsSchema, keyRequestSchema } from "../../src/sae_api/requests.ts";
import { saeApp } from "../../src/sae_api/sae_app.ts";
import { StoreUnavailable } from "../../src/domain/store_errors.ts";
import { PROJECT_ROOT } from "../harness/kme_process.ts";
import type { SaeResponse } from "../harness/sae_client.ts";
import { keyIdsOf } from "../harness/sae_client.ts";
import { oneKmeWith, startNetwork, unknownKeyId } from "./api_fixture.ts";

// deno-lint-ignore no-explicit-any
type Json = any;

const document: Json = parse(await Deno.readTextFile(`${PROJECT_ROOT}docs/openapi.yaml`));
const METHODS = ["get", "head", "post", "put", "delete", "patch", "options"];

/** The value itself, or what its `$ref` points to. */
function resolve(value: Json): Json {
  if (value?.$ref === undefined) return value;
  return value.$ref.slice(2).split("/").reduce((at: Json, name: string) => at[name], document);
}

/** A schema with all it refers to, wherever it stands. */
function inlined(schema: Json): Json {
  if (Array.isArray(schema)) return schema.map(inlined);
  if (typeof schema !== "object" || schema === null) return schema;
  const target = resolve(schema);
  return Object.fromEntries(Object.entries(target).map(([name, value]) => [name, inlined(value)]));
}

/** Operations as `[path, method, operation]`. */
const operations: [string, string, Json][] = Object.entries<Json>(document.paths).flatMap(([path, item]) =>
  METHODS.filter((method) => item[method] !== undefined)
    .map((method): [string, string, Json] => [path, method, item[method]])
);

const ajv = new Ajv2020.default({ strict: true, strictTypes: false, strictRequired: false, allErrors: true });
addFormats.default(ajv);

const compiled = new Map<string, ValidateFunction>();

/** With `closed`, members that the schema does not name are mistakes: answers have none. */
function validate(schema: Json, value: unknown, closed = false): string | undefined {
  const whole = inlined(schema);
  const use = closed ? closeObjects(whole) : whole;
  const key = JSON.stringify(use);
  let check = compiled.get(key);
  if (check === undefined) compiled.set(key, check = ajv.compile(use));
  return check(value) ? undefined : ajv.errorsText(check.errors);
}

function closeObjects(schema: Json): Json {
  if (Array.isArray(schema)) return schema.map(closeObjects);
  if (typeof schema !== "object" || schema === null) return schema;
  const copy = Object.fromEntries(Object.entries(schema).map(([name, value]) => [name, closeObjects(value)]));
  return copy.properties === undefined ? copy : { ...copy, additionalProperties: false };
}

Deno.test("the document is valid OpenAPI 3.1", async () => {
  const result = await new Validator().validate(structuredClone(document));
  assert.ok(result.valid, JSON.stringify(result.errors, null, 2));
  assert.match(document.openapi, /^3\.1\./);
  const ids = operations.map(([, , operation]) => operation.operationId);
  assert.equal(new Set(ids).size, ids.length, "an operationId twice");
  for (const [path, method, operation] of operations) {
    assert.ok(operation.summary && operation.description, `${method} ${path} lacks words`);
  }
});

Deno.test("every example is what its schema says", () => {
  let examples = 0;
  const look = (content: Json, where: string) => {
    for (const [type, { schema, examples: given }] of Object.entries<Json>(content ?? {})) {
      assert.equal(type, "application/json");
      for (const [name, example] of Object.entries<Json>(given)) {
        assert.equal(validate(schema, example.value), undefined, `${where}: ${name}`);
        examples++;
      }
    }
  };
  for (const [path, method, operation] of operations) {
    look(operation.requestBody?.content, `${method} ${path}`);
    for (const [status, response] of Object.entries(operation.responses)) {
      look(resolve(response).content, `${method} ${path} ${status}`);
    }
    for (const parameter of [...document.paths[path].parameters ?? [], ...operation.parameters ?? []]) {
      const { schema, example } = resolve(parameter);
      assert.equal(validate(schema, example), undefined, `${method} ${path}`);
    }
  }
  assert.ok(examples > 30);
});

/** What requests look like: wire schemas in one form, without annotations. */
function plain(schema: Json): Json {
  if (Array.isArray(schema)) return schema.map(plain);
  if (typeof schema !== "object" || schema === null) return schema;
  if (schema.anyOf?.length === 2 && schema.anyOf[1].type === "null") {
    const { type, ...rest } = plain(schema.anyOf[0]);
    return { ...rest, type: [type, "null"] };
  }
  const left = Object.entries(schema).filter(([name, value]) =>
    !["$schema", "description", "default", "format", "propertyNames"].includes(name) &&
    !(name === "maximum" && value === Number.MAX_SAFE_INTEGER) &&
    !(name === "minimum" && value === Number.MIN_SAFE_INTEGER) &&
    !(name === "additionalProperties" && JSON.stringify(value) === "{}")
  );
  return Object.fromEntries(left.map(([name, value]) => [
    name,
    name === "properties"
      ? Object.fromEntries(Object.entries(value as Json).map(([member, each]) => [member, plain(each)]))
      : plain(value),
  ]));
}

Deno.test("requests are described as they are checked", () => {
  const { KeyRequest, KeyIDs } = document.components.schemas;
  const described = inlined(KeyRequest);
  // What delivery checks after the wire format.
  const { size } = described.properties;
  assert.deepEqual(
    [size.minimum, size.maximum, size.multipleOf, size.default],
    [KeySize.min, KeySize.max, 8, KeySize.default],
  );
  delete size.minimum;
  delete size.maximum;
  delete size.multipleOf;
  const extension = described.properties.extension_mandatory.items;
  const extensions = Object.keys(extension.properties);
  assert.ok(extensions.length > 0);
  for (const name of extensions) parseExtensions([{ [name]: 1 }]);
  delete extension.properties;
  assert.deepEqual(plain(described), plain(z.toJSONSchema(keyRequestSchema, { io: "input" })));
  assert.deepEqual(plain(inlined(KeyIDs)), plain(z.toJSONSchema(keyIdsSchema, { io: "input" })));
  for (const [path, method, operation] of operations) {
    const schema = operation.requestBody?.content["application/json"].schema;
    const expected = method !== "post" ? undefined : resolve(schema) === KeyRequest ? "enc_keys" : "dec_keys";
    assert.equal(schema === undefined ? undefined : path.split("/").at(-1), expected);
    for (const parameter of operation.parameters ?? []) {
      const { name, schema } = parameter;
      const { description: _, type, ...inBody } = KeyRequest.properties[name] ?? { type: ["string"] };
      if (name === "key_ID") assert.deepEqual(schema, { type: "string", format: "uuid" });
      else assert.deepEqual(schema, { ...inBody, type: type[0] }, `${name} differs between GET and POST`);
    }
  }
});

Deno.test("the schemas accept and refuse what the KME accepts and refuses", () => {
  const values = (member: string, ...list: unknown[]) => list.map((value) => ({ [member]: value }));
  const bodies: unknown[] = [
    ...[{}, [], null, 1, "x", { other: 1 }],
    ...values("number", 1, 3, 1e9, 0, -1, 1.5, "1", true, null, [], {}),
    ...values("size", 8, 64, 256, 4096, 65_536, 2.5, "256", null, {}),
    ...values("additional_slave_SAE_IDs", [], ["2"], ["2", "3"], [2], [null], "2", {}, null),
    ...values("extension_mandatory", [], [{}], [{ kme_max_age_seconds: 1 }], {}, [1], ["x"], [null], null),
    ...values("extension_optional", [], [{ a: { b: [] } }], {}, [[]], "x", null),
    ...values("key_IDs", [], {}, null, ["x"], [{}], [{ key_ID: null }], [{ key_ID: 7 }], [{ key_ID: "x" }]),
    { key_IDs: [{ key_ID: unknownKeyId() }] },
    { key_IDs: [{ key_ID: unknownKeyId().toUpperCase(), key_ID_extension: {} }], key_IDs_extension: {} },
    { key_IDs: [{ key_ID: unknownKeyId() }, { key_ID: 1 }] },
  ];
  for (
    const [name, schema] of [["KeyRequest", keyRequestSchema], ["KeyIDs", keyIdsSchema]] as const
  ) {
    // `uuid` is checked after the wire format.
    const described = JSON.parse(
      JSON.stringify(inlined(document.components.schemas[name])).replaceAll(',"format":"uuid"', ""),
    );
    for (const body of bodies) {
      const taken = validate(described, body) === undefined;
      assert.equal(taken, schema.safeParse(body).success, `${name}: ${JSON.stringify(body)}`);
    }
  }
});

Deno.test("paths and methods are those of the interface", async () => {
  const stub = stubApp();
  // One route serves all that is about an SAE; what it tells apart stands in its text.
  const source = await Deno.readTextFile(`${PROJECT_ROOT}src/sae_api/sae_app.ts`);
  const resources = [...source.matchAll(/case "(\w+)":/g)].map(([, name]) => `/api/v1/keys/:sae/${name}`);
  const routes = stub.routes.map(({ path }) => path).filter((path) => !/\*|:resource$/.test(path));
  const served = new Set([...routes, ...resources, "/api/v1/keys/entropy/total"]);
  const documented = Object.keys(document.paths).map((path) => path.replace(/\{\w+\}/g, ":sae"));
  assert.deepEqual([...served].toSorted(), documented.toSorted());
  for (const path of Object.keys(document.paths)) {
    const response = await request(stub, "PROPFIND", path.replace(/\{.*\}/, "2"));
    assert.equal(response.status, 405);
    const allowed = response.headers.get("allow")!.split(", ").map((method) => method.toLowerCase());
    const methods = METHODS.filter((method) => document.paths[path][method] !== undefined);
    assert.deepEqual(allowed.toSorted(), methods.toSorted(), path);
  }
});

Deno.test("every documented answer is given, and every answer is documented", async () => {
  const options = { max_key_per_request: 4 };
  await using network = await startNetwork(oneKmeWith(options), [1, 1, 40]);
  const client = network.client(1);
  const stranger = network.client(1, await network.issueClient(1));
  const seen = new Set<string>();
  const check = (path: string, method: string, response: SaeResponse) => {
    const where = `${method} ${path} ${response.status}`;
    const documented = document.paths[path][method].responses[response.status];
    assert.ok(documented !== undefined, `${where} is not documented: ${response.text.slice(0, 200)}`);
    seen.add(where);
    const { content, headers } = resolve(documented);
    if (headers !== undefined) assert.equal(response.headers["cache-control"], "no-store");
    if (content === undefined) return assert.equal(response.text, "", where);
    assert.equal(response.headers["content-type"], "application/json");
    assert.equal(validate(content["application/json"].schema, response.json, true), undefined, where);
  };
  const [status, enc, dec, me, entropy] = [
    "/api/v1/keys/{slave_SAE_ID}/status",
    "/api/v1/keys/{slave_SAE_ID}/enc_keys",
    "/api/v1/keys/{master_SAE_ID}/dec_keys",
    "/api/v1/sae/info/me",
    "/api/v1/keys/entropy/total",
  ] as const;
  const at = (path: string, sae: string | number = 2) => path.replace(/\{.*\}/, String(sae));
  const JSON_TYPE = { "content-type": "application/json" };

  for (const method of ["get", "head"]) {
    for (const [who, sae] of [[client, 2], [client, 9], [stranger, 2]] as const) {
      check(status, method, await who.raw({ method: method.toUpperCase(), path: at(status, sae) }));
    }
  }
  check(status, "get", await client.raw({ path: `${at(status)}?number=1` }));

  const queries = [
    "",
    "?number=2&size=8",
    "?size=4096",
    "?size=65544",
    "?number=0",
    "?size=65",
    "?other=1",
    "?number=5",
  ];
  for (const query of queries) check(enc, "get", await client.raw({ path: at(enc) + query }));
  check(enc, "get", await client.raw({ path: `${at(enc)}?number=4&size=4096` }));
  check(enc, "get", await stranger.raw({ path: at(enc) }));
  const bodies = [
    "",
    "{",
    '{"number":2}',
    '{"size":264,"additional_slave_SAE_IDs":["4"]}',
    '{"additional_slave_SAE_IDs":["2"]}',
    '{"extension_mandatory":[{"abc_route_type":"direct"}]}',
    '{"extension_mandatory":[{"kme_max_age_seconds":0}]}',
    '{"number":4,"size":4096}',
    " ".repeat(70_000),
  ];
  const post = (
    who: typeof client,
    path: string,
    body: string,
    headers: Record<string, string> = JSON_TYPE,
  ) => who.raw({ method: "POST", path, headers, body });
  for (const body of bodies) check(enc, "post", await post(client, at(enc), body));
  check(enc, "post", await post(client, at(enc), "x", { "content-type": "text/plain" }));
  check(enc, "post", await post(stranger, at(enc), "{}"));

  const slave = network.client(2);
  const [a, b, c] = keyIdsOf(await client.encKeys(2, { number: 3 }));
  const ids = (...list: unknown[]) => JSON.stringify({ key_IDs: list.map((key_ID) => ({ key_ID })) });
  for (const who of [network.client(4), stranger]) {
    check(dec, "get", await who.raw({ path: `${at(dec, 1)}?key_ID=${a}` }));
    check(dec, "post", await post(who, at(dec, 1), ids(a)));
  }
  for (const query of [`?key_ID=${a}`, `?key_ID=${a}`, "?key_ID=x", ""]) {
    check(dec, "get", await slave.raw({ path: at(dec, 1) + query }));
  }
  for (const body of [ids(b, c), ids(b), ids("x"), ids(), "", " ".repeat(70_000)]) {
    check(dec, "post", await post(slave, at(dec, 1), body));
  }
  check(dec, "post", await post(slave, at(dec, 1), "x", { "content-type": "text/plain" }));

  const GET_WITH_BODY = { method: "GET", headers: JSON_TYPE, body: "{}" };
  for (const path of [me, entropy]) {
    for (const who of [client, stranger]) check(path, "get", await who.raw({ path }));
    check(path, "get", await client.raw({ ...GET_WITH_BODY, path }));
  }

  // With the key store away.
  const stub = stubApp();
  const calls: [string, string, string?][] = [
    [status, "get"],
    [status, "head"],
    [enc, "get"],
    [enc, "post", "{}"],
    [dec, "get"],
    [dec, "post", ids(a)],
    [entropy, "get"],
  ];
  for (const [path, method, body] of calls) {
    const query = path === dec && method === "get" ? `?key_ID=${a}` : "";
    const response = await request(stub, method.toUpperCase(), at(path) + query, body);
    const text = await response.text();
    assert.equal(response.status, 503);
    check(path, method, {
      status: response.status,
      headers: Object.fromEntries(response.headers),
      text,
      json: text === "" ? undefined : JSON.parse(text),
    });
  }

  const documented = operations.flatMap(([path, method, { responses }]) =>
    Object.keys(responses).map((status) => `${method} ${path} ${status}`)
  );
  assert.deepEqual([...seen].toSorted(), documented.toSorted());
});

/** The interface over a key store that is away, for SAE 1. */
function stubApp() {
  const thisKme = {
    id: { text: "1", integer: true },
    saesInterface: { clientCa: "" },
    kmesInterface: { clientCa: "" },
    reserveShares: [],
  };
  const sae = (text: string, subjectCn: string) => ({
    id: { text, integer: true },
    kmeId: "1",
    certificates: [{ subjectCn }],
  });
  const away = () => Promise.reject(new StoreUnavailable());
  return saeApp({
    directory: new Directory(
      {
        thisKme,
        otherKmes: [],
        saes: [sae("1", "SAE 1"), sae("2", "SAE 2")],
      } as unknown as ConstructorParameters<
        typeof Directory
      >[0],
    ),
    delivery: {
      status: away,
      getKeys: away,
      getKeysWithIds: away,
      totalEntropy: away,
    } as unknown as Delivery,
  });
}

function request(app: ReturnType<typeof stubApp>, method: string, path: string, body?: string) {
  const connection = {
    identity: {
      serial: 1n,
      fingerprint: "",
      subject: "CN=SAE 1",
      subjectCns: ["SAE 1"],
      sanDns: [],
      sanUri: [],
      sanEmail: [],
      issuer: "CN=CA",
      issuerCns: ["CA"],
      issuerFingerprint: "",
      notAfter: 0,
    },
    requestComplete: () => {},
  };
  return app.request(
    path,
    { method, body, headers: body === undefined ? {} : { "content-type": "application/json" } },
    { connection },
  );
}
