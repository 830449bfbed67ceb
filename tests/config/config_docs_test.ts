import assert from "node:assert/strict";
import { z } from "zod";
import { configSchema } from "../../src/config/file_schema.ts";
import { makeTestCa } from "../harness/test_certificates.ts";
import { makeFixture, right } from "./config_fixture.ts";

const text = await Deno.readTextFile(new URL("../../docs/config.md", import.meta.url));

type Described = z.core.JSONSchema.JSONSchema;
const object = (schema: unknown) => schema as Described;

/** The schema of an element of `certificates`. */
function selectorOf(owner: Described): Described {
  const list = object(owner.properties!.certificates).anyOf!.find((each) => object(each).type === "array");
  return object(object(list).items);
}

/** The schema of an array that may be absent. */
function arrayOf(optional: unknown): Described {
  return object(object(optional).anyOf!.find((each) => object(each).type === "array"));
}

/** The schema of an object that may be absent. */
function objectOf(optional: unknown): Described {
  return object(object(optional).anyOf!.find((each) => object(each).type === "object"));
}

/** Rows of the table below a heading: member and default. */
function rows(heading: string): [string, string][] {
  const section = text.split(`\n### ${heading}\n`)[1]?.split(/\n#/)[0];
  assert.ok(section !== undefined, `no section ${heading}`);
  return [...section.matchAll(/^\| `([^`]+)` \| ([^|]+) \|/gm)].map(([, member, value]) => [member!, value!]);
}

Deno.test("docs/config.md has every member, with its default, and no other", () => {
  const all = z.toJSONSchema(configSchema, { io: "input" });
  const thisKme = object(all.properties!.this_kme);
  const skipListener = object(
    object(thisKme.properties!.skip_https_interface).anyOf!.find((each) => object(each).type === "object"),
  );
  const sections: [string, Described][] = [
    ["The outermost object", all as Described],
    ["`this_kme`", thisKme],
    ["Listeners", object(thisKme.properties!.saes_https_interface)],
    ["Listeners", object(thisKme.properties!.kmes_https_interface)],
    ["Listeners", skipListener],
    ["Limits for SAEs", object(object(arrayOf(thisKme.properties!.reserve_share)).items)],
    ["The audit log", objectOf(thisKme.properties!.audit_log)],
    ["Encryption of stored keys", objectOf(thisKme.properties!.store_encryption)],
    ["`other_kmes[]`", object(object(all.properties!.other_kmes).items)],
    [
      "A QKD device",
      object(
        object(object(object(all.properties!.other_kmes).items).properties!.key_source).anyOf!
          .find((each) => object(each).type === "object"),
      ),
    ],
    ["`saes[]`", object(object(all.properties!.saes).items)],
    ["Certificates that identify", selectorOf(object(object(all.properties!.saes).items))],
    ["Certificates that identify", selectorOf(object(object(all.properties!.other_kmes).items))],
  ];
  for (const [heading, schema] of sections) {
    const documented = rows(heading);
    assert.deepEqual(documented.map(([member]) => member), Object.keys(schema.properties!), heading);
    for (const [member, value] of documented) {
      assert.equal(value === "required", schema.required?.includes(member) ?? false, `${heading} ${member}`);
      const standard = object(schema.properties![member]).default;
      if (standard !== undefined) assert.equal(value, `\`${standard}\``, `${heading} ${member}`);
    }
  }
});

Deno.test("docs/config.md says the bounds of numbers", () => {
  const thisKme = object(z.toJSONSchema(configSchema, { io: "input" }).properties!.this_kme).properties!;
  for (const [member, schema] of Object.entries(thisKme)) {
    const number = object(object(schema).anyOf?.find((each) => object(each).type === "integer"));
    if (number?.minimum === undefined) continue;
    const row = text.split("\n").find((line) => line.startsWith(`| \`${member}\` `))!;
    assert.match(row, new RegExp(`\\b${number.minimum} to ${number.maximum}\\b`), member);
  }
});

Deno.test("the example of docs/config.md is right", async () => {
  await using fixture = await makeFixture();
  const { path, ca, server, client } = fixture;
  for (const directory of ["keys/1-1", "keys/1-2", "certs/zone1", "certs/inter_kmes"]) {
    await Deno.mkdir(`${path}/${directory}`, { recursive: true });
  }
  for (const place of ["zone1", "inter_kmes"]) {
    await fixture.write(`certs/${place}/ca.crt`, (await makeTestCa(place)).ca);
    await fixture.write(`certs/${place}/server.crt`, server.cert);
    await fixture.write(`certs/${place}/server.key`, server.key);
  }
  await fixture.write("certs/inter_kmes/kme2-ca.crt", ca.ca);
  const pfx = await client.toPkcs12("the password of the file");
  await fixture.write("certs/inter_kmes/kme1-to-kme2.pfx", pfx);
  const example = /```json5\n([\s\S]*?)```/.exec(text)![1]!;
  const { config, warnings } = right(await fixture.loadText(example));
  assert.deepEqual(warnings, []);
  assert.equal(config.saes.length, 4);
});
