import assert from "node:assert/strict";
import fc from "fast-check";
import { parseHostPort } from "../../src/config/address_text.ts";
import { parseDatabaseUri } from "../../src/config/database_uri.ts";
import { formatMistake } from "../../src/config/findings.ts";
import { parseId } from "../../src/config/id_text.ts";
import type { Parsed } from "../../src/domain/parsed.ts";
import { parseSerial } from "../../src/config/serial_text.ts";
import { editDistance, nearest } from "../../src/domain/spelling.ts";
import { isLoopback, overlap } from "../../src/domain/address.ts";
import { formatMember } from "../../src/domain/member_path.ts";

function refused<T>(parsed: Parsed<T>, pattern: RegExp, what: unknown): void {
  assert.ok("problem" in parsed, `${what} is taken`);
  assert.match(parsed.problem, pattern);
}

Deno.test("an id keeps the form that it was written in", () => {
  const cases: [string | number, string, boolean][] = [
    [1, "1", true],
    [-7, "-7", true],
    [-0, "0", true],
    [0xe1, "225", true],
    [Number.MAX_SAFE_INTEGER, "9007199254740991", true],
    ["1", "1", false],
    ["KME Wien", "KME Wien", false],
    ["9007199254740991", "9007199254740991", false],
    ["9007199254740992", "9007199254740992", true],
    ["9007199254740993", "9007199254740993", true],
    ["-9223372036854775808", "-9223372036854775808", true],
    ["18446744073709551615", "18446744073709551615", true],
    ["18446744073709551616", "18446744073709551616", false],
    ["-9223372036854775809", "-9223372036854775809", false],
    ["009007199254740993", "009007199254740993", false],
    ["+9007199254740993", "+9007199254740993", false],
  ];
  for (const [written, text, integer] of cases) {
    assert.deepEqual(parseId(written), { value: { text, integer } }, String(written));
  }
});

Deno.test("an id that would be rounded or cannot stand in a URL is refused", () => {
  refused(parseId(2 ** 53), /quotes/, 2 ** 53);
  refused(parseId(-(2 ** 53)), /quotes/, -(2 ** 53));
  refused(parseId(1e30), /64 bits/, 1e30);
  refused(parseId(-1e19), /64 bits/, -1e19);
  refused(parseId(1.5), /not an integer/, 1.5);
  for (const id of ["", " ", " a", "a\n", ".", "..", "a\u0001b", "\ud800", "x".repeat(292)]) {
    refused(parseId(id), /;/, JSON.stringify(id));
  }
});

Deno.test("a serial number is the same number however it is written", () => {
  for (
    const written of [
      [0x0a, 0xf1],
      [0, 0x0a, 0xf1],
      "0af1",
      "AF1",
      "0x0AF1",
      "0XaF1",
      "0A:F1",
      "a:F1",
      "00:0a:f1",
      "0x00:0a:f1",
    ]
  ) assert.deepEqual(parseSerial(written), { value: 0xaf1n }, String(written));
  // Not decimal.
  assert.deepEqual(parseSerial("10"), { value: 16n });
  assert.deepEqual(parseSerial([0xff, ...Array(19).fill(0)]), { value: 0xffn << 152n });
});

Deno.test("any serial number survives being written as bytes and as digits", () => {
  fc.assert(fc.property(fc.uint8Array({ minLength: 1, maxLength: 20 }), (bytes) => {
    fc.pre(bytes.some((byte) => byte !== 0));
    const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0"));
    const expected = { value: BigInt(`0x${hex.join("")}`) };
    assert.deepEqual(parseSerial([...bytes]), expected);
    assert.deepEqual(parseSerial(hex.join(":")), expected);
    assert.deepEqual(parseSerial(hex.join("").toUpperCase()), expected);
  }));
});

Deno.test("an invalid serial number is refused", () => {
  for (const written of [[], "", [0, 0], "0", "0x00", "00:00"]) refused(parseSerial(written), /;/, written);
  for (const written of [[256], [-1], [1.5], ["0a"], [null], [1, [2]]]) {
    refused(parseSerial(written), /from 0 to 255/, JSON.stringify(written));
  }
  refused(parseSerial([1, 2, 300]), /element 2/, "300");
  for (const written of ["0x", "xyz", "0a f1", "0a:", ":0a", "0a::f1", "0a:f", "0a-f1", "-1"]) {
    refused(parseSerial(written), /hexadecimal/, written);
  }
});

