import assert from "node:assert/strict";
import { createPrivateKey, generateKeyPairSync, X509Certificate } from "node:crypto";
import { formatMistake, loadConfig } from "../../src/config/load.ts";
import { makeTestCa } from "../harness/test_certificates.ts";
import { issue } from "../tls/authority.ts";
import { type AnyConfig, type Fixture, makeFixture, PASSWORD, wrong } from "./config_fixture.ts";

type Expected = [member: string, pattern: RegExp];
interface Case {
  name: string;
  edit: (config: AnyConfig, fixture: Fixture) => unknown;
  /** All mistakes, in any order. */
  mistakes: Expected[];
}

/** Makes each mistake by itself: it is found, and nothing else is. */
async function tryAll(cases: Case[]): Promise<void> {
  await using fixture = await makeFixture();
  for (const { name, edit, mistakes } of cases) {
    const config = fixture.config();
    await edit(config, fixture);
    const found = wrong(await fixture.loadText(JSON.stringify(config)));
    const lines = found.map(formatMistake).join("\n");
    assert.deepEqual(
      found.map(({ member }) => member).toSorted(),
      mistakes.map(([member]) => member).toSorted(),
      `${name}:\n${lines}`,
    );
    for (const [member, pattern] of mistakes) {
      const ofMember = found.filter((mistake) => mistake.member === member);
      assert.ok(ofMember.some(({ message }) => pattern.test(message)), `${name}: ${pattern} in\n${lines}`);
    }
    for (const mistake of found) {
      assert.equal(mistake.file, `${fixture.path}/config.json5`);
      assert.doesNotMatch(formatMistake(mistake), /\n|undefined|\[object/, name);
      assert.match(mistake.message, /; /, `${name}: what would be right? ${mistake.message}`);
    }
  }
}

const one = (name: string, edit: Case["edit"], member: string, pattern: RegExp): Case => ({
  name,
  edit,
  mistakes: [[member, pattern]],
});

Deno.test("members: unknown, missing, of a wrong type", async () => {
  await tryAll([
    one("unknown at the top", (c) => c.colour = 1, "colour", /known here are this_kme, other_kmes, saes/),
    one("another spelling", (c) => c.this_kme.nickName = "x", "this_kme.nickName", /nickname.*case/),
    one(
      "misspelt optional",
      (c) => c.this_kme.max_key_per_requests = 5,
      "this_kme.max_key_per_requests",
      /max_key_per_request /,
    ),
    one(
      "misspelt required is not missing too",
      (c) => {
        c.this_kme.db_url = c.this_kme.db_uri;
        delete c.this_kme.db_uri;
      },
      "this_kme.db_url",
      /nearest known name is db_uri/,
    ),
    one(
      "misspelt member of a link",
      (c) => {
        c.other_kmes[0].inter_kme_adress = 1;
        c.other_kmes[0].inter_kme_bind_adress = c.other_kmes[0].inter_kme_bind_address;
        delete c.other_kmes[0].inter_kme_bind_address;
        delete c.other_kmes[0].inter_kme_adress;
      },
      "other_kmes[0].inter_kme_bind_adress",
      /inter_kme_bind_address/,
    ),
    one(
      "misspelt serial",
      (c) => {
        c.saes[0].https_client_certificate_serials = c.saes[0].https_client_certificate_serial;
        delete c.saes[0].https_client_certificate_serial;
      },
      "saes[0].https_client_certificate_serials",
      /https_client_certificate_serial /,
    ),
    one("at a wrong place", (c) => c.max_key_count = 5, "max_key_count", /belongs to this_kme/),
    one(
      "in an interface",
      (c) => c.this_kme.saes_https_interface.port = 5,
      "this_kme.saes_https_interface.port",
      /known here/,
    ),
    one("a name that is no identifier", (c) => c.saes[1]["a b"] = 5, 'saes[1]["a b"]', /known here/),
    one("no this_kme", (c) => delete c.this_kme, "this_kme", /missing/),
    one("no other_kmes", (c) => delete c.other_kmes, "other_kmes", /missing.*array/),
    one("no saes", (c) => delete c.saes, "saes", /missing.*array/),
    one("no id", (c) => delete c.this_kme.id, "this_kme.id", /missing/),
    one("null", (c) => c.this_kme.id = null, "this_kme.id", /null is wrong/),
    one(
      "no interface",
      (c) => delete c.this_kme.kmes_https_interface,
      "this_kme.kmes_https_interface",
      /missing.*listen_address/,
    ),
    one(
      "no boolean",
      (c) => c.this_kme.delete_key_file_after_read = "true",
      "this_kme.delete_key_file_after_read",
      /a string is wrong.*true or false/,
    ),
    one("no array", (c) => c.saes = {}, "saes", /an object is wrong.*array/),
    one("no object", (c) => c.saes.push(4), "saes[3]", /a number is wrong.*object/),
    one(
      "no serial",
      (c) => c.saes[0].https_client_certificate_serial = 12,
      "saes[0].https_client_certificate_serial",
      /a number is wrong/,
    ),
    one(
      "no string",
      (c) => c.this_kme.key_directory_to_watch = 5,
      "this_kme.key_directory_to_watch",
      /a number is wrong.*directory/,
    ),
    one("empty nickname", (c) => c.this_kme.nickname = "", "this_kme.nickname", /empty/),
    one("nickname of two lines", (c) => c.this_kme.nickname = "a\nb", "this_kme.nickname", /control/),
    one(
      "empty path",
      (c) => c.this_kme.key_directory_to_watch = "",
      "this_kme.key_directory_to_watch",
      /empty/,
    ),
    one("empty database", (c) => c.this_kme.db_uri = "", "this_kme.db_uri", /empty/),
    one(
      "a zero in a path",
      (c) => c.this_kme.key_directory_to_watch = "a\0",
      "this_kme.key_directory_to_watch",
      /null character/,
    ),
    one(
      "password of a wrong type",
      (c) => c.other_kmes[0].https_client_authentication_certificate_password = 1234,
      "other_kmes[0].https_client_authentication_certificate_password",
      /a number is wrong/,
    ),
  ]);
});

Deno.test("numbers out of bounds", async () => {
  const cases: [string, unknown, RegExp][] = [
    ["max_key_per_request", 0, /0 is out of bounds.*1 to/],
    ["max_key_per_request", 1.5, /integer/],
    ["max_key_per_request", "5", /a string/],
    ["max_key_count", 0, /bounds/],
    ["max_key_count", 1e18, /integer/],
    ["key_lifetime_seconds", 0, /bounds/],
    ["key_lifetime_seconds", 0.5, /integer/],
    ["answer_repeat_seconds", -1, /-1 is out of bounds.*0 to 300/],
    ["answer_repeat_seconds", 301, /301 is out of bounds/],
    ["max_SAE_ID_count", -1, /-1 is out of bounds/],
    ["min_key_size", 0, /0 is out of bounds.*8 to 256/],
    ["min_key_size", 264, /264 is out of bounds.*8 to 256/],
    ["min_key_size", 100, /multiple of 8/],
    ["max_key_size", 248, /248 is out of bounds.*256 to 65536/],
    ["max_key_size", 65_544, /65544 is out of bounds/],
    ["max_key_size", 1001, /multiple of 8/],
    ["inter_kme_timeout_seconds", 0, /more than 0/],
    ["inter_kme_timeout_seconds", -1.5, /more than 0/],
    ["inter_kme_timeout_seconds", 1e9, /an hour/],
    ["neighbour_probe_seconds", 0, /bounds/],
    ["lease_seconds", 1, /1 is out of bounds.*2 to/],
  ];
  await tryAll(
    cases.map(([name, value, pattern]) =>
      one(`${name} ${value}`, (c) => c.this_kme[name] = value, `this_kme.${name}`, pattern)
    ),
  );
});

Deno.test("the audit log: no directory, one that is not there, numbers out of bounds", async () => {
  const cases: [value: unknown, member: string, message: RegExp][] = [
    [{}, "this_kme.audit_log.directory", /is missing; write the path of a directory/],
    [{ directory: "nowhere" }, "this_kme.audit_log.directory", /"nowhere".* does not exist; create/],
    [{ directory: "server.key" }, "this_kme.audit_log.directory", /is not a directory/],
    [{ directory: "db", rotate_mib: 0 }, "this_kme.audit_log.rotate_mib", /out of bounds/],
    [{ directory: "db", keep_days: 0.5 }, "this_kme.audit_log.keep_days", /an integer from 1/],
    [{ directory: "db", keepdays: 1 }, "this_kme.audit_log.keepdays", /keep_days/],
    ["db", "this_kme.audit_log", /a string is wrong here/],
  ];
  await tryAll(
    cases.map(([value, member, message]) =>
      one(JSON.stringify(value), (c) => c.this_kme.audit_log = value, member, message)
    ),
  );
});

Deno.test("limits: unknown SAEs and links, limits of others, numbers out of bounds", async () => {
  const share = (c: AnyConfig, change: Record<string, unknown>) =>
    c.this_kme.reserve_share = [{ kme: 2, share: 0.1, saes: [1], ...change }];
  await tryAll([
    one(
      "unknown SAE",
      (c) => c.saes[0].may_reach = [3, 77],
      "saes[0].may_reach[1]",
      /no SAE 77 is configured; write one of 1, 2, 3/,
    ),
    one("no array", (c) => c.saes[0].may_reach = 3, "saes[0].may_reach", /an array of ids/),
    one("no bits", (c) => c.saes[0].max_bits_per_second = 0, "saes[0].max_bits_per_second", /bounds/),
    one("half a key", (c) => c.saes[0].max_waiting_keys = 0.5, "saes[0].max_waiting_keys", /an integer/),
    one(
      "rate of another KME's SAE",
      (c) => c.saes[2].max_bits_per_second = 1,
      "saes[2].max_bits_per_second",
      /belongs to KME 2.*leave it out/,
    ),
    one("share of all", (c) => share(c, { share: 1 }), "this_kme.reserve_share[0].share", /less than 1/),
    one("share of nothing", (c) => share(c, { share: 0 }), "this_kme.reserve_share[0].share", /more than 0/),
    one("share of no link", (c) => share(c, { kme: 9 }), "this_kme.reserve_share[0].kme", /no KME 9/),
    one("share for no SAE", (c) => share(c, { saes: [9] }), "this_kme.reserve_share[0].saes[0]", /no SAE 9/),
    one(
      "share for another's SAE",
      (c) => share(c, { saes: [3] }),
      "this_kme.reserve_share[0].saes[0]",
      /belongs to KME 2; name SAEs of this KME/,
    ),
    one(
      "two shares",
      (c) => {
        share(c, {});
        c.this_kme.reserve_share.push({ kme: 2, share: 0.2, saes: [] });
      },
      "this_kme.reserve_share[1].kme",
      /a share already/,
    ),
  ]);
});

Deno.test("ids: of a wrong form, duplicate, of an unknown KME", async () => {
  await tryAll([
    one("float", (c) => c.saes[2].id = 1.25, "saes[2].id", /not an integer/),
    one("rounded", (c) => c.saes[2].id = 2 ** 53, "saes[2].id", /quotes/),
    one("more than 64 bits", (c) => c.saes[2].id = 2 ** 70, "saes[2].id", /64 bits/),
    one("empty", (c) => c.saes[2].id = "", "saes[2].id", /empty/),
    one("object", (c) => c.saes[2].id = {}, "saes[2].id", /an object is wrong/),
    one("SAE twice", (c) => c.saes[2].id = 1, "saes[2].id", /saes\[0\]/),
    one("SAE twice, once in quotes", (c) => c.saes[2].id = "1", "saes[2].id", /saes\[0\]/),
    one("KME twice", (c) => c.other_kmes[1].id = "2", "other_kmes[1].id", /other_kmes\[0\]/),
    one("this KME among the others", (c) => c.other_kmes[1].id = "1", "other_kmes[1].id", /this KME/),
    one("SAE of an unknown KME", (c) => c.saes[2].kme_id = 7, "saes[2].kme_id", /no KME 7.*1, 2, 3/),
    one("wrong KME id only, not SAEs of it too", (c) => c.other_kmes[0].id = 2.5, "other_kmes[0].id", /2\.5/),
    one("wrong own id only", (c) => c.this_kme.id = 2.5, "this_kme.id", /2\.5/),
    {
      name: "a missing own id hides no unknown KME",
      edit: (c) => {
        delete c.this_kme.id;
        c.saes[2].kme_id = 7;
      },
      mistakes: [["this_kme.id", /missing/], ["saes[2].kme_id", /no KME 7 is configured; write one of 2, 3/]],
    },
    {
      name: "a missing own id hides no rule for own SAEs",
      edit: (c) => {
        delete c.this_kme.id;
        c.saes.push({ id: 4, kme_id: 1 });
      },
      mistakes: [["this_kme.id", /missing/], ["saes[3].certificates", /missing/]],
    },
    {
      name: "a wrong id of another KME hides one unknown KME at most",
      edit: (c) => {
        c.other_kmes[0].id = 2.5;
        c.saes.push({ id: 4, kme_id: 8 });
      },
      mistakes: [["other_kmes[0].id", /2\.5/], ["saes[3].kme_id", /no KME 8 is configured/]],
    },
  ]);
});

Deno.test("serial numbers: missing, not allowed, duplicate, of a wrong form", async () => {
  const serial = "https_client_certificate_serial";
  await tryAll([
    one(
      "missing",
      (c) => delete c.saes[0][serial],
      "saes[0].certificates",
      /missing.*https_client_certificate_serial/,
    ),
    one("null", (c) => c.saes[0][serial] = null, "saes[0].certificates", /missing/),
    one("of a foreign SAE", (c) => c.saes[2][serial] = [1], `saes[2].${serial}`, /KME 2.*leave/),
    one(
      "twice, differently written",
      (c) => c.saes[0][serial] = [0, 0x0a, 0xf1],
      `saes[1].${serial}`,
      /saes\[0\].*0xaf1/,
    ),
    one("no byte", (c) => c.saes[0][serial] = [1, 256], `saes[0].${serial}`, /element 1/),
    one("no hex", (c) => c.saes[0][serial] = "12 34", `saes[0].${serial}`, /hexadecimal/),
    one("empty", (c) => c.saes[0][serial] = [], `saes[0].${serial}`, /empty/),
    one("zero", (c) => c.saes[0][serial] = "00", `saes[0].${serial}`, /zero/),
    one(
      "two callers with one",
      (c) => c.other_kmes[0][serial] = c.other_kmes[1][serial] = [7],
      `other_kmes[1].${serial}`,
      /other_kmes\[0\]/,
    ),
    one(
      "not unique with several CAs",
      async (c, { write, ca }) => {
        c.this_kme.saes_https_interface.ca_client_cert_path = await write(
          "cas.pem",
          ca.ca + (await makeTestCa("second")).ca,
        );
        c.saes[1] = { id: 2, kme_id: 1, certificates: [{ subject_cn: "SAE 2" }] };
      },
      `saes[0].${serial}`,
      /several CA certificates \(CN=configuration.*CN=second.*write certificates: \[\{ serial: "[0-9a-f]+", issuer_cn: /,
    ),
  ]);
});

Deno.test("certificates of SAEs and KMEs: of a wrong form, not identifying, not unique", async () => {
  const first = "saes[0].certificates";
  const set = (certificates: unknown) => (c: AnyConfig) => {
    c.saes[0] = { id: 1, kme_id: 1, certificates };
  };
  const sha256 = "ab".repeat(32);
  await tryAll([
    one("no list", set({ subject_cn: "x" }), first, /an object is wrong here; write an array/),
    one("empty", set([]), first, /empty/),
    one("no object", set(["x"]), `${first}[0]`, /a string is wrong here; write an object/),
    one(
      "unknown member",
      set([{ subject_cn: "x", cn: "y" }]),
      `${first}[0].cn`,
      /known here are subject_cn, san_dns/,
    ),
    one("misspelt member", set([{ subjectCN: "x" }]), `${first}[0].subjectCN`, /subject_cn/),
    one("empty member", set([{ subject_cn: "" }]), `${first}[0].subject_cn`, /empty/),
    one(
      "no fingerprint",
      set([{ fingerprint_sha256: "12" }]),
      `${first}[0].fingerprint_sha256`,
      /not a SHA-256/,
    ),
    one("SHA-1", set([{ fingerprint_sha256: "ab".repeat(20) }]), `${first}[0].fingerprint_sha256`, /SHA-1/),
    one("no serial", set([{ serial: "xyz" }]), `${first}[0].serial`, /hexadecimal/),
    one("nothing", set([{}]), `${first}[0]`, /does not identify.*subject_cn/),
    one("an issuer only", set([{ issuer_cn: "CA" }]), `${first}[0]`, /does not identify/),
    one(
      "of a foreign SAE",
      (c) => c.saes[2].certificates = [{ subject_cn: "x" }],
      "saes[2].certificates",
      /KME 2.*leave it out/,
    ),
    one(
      "of a KME without a link",
      (c) => c.other_kmes.push({ id: 4, reached_through: 2, certificates: [{ subject_cn: "KME 4" }] }),
      "other_kmes[2].certificates",
      /no direct link/,
    ),
    one(
      "the same for two SAEs, differently written",
      (c) => {
        c.saes[0].certificates = [{ san_dns: "One.example", fingerprint_sha256: sha256 }];
        c.saes[1].certificates = [{
          fingerprint_sha256: sha256.toUpperCase().replace(/..(?!$)/g, "$&:"),
          san_dns: "one.EXAMPLE",
        }];
      },
      "saes[1].certificates[0]",
      /same as saes\[0\]\.certificates\[0\]/,
    ),
    one(
      "the same serial number, once with the only CA",
      async (c, { ca }) => {
        const digest = await crypto.subtle.digest("SHA-256", Uint8Array.from(new X509Certificate(ca.ca).raw));
        c.saes[0].certificates = [{ serial: "0af1", issuer_sha256: new Uint8Array(digest).toHex() }];
      },
      "saes[1].https_client_certificate_serial",
      /same as saes\[0\]\.certificates\[0\]/,
    ),
    one(
      "the same for two KMEs",
      (c) => c.other_kmes[1].certificates = [{ subject_cn: "new" }, { subject_cn: "KME 2" }],
      "other_kmes[1].certificates[1]",
      /same as other_kmes\[0\]/,
    ),
    one(
      "a serial number without issuer where there are several CAs",
      async (c, { write, kmesCa }) => {
        c.this_kme.kmes_https_interface.ca_client_cert_path = await write(
          "cas.pem",
          kmesCa.ca + (await makeTestCa("second")).ca,
        );
        c.other_kmes[0].certificates = [{ serial: "12", issuer_cn: "second" }, { serial: "0a" }];
      },
      "other_kmes[0].certificates[1]",
      /kmes_https_interface trusts several CA certificates.*write \{ serial: "a", issuer_cn: .*issuer_sha256/,
    ),
  ]);
});

Deno.test("listeners: wrong addresses, one port twice", async () => {
  const kmes = "this_kme.kmes_https_interface.listen_address";
  await tryAll([
    one("no address", (c) => c.this_kme.kmes_https_interface.listen_address = "x", kmes, /no port/),
    one("port 0", (c) => c.this_kme.kmes_https_interface.listen_address = "127.0.0.1:0", kmes, /port 0/),
    one(
      "the same",
      (c) => c.this_kme.kmes_https_interface.listen_address = "127.0.0.1:13000",
      kmes,
      /saes_https_interface/,
    ),
    one(
      "SKIP on the port of another listener",
      (c) => c.this_kme.skip_https_interface = { ...c.this_kme.saes_https_interface },
      "this_kme.skip_https_interface.listen_address",
      /127\.0\.0\.1:13000 is used by this_kme\.saes_https_interface\.listen_address/,
    ),
    one(
      "SKIP without its key",
      (c) => {
        const { server_key_path: _, ...rest } = c.this_kme.saes_https_interface;
        c.this_kme.skip_https_interface = { ...rest, listen_address: "127.0.0.1:13002" };
      },
      "this_kme.skip_https_interface.server_key_path",
      /missing/,
    ),
    one(
      "another CA for SKIP, and SAEs by serial number",
      (c) => {
        c.this_kme.skip_https_interface = {
          ...c.this_kme.saes_https_interface,
          listen_address: "127.0.0.1:13002",
          ca_client_cert_path: "kmes-ca.pem",
        };
        c.saes[0] = { id: 1, kme_id: 1, certificates: [{ subject_cn: "SAE 1" }] };
        // The KMEs' CA is now one of SAEs too, which is a warning only.
      },
      "saes[1].https_client_certificate_serial",
      /saes_https_interface with skip_https_interface trusts several CA certificates/,
    ),
    one("wildcard", (c) => c.this_kme.kmes_https_interface.listen_address = "[::]:13000", kmes, /used by/),
    one(
      "console",
      (c) => c.this_kme.debugging_http_interface = "0.0.0.0:13001",
      "this_kme.debugging_http_interface",
      /kmes_https_interface/,
    ),
    one(
      "peer",
      (c) => c.other_kmes[0].inter_kme_bind_address = "https://a:1",
      "other_kmes[0].inter_kme_bind_address",
      /scheme/,
    ),
  ]);
});

Deno.test("routes: to unknown KMEs, in a loop, in addition to a link", async () => {
  const through = (index: number) => `other_kmes[${index}].reached_through`;
  await tryAll([
    {
      name: "neither link nor route",
      edit: (c) => c.other_kmes[0] = { id: 2 },
      mistakes: [
        ["other_kmes[0].key_directory_to_watch", /missing.*reached_through/],
        ["other_kmes[0].inter_kme_bind_address", /missing/],
        ["other_kmes[0].https_client_authentication_certificate", /missing/],
      ],
    },
    one("unknown", (c) => c.other_kmes.push({ id: 4, reached_through: 9 }), through(2), /no KME 9.*2, 3$/),
    one("itself", (c) => c.other_kmes.push({ id: 4, reached_through: "4" }), through(2), /itself/),
    one("this KME", (c) => c.other_kmes.push({ id: 4, reached_through: 1 }), through(2), /this KME/),
    one(
      "circle",
      (c) =>
        c.other_kmes.push(
          { id: 4, reached_through: 5 },
          { id: 5, reached_through: 6 },
          { id: 6, reached_through: 5 },
        ),
      through(3),
      /loop \(5 -> 6 -> 5\)/,
    ),
    one(
      "link and route",
      (c) => c.other_kmes.push({ id: 4, reached_through: 2, key_directory_to_watch: "nowhere" }),
      "other_kmes[2].key_directory_to_watch",
      /no direct link/,
    ),
    one(
      "to a KME whose own id is wrong",
      (c) => {
        c.saes.pop();
        c.other_kmes[0].id = 2.5;
        c.other_kmes.push({ id: 4, reached_through: 2 });
      },
      "other_kmes[0].id",
      /2\.5/,
    ),
    one("wrong id", (c) => c.other_kmes.push({ id: 4, reached_through: 2.5 }), through(2), /not an integer/),
  ]);
});

Deno.test("directories and databases", async () => {
  await tryAll([
    one(
      "missing",
      (c) => c.this_kme.key_directory_to_watch = "nowhere",
      "this_kme.key_directory_to_watch",
      /"nowhere" \(searched in .* and .*\) does not exist/,
    ),
    one(
      "a file",
      (c) => c.other_kmes[0].key_directory_to_watch = "ca.pem",
      "other_kmes[0].key_directory_to_watch",
      /not a directory/,
    ),
    one(
      "below a file",
      (c) => c.other_kmes[0].key_directory_to_watch = "ca.pem/x",
      "other_kmes[0].key_directory_to_watch",
      /no directory|does not exist/,
    ),
    one(
      "one for two links",
      (c) => c.other_kmes[1].key_directory_to_watch = "keys-2/../keys-2",
      "other_kmes[1].key_directory_to_watch",
      /other_kmes\[0\]/,
    ),
    one(
      "database in no directory",
      (c) => c.this_kme.db_uri = "sqlite://nowhere/kme.db",
      "this_kme.db_uri",
      /does not exist/,
    ),
    one(
      "database is a directory",
      (c) => c.this_kme.db_uri = "sqlite://db",
      "this_kme.db_uri",
      /is a directory/,
    ),
    one(
      "unknown database",
      (c) => c.this_kme.db_uri = "mongodb://bob:s3cret@h/d",
      "this_kme.db_uri",
      /mongodb/,
    ),
  ]);
});

Deno.test({
  name: "one directory by two names",
  ignore: Deno.build.os === "windows",
  fn: () =>
    tryAll([
      one(
        "symbolic link",
        async (c, { path }) => {
          await Deno.symlink(`${path}/keys-1`, `${path}/link`);
          c.other_kmes[0].key_directory_to_watch = "link";
        },
        "other_kmes[0].key_directory_to_watch",
        /this_kme\.key_directory_to_watch/,
      ),
    ]),
});

Deno.test({
  name: "what may not be read",
  // Root may read everything, Windows has no modes.
  ignore: Deno.build.os === "windows" || Deno.uid() === 0,
  fn: async () => {
    await using fixture = await makeFixture();
    const [key, directory] = [`${fixture.path}/server.key`, `${fixture.path}/keys-2`];
    await Deno.chmod(key, 0);
    await Deno.chmod(directory, 0);
    try {
      const mistakes = wrong(await fixture.load());
      assert.deepEqual(mistakes.map(({ member }) => member), [
        "this_kme.saes_https_interface.server_key_path",
        "this_kme.kmes_https_interface.server_key_path",
        "other_kmes[0].key_directory_to_watch",
      ]);
      for (const { message } of mistakes) assert.match(message, /is not readable/);
    } finally {
      await Deno.chmod(directory, 0o700);
    }
  },
});

Deno.test("certificates and keys of the listeners", async () => {
  const cert = "this_kme.saes_https_interface.server_cert_path";
  const key = "this_kme.saes_https_interface.server_key_path";
  const ca = "this_kme.saes_https_interface.ca_client_cert_path";
  const set = (c: AnyConfig, values: Record<string, string>) =>
    Object.assign(c.this_kme.saes_https_interface, values);
  const days = (count: number) => new Date(Date.now() + count * 86_400_000);
  const encrypted = (pem: string) =>
    createPrivateKey(pem).export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "x" });
  await tryAll([
    one("missing", (c) => set(c, { server_cert_path: "nowhere" }), cert, /does not exist/),
    one("a directory", (c) => set(c, { server_cert_path: "db" }), cert, /not a file/),
    one(
      "no PEM",
      async (c, { write }) => set(c, { server_cert_path: await write("x", "hello") }),
      cert,
      /no certificate in PEM/,
    ),
    one(
      "DER",
      async (c, { write, server }) => {
        const der = Uint8Array.fromBase64(server.cert.replaceAll(/-----.*-----|\s/g, ""));
        set(c, { server_cert_path: await write("x", der) });
      },
      cert,
      /DER/,
    ),
    one(
      "broken",
      async (c, { write, server }) =>
        set(c, { server_cert_path: await write("x", server.cert.replace(/\n.{64}\n/, "\n")) }),
      cert,
      /cannot be read/,
    ),
    one(
      "too large",
      async (c, { write }) => set(c, { server_cert_path: await write("x", "x".repeat(1_048_577)) }),
      cert,
      /too large/,
    ),
    one(
      "expired",
      async (c, { write, ca }) => {
        const old = await ca.server({ notBefore: days(-10), notAfter: days(-1) });
        set(c, { server_cert_path: await write("x", old.cert), server_key_path: await write("y", old.key) });
      },
      cert,
      /expired on \d{4}-/,
    ),
    one(
      "not yet valid",
      async (c, { write, ca }) => {
        const soon = await ca.server({ notBefore: days(1), notAfter: days(90) });
        set(c, {
          server_cert_path: await write("x", soon.cert),
          server_key_path: await write("y", soon.key),
        });
      },
      cert,
      /not valid before/,
    ),
    one(
      "expired in the chain",
      async (c, { write, ca, server }) => {
        const old = await ca.server({ notBefore: days(-10), notAfter: days(-1) });
        set(c, { server_cert_path: await write("x", server.cert + old.cert) });
      },
      cert,
      /certificate 2 of 2 .* expired/,
    ),
    one(
      "another's key",
      async (c, { write, client }) => set(c, { server_key_path: await write("x", client.key) }),
      key,
      /does not belong/,
    ),
    one("no key", (c) => set(c, { server_key_path: "ca.pem" }), key, /no private key/),
    one(
      "broken key",
      async (c, { write }) =>
        set(c, {
          server_key_path: await write("x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
        }),
      key,
      /cannot be read/,
    ),
    one(
      "encrypted key",
      async (c, { write, server }) =>
        set(c, { server_key_path: await write("x", encrypted(server.key) as string) }),
      key,
      /encrypted; decrypt/,
    ),
    one(
      "a curve that TLS does not take",
      async (c, { write }) => {
        const { privateKey } = generateKeyPairSync("ec", { namedCurve: "secp224r1" });
        set(c, {
          server_key_path: await write("x", privateKey.export({ type: "pkcs8", format: "pem" }) as string),
        });
      },
      key,
      /curve/,
    ),
    one(
      "CA file without a certificate",
      (c) => set(c, { ca_client_cert_path: "server.key" }),
      ca,
      /no certificate/,
    ),
    one(
      "CA file without a CA certificate",
      async (c, { write, client }) => set(c, { ca_client_cert_path: await write("x", client.cert) }),
      ca,
      /no CA certificate for clients/,
    ),
    one("CA missing", (c) => set(c, { ca_client_cert_path: "nowhere.pem" }), ca, /does not exist/),
    one(
      "CA expired",
      async (c, { write }) => {
        const { cert } = await issue(undefined, { isCa: true, notBefore: days(-10), notAfter: days(-1) });
        set(c, { ca_client_cert_path: await write("x", `${cert}\n`) });
      },
      ca,
      /expired/,
    ),
  ]);
});

Deno.test("certificates with which peers are called", async () => {
  const cert = "other_kmes[0].https_client_authentication_certificate";
  const password = `${cert}_password`;
  const set = (c: AnyConfig, path: string, password = "") =>
    Object.assign(c.other_kmes[0], {
      https_client_authentication_certificate: path,
      https_client_authentication_certificate_password: password,
    });
  await tryAll([
    one("missing", (c) => set(c, "nowhere.pfx"), cert, /does not exist/),
    one("unknown kind", (c) => set(c, "ca.crt"), cert, /neither/),
    one("wrong password", (c) => set(c, "client.pfx", "s3cret"), password, /write the right one/),
    one("no password", (c) => set(c, "client.pfx"), password, /without a password/),
    one(
      "password left out",
      (c) => delete c.other_kmes[0].https_client_authentication_certificate_password,
      password,
      /without a password/,
    ),
    one("no PKCS#12", async (c, { write }) => set(c, await write("x.pfx", "hello")), cert, /as PKCS#12/),
    one(
      "cut off",
      async (c, { write, path }) =>
        set(c, await write("x.p12", (await Deno.readFile(`${path}/client.pfx`)).subarray(0, 300)), PASSWORD),
      cert,
      /as PKCS#12/,
    ),
    one(
      "PEM by a wrong name",
      async (c, { write, client }) => set(c, await write("x.pfx", client.cert + client.key)),
      cert,
      /name it \.pem/,
    ),
    one(
      "PEM without key",
      async (c, { write, client }) => set(c, await write("x.pem", client.cert)),
      cert,
      /no private key/,
    ),
    one(
      "PEM without certificate",
      async (c, { write, client }) => set(c, await write("x.pem", client.key)),
      cert,
      /no certificate/,
    ),
    one(
      "PEM with another's key",
      async (c, { write, client, server }) => set(c, await write("x.pem", client.cert + server.key)),
      cert,
      /does not belong/,
    ),
    one(
      "encrypted PEM, wrong password",
      async (c, { write, client }) => {
        const key = createPrivateKey(client.key)
          .export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "right" });
        set(c, await write("x.pem", client.cert + key), "wrong");
      },
      password,
      /cannot be decrypted/,
    ),
    one(
      "encrypted PEM, no password",
      async (c, { write, client }) => {
        const key = createPrivateKey(client.key)
          .export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "right" });
        set(c, await write("x.pem", client.cert + key));
      },
      password,
      /encrypted/,
    ),
    one(
      "CA without certificate",
      (c) => c.other_kmes[0].inter_kme_ca_cert_path = "client.pfx",
      "other_kmes[0].inter_kme_ca_cert_path",
      /no certificate/,
    ),
  ]);
});

Deno.test("the file itself", async () => {
  await using fixture = await makeFixture();
  const cases: [string, string | Uint8Array, RegExp][] = [
    ["syntax", "{\n  this_kme: }", /^2:13 invalid character '}'/],
    ["cut off", "{ this_kme: {", /^1:\d+ invalid end/],
    ["empty", "", /^1:1 /],
    ["no object", "[]", /array is wrong/],
    ["no UTF-8", new Uint8Array([0x7b, 0xff, 0x7d]), /UTF-8/],
  ];
  for (const [name, text, pattern] of cases) {
    const mistakes = wrong(await fixture.loadText(text));
    assert.equal(mistakes.length, 1, name);
    assert.equal(mistakes[0]!.member, "", name);
    assert.match(mistakes[0]!.message, pattern, name);
  }
  assert.match(wrong(await loadConfig(`${fixture.path}/nowhere`))[0]!.message, /does not exist/);
  assert.match(wrong(await loadConfig(fixture.path))[0]!.message, /directory/);
});

Deno.test("all mistakes come at once, and no secret with them", async () => {
  await using fixture = await makeFixture();
  const mistakes = wrong(
    await fixture.load((c) => {
      c.thiskme = 1;
      c.this_kme.db_uri = "oracle://bob:s3cret@h/d";
      c.this_kme.key_directory_to_watch = "nowhere";
      c.this_kme.max_key_count = -5;
      c.this_kme.saes_https_interface.server_key_path = "ca.pem";
      c.this_kme.kmes_https_interface.listen_address = "0.0.0.0:13000";
      c.other_kmes[0].https_client_authentication_certificate_password = "s3cret";
      c.other_kmes[1].id = 1;
      c.saes[0].https_client_certificate_serial = [999];
      c.saes[1].id = 1;
      c.saes[2].kme_id = 8;
    }),
  );
  assert.deepEqual(
    mistakes.map(({ member }) => member).toSorted(),
    [
      "thiskme",
      "this_kme.db_uri",
      "this_kme.key_directory_to_watch",
      "this_kme.max_key_count",
      "this_kme.saes_https_interface.server_key_path",
      "this_kme.kmes_https_interface.listen_address",
      "other_kmes[0].https_client_authentication_certificate_password",
      "other_kmes[1].id",
      "saes[0].https_client_certificate_serial",
      "saes[1].id",
      "saes[2].kme_id",
    ].toSorted(),
  );
  assert.doesNotMatch(JSON.stringify(mistakes), /s3cret|bob/);
});
