import assert from "node:assert/strict";
import { alternativeNames, commonNames } from "../../src/x509/certificate_names.ts";
import { derElement, TAG } from "../../src/x509/der.ts";

/** DER of an element. */
function der(tag: number, ...content: (Uint8Array | string)[]): Uint8Array {
  const bytes = content.flatMap((
    part,
  ) => [...typeof part === "string" ? new TextEncoder().encode(part) : part]);
  assert.ok(bytes.length < 128);
  return Uint8Array.from([tag, bytes.length, ...bytes]);
}

const CN = Uint8Array.of(6, 3, 0x55, 4, 3);
const O = Uint8Array.of(6, 3, 0x55, 4, 10);
const name = (...attributes: [Uint8Array, Uint8Array][]) =>
  der(0x30, ...attributes.map(([type, value]) => der(0x31, der(0x30, type, value))));

Deno.test("common names are read whatever kind of string they are, and nothing in them ends them", () => {
  assert.deepEqual(
    commonNames(name([O, der(0x0c, "Org")], [CN, der(0x0c, "é\nCN=b, O=c")], [CN, der(0x13, "printable")])),
    ["é\nCN=b, O=c", "printable"],
  );
  assert.deepEqual(commonNames(name([CN, der(0x1e, Uint8Array.of(0, 65, 0x20, 0xac))])), ["A€"]);
  assert.deepEqual(commonNames(name([O, der(0x0c, "Org")])), []);
  // Counted, but equal to nothing.
  assert.deepEqual(commonNames(name([CN, der(0x1c, Uint8Array.of(0, 0, 0, 65))])), [""]);
  assert.deepEqual(commonNames(name([CN, der(0x0c, Uint8Array.of(0xff))])), [""]);
  assert.deepEqual(
    commonNames(der(0x30, der(0x31, der(0x30, O, der(0x0c, "x")), der(0x30, CN, der(0x0c, "y"))))),
    [
      "y",
    ],
  );
  assert.throws(() => commonNames(Uint8Array.of(0x30, 0x80)), RangeError);
  assert.throws(() => commonNames(der(0x30, der(0x31, der(0x30, CN)))), RangeError);
});

Deno.test("alternative names are told apart by their kind, and separators in them do not count", () => {
  const names = der(
    0x30,
    der(0x82, "a, URI:urn:b"),
    der(0x86, "urn:c"),
    der(0x81, "d@e"),
    der(0x87, "\x7f\0\0\x01"),
  );
  assert.deepEqual(alternativeNames(names), {
    dns: ["a, URI:urn:b"],
    uri: ["urn:c"],
    email: ["d@e"],
    ip: [Uint8Array.of(127, 0, 0, 1)],
  });
  assert.deepEqual(alternativeNames(undefined), { dns: [], uri: [], email: [], ip: [] });
  assert.deepEqual(alternativeNames(der(0x30, der(0x82, "é"))).dns, []);
  assert.throws(() => alternativeNames(der(0x31)), RangeError);
  assert.deepEqual(derElement(names, TAG.sequence).whole, names);
});