Deno.test("addresses are split into host and port", () => {
  const cases: [string, string, number][] = [
    ["127.0.0.1:3000", "127.0.0.1", 3000],
    ["0.0.0.0:1", "0.0.0.0", 1],
    ["[::1]:65535", "::1", 65535],
    ["[2001:db8::1]:443", "2001:db8::1", 443],
    ["localhost:3000", "localhost", 3000],
    ["kme_2.zone-1.example.:3000", "kme_2.zone-1.example.", 3000],
    ["3com:80", "3com", 80],
  ];
  for (const [written, hostname, port] of cases) {
    assert.deepEqual(parseHostPort(written), { value: { hostname, port } }, written);
  }
});

Deno.test("an invalid address is refused with the reason", () => {
  const cases: [string, RegExp][] = [
    ["", /no port/],
    ["localhost", /no port/],
    ["127.0.0.1", /no port/],
    [":3000", /no host/],
    ["[]:3000", /no host/],
    ["::1:3000", /brackets/],
    ["2001:db8::1", /brackets/],
    ["[127.0.0.1]:3000", /neither/],
    ["[localhost]:3000", /neither/],
    ["256.0.0.1:3000", /neither/],
    ["127.1:3000", /neither/],
    ["*:3000", /neither/],
    ["-a:3000", /neither/],
    ["a b:3000", /neither/],
    ["host:", /not a port/],
    ["host:x", /not a port/],
    ["host:65536", /not a port/],
    ["host:-1", /not a port/],
    ["host:0", /port 0/],
    ["https://host:3000", /scheme/],
  ];
  for (const [written, pattern] of cases) refused(parseHostPort(written), pattern, written);
});

Deno.test("listeners overlap on the same port when one address is or includes the other", () => {
  const pairs: [string, string, boolean][] = [
    ["127.0.0.1:1", "127.0.0.1:1", true],
    ["127.0.0.1:1", "127.0.0.1:2", false],
    ["127.0.0.1:1", "127.0.0.2:1", false],
    ["0.0.0.0:1", "127.0.0.1:1", true],
    ["[::]:1", "127.0.0.1:1", true],
    ["0.0.0.0:1", "[::1]:1", true],
    ["[0:0::0]:1", "10.0.0.1:1", true],
    ["[::1]:1", "[0:0:0:0:0:0:0:1]:1", true],
    ["[::ffff:10.0.0.1]:1", "10.0.0.1:1", true],
    ["localhost:1", "127.0.0.1:1", true],
    ["[::1]:1", "LOCALHOST:1", true],
    ["localhost:1", "10.0.0.1:1", false],
    ["kme.example:1", "KME.example:1", true],
  ];
  const read = (text: string) => {
    const parsed = parseHostPort(text);
    assert.ok("value" in parsed, text);
    return parsed.value;
  };
  for (const [a, b, expected] of pairs) {
    assert.equal(overlap(read(a), read(b)), expected, `${a} ${b}`);
    assert.equal(overlap(read(b), read(a)), expected, `${b} ${a}`);
  }
});

Deno.test("isLoopback distinguishes loopback addresses from others", () => {
  for (const host of ["127.0.0.1", "127.9.9.9", "::1", "0:0:0:0:0:0:0:1", "localhost", "::ffff:127.0.0.1"]) {
    assert.ok(isLoopback(host), host);
  }
  for (const host of ["0.0.0.0", "::", "10.0.0.1", "127.example", "kme.example"]) {
    assert.ok(!isLoopback(host), host);
  }
});

Deno.test("database URIs", () => {
  const cases: [string, unknown][] = [
    [":memory:", { kind: "memory" }],
    ["sqlite::memory:", { kind: "memory" }],
    ["sqlite://:memory:", { kind: "memory" }],
    ["sqlite://x.db?mode=memory", { kind: "memory" }],
    ["sqlite://path/to/kme.db", { kind: "sqlite", path: "path/to/kme.db" }],
    ["sqlite:///path/to/kme.db", { kind: "sqlite", path: "/path/to/kme.db" }],
    ["sqlite:kme.db", { kind: "sqlite", path: "kme.db" }],
    ["sqlite:/kme.db", { kind: "sqlite", path: "/kme.db" }],
    ["SQLite://kme.db?mode=rwc", { kind: "sqlite", path: "kme.db" }],
    ["postgres://u:p@localhost/d", { kind: "postgres", uri: "postgres://u:p@localhost/d" }],
    // Beyond this host the server is verified unless something else is asked for.
    ["postgres://u:p@h/d", { kind: "postgres", uri: "postgres://u:p@h/d", tls: { verify: "host" } }],
    ["postgresql://u:p%40@h:5/d?sslmode=require", {
      kind: "postgres",
      uri: "postgres://u:p%40@h:5/d",
      tls: { verify: "none" },
    }],
    ["postgres://h/d?%73slmode=disable&application_name=x", {
      kind: "postgres",
      uri: "postgres://h/d?application_name=x",
    }],
    ["postgres://127.0.0.1/d?sslmode=verify-ca&sslrootcert=ca.crt", {
      kind: "postgres",
      uri: "postgres://127.0.0.1/d",
      tls: { verify: "chain", ca: "ca.crt" },
    }],
    ["postgres://localhost/d?host=db.example", {
      kind: "postgres",
      uri: "postgres://localhost/d?host=db.example",
      tls: { verify: "host" },
    }],
    ["mysql://h/d?ssl-mode=DISABLED", { kind: "mysql", uri: "mysql://h/d" }],
    ["mysql://h/d?ssl-mode=VERIFY_CA", { kind: "mysql", uri: "mysql://h/d", tls: { verify: "chain" } }],
    ["mysql://localhost/d?ssl-ca=ca%20x.crt", {
      kind: "mysql",
      uri: "mysql://localhost/d",
      tls: { verify: "host", ca: "ca x.crt" },
    }],
    ["postgres:///d?host=/run/postgresql", { kind: "postgres", uri: "postgres:///d?host=/run/postgresql" }],
    ["mysql://u:p@[::1]:3307/d", { kind: "mysql", uri: "mysql://u:p@[::1]:3307/d" }],
    ["MariaDB://h/d", { kind: "mysql", uri: "mysql://h/d", tls: { verify: "host" } }],
  ];
  for (const [written, value] of cases) assert.deepEqual(parseDatabaseUri(written), { value }, written);
});

