/** Programs that generate clients read docs/openapi.yaml as it is, and what they generate accepts the answers. */
import assert from "node:assert/strict";
// The generator needs a compiler with an API in JavaScript; without this import the newest one would be used.
import "typescript";
import { createClient } from "@hey-api/openapi-ts";
import type { z } from "zod";
import { parse } from "yaml";
import { runChild } from "../harness/child_process.ts";
import { findProgram, testIfInstalled } from "../harness/installed.ts";
import { PROJECT_ROOT } from "../harness/kme_process.ts";
import { keyIdsOf, type SaeResponse } from "../harness/sae_client.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { startNetwork, unknownKeyId } from "./api_fixture.ts";

Deno.test("the zod client that @hey-api/openapi-ts generates accepts every answer", async () => {
  await using directory = await makeTempDir();
  await createClient({
    input: `${PROJECT_ROOT}docs/openapi.yaml`,
    output: { path: `${directory.path}/client` },
    plugins: ["zod"],
    logs: { level: "silent" },
  });
  const generated = await import(`file://${directory.path}/client/zod.gen.ts`) as Record<string, z.ZodType>;
  await using network = await startNetwork(
    {
      kmes: [{ id: 1, saes: [1, 2, "18446744073709551615"] }, { id: "site-2", saes: ["router-7"] }],
    },
    [1, 1, 300],
    [1, "site-2", 300],
  );
  const accepted = (validator: string, response: SaeResponse, status = 200) => {
    assert.equal(response.status, status, response.text);
    const { success, error } = generated[validator]!.safeParse(response.json);
    assert.ok(success, `${validator}: ${error?.message}`);
  };
  const [one, two, seven] = [network.client(1), network.client(2), network.client("router-7")];
  const big = network.client("18446744073709551615");
  for (const client of [one, big, seven]) {
    accepted("zGetOwnIdentityResponse", await client.raw({ path: "/api/v1/sae/info/me" }));
    accepted("zGetTotalEntropyResponse", await client.raw({ path: "/api/v1/keys/entropy/total" }));
  }
  for (const slave of [2, "router-7"]) {
    accepted("zGetStatusResponse", await one.status(slave));
    for (const size of [8, 16, 24, 256, 4096]) {
      accepted("zGetKeyResponse", await one.encKeys(slave, { number: 3, size }));
    }
    const request = { number: 30, size: null, extension_optional: [{ abc_x: { y: [1] } }] };
    assert.ok(generated.zPostGetKeyBody!.safeParse(request).success);
    const made = await one.encKeys(slave, {}, { body: request });
    accepted("zPostGetKeyResponse", made);
    const [first, ...others] = keyIdsOf(made);
    const reader = slave === 2 ? two : seven;
    accepted("zGetKeyWithKeyIdResponse", await reader.decKeys(1, first!));
    accepted("zPostGetKeyWithKeyIdsResponse", await reader.decKeys(1, others));
  }
  accepted("zError", await one.decKeys(2, unknownKeyId()), 400);
  accepted("zError", await one.encKeys(2, { extension_mandatory: [{ abc_x: 1 }] }), 400);
  accepted("zError", await one.encKeys(2, { number: 32, size: 4096 }), 503);
});

Deno.test("no type in the document is a list, except with null: oapi-codegen (Go) stops at any other", async () => {
  const lists: unknown[] = [];
  const look = (value: unknown) => {
    if (typeof value !== "object" || value === null) return;
    const { type } = value as { type?: unknown };
    if (Array.isArray(type) && !(type.length === 2 && type[1] === "null")) lists.push(value);
    Object.values(value).forEach(look);
  };
  look(parse(await Deno.readTextFile(`${PROJECT_ROOT}docs/openapi.yaml`)));
  assert.deepEqual(lists, []);
});

testIfInstalled(
  findProgram(
    ...[`${PROJECT_ROOT}tmp/go/bin`, "/usr/local/bin", "/usr/bin"].map((directory) =>
      `${directory}/oapi-codegen`
    ),
  ),
  "no oapi-codegen in tmp/go/bin or on the PATH",
  "oapi-codegen (Go) generates a client with a function for every call",
  async (program) => {
    const document = `${PROJECT_ROOT}docs/openapi.yaml`;
    const { code, stdout, stderr } = await runChild(program, {
      args: ["-package", "kme", "-generate", "types,client", document],
    });
    assert.equal(code, 0, stderr);
    const { paths } = parse(await Deno.readTextFile(document)) as {
      paths: Record<string, Record<string, { operationId?: string }>>;
    };
    const calls = Object.values(paths).flatMap((methods) => Object.values(methods))
      .flatMap(({ operationId }) => operationId ?? []);
    assert.ok(calls.length > 5);
    const functions = [...stdout.matchAll(/^func \(c \*Client\) (\w+)\(/gm)].map(([, name]) =>
      name!.toLowerCase()
    );
    for (const call of calls) assert.ok(functions.includes(call.toLowerCase()), call);
  },
);