Deno.test("a database URI that is refused is never repeated", () => {
  const cases: [string, RegExp][] = [
    ["", /empty/],
    ["kme.db", /no known scheme/],
    ["bob:s3cret@h/d", /no known scheme/],
    ["mongodb://bob:s3cret@h/d", /mongodb:\/\/ is unknown/],
    ["postgres:bob:s3cret@h/d", /no known scheme/],
    ["postgres://bob:s3cret@h", /no database/],
    ["postgres://bob:s3cret@h/", /no database/],
    ["postgres://bob:s3cret/x@h/d", /database/],
    ["postgres://bob:s3cret#x@h/d", /database|#/],
    ["postgres://bob:s3cret@h:99999/d", /cannot be read/],
    ["mysql://bob:s3cret%zz@h/d", /cannot be read/],
    ["mysql:///d", /no host/],
    ["mysql://bob:s3cret@h/d#s3cret", /#/],
    ["postgres://h/d?sslmode=prefer", /write disable, require, verify-ca, verify-full/],
    ["postgres://h/d?sslmode=disable&sslmode=s3cret", /once each/],
    ["postgres://h/d?sslcert=s3cret", /no other ssl parameter/],
    ["postgres://h/d?sslmode=require&sslrootcert=s3cret", /needs sslmode=verify-ca or verify-full/],
    ["postgres://h/d?sslrootcert=", /sslrootcert .* is empty/],
    ["mysql://h/d?ssl=s3cret", /no other ssl parameter/],
    ["mysql://h/d?ssl-mode=PREFERRED", /write DISABLED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY/],
    ["sqlite:", /no path/],
    ["sqlite://", /no path/],
    ["sqlite://x?mode=ro", /parameters/],
    ["sqlite://x?password=s3cret", /parameters/],
  ];
  for (const [written, pattern] of cases) {
    const parsed = parseDatabaseUri(written);
    refused(parsed, pattern, written);
    assert.doesNotMatch((parsed as { problem: string }).problem, /s3cret|bob/, written);
  }
});

Deno.test("the nearest name is found in other spellings and not for anything", () => {
  const known = ["id", "nickname", "db_uri", "key_directory_to_watch", "max_SAE_ID_count"];
  const cases: [string, string | undefined][] = [
    ["db_url", "db_uri"],
    ["dburi", "db_uri"],
    ["Nickname", "nickname"],
    ["nikcname", "nickname"],
    ["ID", "id"],
    ["keyDirectoryToWatch", "key_directory_to_watch"],
    ["key_directory", "key_directory_to_watch"],
    ["max_sae_id_count", "max_SAE_ID_count"],
    ["colour", undefined],
    ["", undefined],
  ];
  for (const [wrong, expected] of cases) assert.equal(nearest(wrong, known), expected, wrong);
  assert.equal(editDistance("kitten", "sitting"), 3);
  assert.equal(editDistance("ab", "ba"), 1);
  assert.equal(editDistance("", "abc"), 3);
});

Deno.test("a mistake is one line: file, member, message", () => {
  assert.equal(formatMember(["saes", 2, "kme_id"]), "saes[2].kme_id");
  assert.equal(formatMember(["a\nb"]), '["a\\nb"]');
  assert.equal(formatMistake({ file: "f", member: "saes[2].id", message: "m" }), "f: saes[2].id: m");
  assert.equal(formatMistake({ file: "f", member: "", message: "m" }), "f: m");
});
