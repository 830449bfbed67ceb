import assert from "node:assert/strict";
import { createPrivateKey, X509Certificate } from "node:crypto";
import tls from "node:tls";
import { z } from "zod";
import { loadConfig } from "../../src/config/load.ts";
import { locate } from "../../src/config/paths.ts";
import { withoutRights } from "../check/check_fixture.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { configSchema } from "../../src/config/file_schema.ts";
import { makeTestCa } from "../harness/test_certificates.ts";
import { issue } from "../tls/authority.ts";
import { type AnyConfig, makeFixture, PASSWORD, right } from "./config_fixture.ts";

Deno.test("a correct configuration gives what the program needs", async () => {
  await using fixture = await makeFixture();
  const { config, warnings } = right(await fixture.load());
  assert.deepEqual(warnings, []);
  const { path, server, ca, kmesCa, client } = fixture;
  const { validFromDate, validToDate } = new X509Certificate(client.cert);
  const validity = { notBefore: validFromDate.getTime(), notAfter: validToDate.getTime() };
  const httpsInterface = (port: number, clientCa: string) => ({
    listen: { hostname: "127.0.0.1", port },
    clientCa,
    serverCert: server.cert,
    serverKey: server.key,
    clientCrl: undefined,
  });
  assert.deepEqual(config, {
    file: `${path}/config.json5`,
    thisKme: {
      id: { text: "1", integer: true },
      nickname: "Alice",
      database: { kind: "memory" },
      deleteKeyFileAfterRead: false,
      keyDirectory: `${path}/keys-1`,
      saesInterface: httpsInterface(13000, ca.ca),
      kmesInterface: httpsInterface(13001, kmesCa.ca),
      skipInterface: undefined,
      storeEncryption: undefined,
      consoleInterface: { hostname: "127.0.0.1", port: 18080 },
      maxKeyPerRequest: 128,
      maxKeyCount: 1_000_000,
      keyLifetimeSeconds: 86_400,
      answerRepeatSeconds: 0,
      maxSaeIdCount: 8,
      minKeySize: 8,
      maxKeySize: 65_536,
      interKmeTimeoutSeconds: 10,
      keyFileQuietSeconds: 60,
      keyFileHealth: "refuse",
      reingestServedFiles: false,
      tlsMinVersion: "1.2",
      neighbourProbeSeconds: 15,
      leaseSeconds: 15,
      auditLog: undefined,
      reserveShares: [],
    },
    otherKmes: [
      {
        id: { text: "2", integer: true },
        keyDirectory: `${path}/keys-2`,
        device: undefined,
        address: { hostname: "kme2.example", port: 13001 },
        ignoreSystemProxySettings: true,
        clientCertificate: {
          kind: "pfx",
          pfx: await Deno.readFile(`${path}/client.pfx`),
          passphrase: PASSWORD,
          validity,
        },
        serverCa: undefined,
        serverCrl: undefined,
        certificates: [{ subjectCn: "KME 2" }],
      },
      {
        id: { text: "3", integer: true },
        keyDirectory: `${path}/keys-3`,
        device: undefined,
        address: { hostname: "::1", port: 13003 },
        ignoreSystemProxySettings: false,
        clientCertificate: { kind: "pem", cert: client.cert, key: client.key, passphrase: "", validity },
        serverCa: undefined,
        serverCrl: undefined,
        certificates: [{ subjectCn: "KME 3" }],
      },
    ],
    saes: [
      {
        id: { text: "1", integer: true },
        kmeId: "1",
        certificates: [{ serial: BigInt(`0x${client.serialHex}`) }],
      },
      { id: { text: "2", integer: true }, kmeId: "1", certificates: [{ serial: 0xaf1n }] },
      { id: { text: "3", integer: true }, kmeId: "2", certificates: [] },
    ],
  });
});

Deno.test("members that are added or left out", async () => {
  await using fixture = await makeFixture();
  const { config } = right(
    await fixture.load((c) => {
      Object.assign(c.this_kme, {
        id: "Vienna",
        nickname: null,
        debugging_http_interface: null,
        max_key_per_request: 1,
        max_key_count: 5,
        key_lifetime_seconds: 1,
        answer_repeat_seconds: 300,
        max_SAE_ID_count: 0,
        min_key_size: 128,
        max_key_size: 256,
        inter_kme_timeout_seconds: 0.25,
        lease_seconds: 2,
        audit_log: { directory: "keys-1", keep_days: 2 },
        reserve_share: [{ kme: 2, share: 0.25, saes: [1] }],
      });
      c.saes[0].kme_id = c.saes[1].kme_id = "Vienna";
      Object.assign(c.saes[0], { may_reach: [2, "3"], max_bits_per_second: 5, max_waiting_keys: null });
      c.saes[2].max_waiting_keys = 7;
      c.other_kmes[0].inter_kme_ca_cert_path = "ca.pem";
      c.other_kmes[0].https_client_certificate_serial = "0x00ff";
      c.other_kmes[0].ignore_system_proxy_settings = null;
      c.other_kmes.push({ id: 5, reached_through: "4" }, { id: "4", reached_through: 2 });
      c.saes.push({ id: "18446744073709551615", kme_id: 5, https_client_certificate_serial: null });
    }),
  );
  const { thisKme, otherKmes, saes } = config;
  assert.deepEqual(thisKme.id, { text: "Vienna", integer: false });
  assert.equal(thisKme.nickname, "KME Vienna");
  assert.equal(thisKme.consoleInterface, undefined);
  assert.deepEqual(
    [thisKme.maxKeyPerRequest, thisKme.maxKeyCount, thisKme.keyLifetimeSeconds, thisKme.maxSaeIdCount],
    [1, 5, 1, 0],
  );
  assert.equal(
    thisKme.answerRepeatSeconds,
    300,
  );
  assert.deepEqual([thisKme.minKeySize, thisKme.maxKeySize], [128, 256]);
  assert.equal(thisKme.interKmeTimeoutSeconds, 0.25);
  assert.equal(thisKme.leaseSeconds, 2);
  assert.deepEqual(thisKme.reserveShares, [{ kme: "2", share: 0.25, saes: ["1"] }]);
  assert.deepEqual(thisKme.auditLog, {
    directory: `${fixture.path}/keys-1`,
    rotateBytes: 64 << 20,
    keepMs: 172_800_000,
  });
  assert.deepEqual(saes[0]!.limits, { mayReach: ["2", "3"], maxBitsPerSecond: 5 });
  assert.deepEqual([saes[1]!.limits, saes[2]!.limits], [undefined, { maxWaitingKeys: 7 }]);
  const [neighbour, , remote, middle] = otherKmes;
  assert.ok(neighbour !== undefined && !("reachedThrough" in neighbour));
  assert.equal(neighbour.serverCa, fixture.ca.ca);
  assert.deepEqual(neighbour.certificates, [{ subjectCn: "KME 2" }, { serial: 255n }]);
  assert.equal(neighbour.ignoreSystemProxySettings, false);
  assert.deepEqual(remote, { id: { text: "5", integer: true }, reachedThrough: "4" });
  assert.deepEqual(middle, { id: { text: "4", integer: false }, reachedThrough: "2" });
  assert.deepEqual(saes[3], {
    id: { text: "18446744073709551615", integer: true },
    kmeId: "5",
    certificates: [],
  });
});

Deno.test("certificates are compared without regard to notation, beside a serial number", async () => {
  await using fixture = await makeFixture();
  const { config } = right(
    await fixture.load((c) => {
      c.saes[0].certificates = [
        { subject_cn: "One", san_dns: "One.Example", san_uri: "urn:a", san_email: "a@b", serial: [0, 7] },
        { fingerprint_sha256: "AB:".repeat(31) + "cd", issuer_cn: "CA", issuer_sha256: "EF".repeat(32) },
        { serial: "0x1F", san_dns: null },
      ];
    }),
  );
  assert.deepEqual(config.saes[0]!.certificates, [
    { subjectCn: "One", sanDns: "one.example", sanUri: "urn:a", sanEmail: "a@b", serial: 7n },
    { fingerprint: "ab".repeat(31) + "cd", issuerCn: "CA", issuerFingerprint: "ef".repeat(32) },
    { serial: 31n },
    { serial: BigInt(`0x${fixture.client.serialHex}`) },
  ]);
});

Deno.test("an expired certificate for calls to a neighbour is no mistake: its link is down", async () => {
  await using fixture = await makeFixture();
  const day = 86_400_000;
  const dates: [number, number, RegExp][] = [[-10, -1, /expired on \d{4}-/], [1, 90, /not valid before/]];
  for (const [from, to, pattern] of dates) {
    const notAfter = new Date(Date.now() + to * day);
    const { cert, key } = await fixture.ca.client({
      notBefore: new Date(Date.now() + from * day),
      notAfter,
    });
    await fixture.write("old.pem", cert + key);
    const { config, warnings, downLinks } = right(
      await fixture.load((c) => c.other_kmes[1].https_client_authentication_certificate = "old.pem"),
    );
    assert.deepEqual(warnings, []);
    assert.deepEqual(downLinks.map(({ member }) => member), [
      "other_kmes[1].https_client_authentication_certificate",
    ]);
    assert.match(downLinks[0]!.message, pattern);
    const [, kme] = config.otherKmes;
    assert.ok(kme !== undefined && "clientCertificate" in kme);
    assert.equal(kme.clientCertificate.validity.notAfter, Math.floor(notAfter.getTime() / 1000) * 1000);
  }
});

Deno.test("an expired CA of a neighbour's server is no mistake: its link is down", async () => {
  await using fixture = await makeFixture();
  const day = 86_400_000;
  const dates: [number, number, RegExp][] = [[-10, -1, /expired on \d{4}-/], [1, 90, /not valid before/]];
  for (const [from, to, pattern] of dates) {
    const { cert } = await issue(undefined, {
      isCa: true,
      notBefore: new Date(Date.now() + from * day),
      notAfter: new Date(Date.now() + to * day),
    });
    await fixture.write("old-ca.pem", `${cert}\n`);
    const { config, warnings, downLinks } = right(
      await fixture.load((c) => c.other_kmes[1].inter_kme_ca_cert_path = "old-ca.pem"),
    );
    assert.deepEqual(warnings, []);
    assert.deepEqual(downLinks.map(({ member }) => member), ["other_kmes[1].inter_kme_ca_cert_path"]);
    assert.match(downLinks[0]!.message, pattern);
    const [, kme] = config.otherKmes;
    assert.ok(kme !== undefined && "serverCa" in kme);
    assert.equal(kme.serverCa?.trim(), cert.trim());
  }
});

Deno.test("a file as written for the Rust KME, with comments and hexadecimal bytes", async () => {
  await using fixture = await makeFixture();
  const { config, warnings } = right(
    await fixture.loadText(`{
  "this_kme": {
    "id": 0x1, // hexadecimal
    "nickname": "Alice",
    "db_uri": ":memory:",
    "delete_key_file_after_read": false,
    "key_directory_to_watch": "keys-1",
    "saes_https_interface": {
      "listen_address": "0.0.0.0:13000",
      "ca_client_cert_path": "ca.pem",
      "server_cert_path": "server.pem",
      "server_key_path": "server.key"
    },
    "debugging_http_interface": "0.0.0.0:18080",
    "kmes_https_interface": {
      "listen_address": "0.0.0.0:13001",
      "ca_client_cert_path": "kmes-ca.pem",
      "server_cert_path": "server.pem",
      "server_key_path": "server.key"
    }
  },
  "other_kmes": [{
    "id": 2,
    "key_directory_to_watch": "keys-2",
    "inter_kme_bind_address": "127.0.0.1:14001",
    "ignore_system_proxy_settings": true,
    "https_client_authentication_certificate": "client.pfx",
    "https_client_authentication_certificate_password": "${PASSWORD}",
  }],
  "saes": [
    { "id": 1, "kme_id": 1, "https_client_certificate_serial": [0x70, 0xf4, 0xc, 0x3] },
    { "id": 3, "kme_id": 2 },
  ],
}`),
  );
  assert.deepEqual(config.saes[0]!.certificates, [{ serial: 0x70f40c03n }]);
  assert.deepEqual(warnings.map(({ member }) => member), [
    "this_kme.debugging_http_interface",
    "other_kmes[0].certificates",
  ]);
});

Deno.test("paths: the working directory first, beside the configuration file second", async () => {
  await using fixture = await makeFixture();
  const { path } = fixture;
  const cwd = `${path}/cwd`;
  await Deno.mkdir(`${cwd}/keys-1`, { recursive: true });
  await fixture.write("beside.db", "");
  await fixture.write("both.db", "");
  await fixture.write("cwd/both.db", "");
  const load = async (uri: string) =>
    right(await fixture.load((c) => c.this_kme.db_uri = uri, { cwd })).config.thisKme;
  const both = await load("sqlite://both.db");
  assert.deepEqual(both.database, { kind: "sqlite", path: `${cwd}/both.db` });
  assert.equal(both.keyDirectory, `${cwd}/keys-1`);
  assert.deepEqual((await load("sqlite://beside.db")).database, {
    kind: "sqlite",
    path: `${path}/beside.db`,
  });
  assert.deepEqual((await load("sqlite://new.db")).database, { kind: "sqlite", path: `${cwd}/new.db` });
  assert.deepEqual((await load(`sqlite://${path}/abs.db`)).database, {
    kind: "sqlite",
    path: `${path}/abs.db`,
  });
  // The configuration file's own path is relative to the working directory too.
  const loaded = right(await loadConfig("../config.json5", { cwd }));
  assert.equal(loaded.config.file, "../config.json5");
});

Deno.test("paths: beside the configuration file when the working directory may not be looked at", {
  ignore: Deno.build.os === "windows",
}, async () => {
  await using temp = await makeTempDir();
  const base = { cwd: `${temp.path}/cwd`, beside: `${temp.path}/beside` };
  for (const directory of [base.cwd, base.beside]) await Deno.mkdir(directory);
  await Deno.writeTextFile(`${base.beside}/kme.pem`, "");
  await Deno.chmod(temp.path, 0o755);
  await Deno.chmod(base.cwd, 0o000);
  try {
    const found = await withoutRights(() =>
      Promise.all([locate("kme.pem", base), locate("neither.pem", base)])
    );
    assert.deepEqual(found, [`${base.beside}/kme.pem`, `${base.cwd}/neither.pem`]);
  } finally {
    await Deno.chmod(base.cwd, 0o755);
  }
});

Deno.test("keys as SEC1, PKCS#1 and RSA serve, as do certificates after other text", async () => {
  await using fixture = await makeFixture();
  const { server, client } = fixture;
  const sec1 = createPrivateKey(server.key).export({ type: "sec1", format: "pem" }) as string;
  const encrypted = createPrivateKey(client.key)
    .export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "open" });
  await fixture.write("sec1.key", sec1);
  await fixture.write("text.pem", `subject=a test\n${server.cert}\nbye\n`);
  await fixture.write("encrypted.pem", `${encrypted}${client.cert}`);
  const { config } = right(
    await fixture.load((c) => {
      c.this_kme.saes_https_interface.server_key_path = "sec1.key";
      c.this_kme.saes_https_interface.server_cert_path = "text.pem";
      c.other_kmes[1].https_client_authentication_certificate = "encrypted.pem";
      c.other_kmes[1].https_client_authentication_certificate_password = "open";
    }),
  );
  assert.equal(config.thisKme.saesInterface.serverKey, sec1);
  assert.equal(config.thisKme.saesInterface.serverCert, server.cert);
  const peer = config.otherKmes[1]!;
  assert.ok("clientCertificate" in peer && peer.clientCertificate.kind === "pem");
  tls.createSecureContext({ cert: peer.clientCertificate.cert, key: peer.clientCertificate.key });
  assert.match(peer.clientCertificate.key, /^-----BEGIN PRIVATE KEY-----/);
});

Deno.test("a correct configuration that is probably a mistake is a warning", async () => {
  await using fixture = await makeFixture();
  const warned = async (...args: Parameters<typeof fixture.load>) =>
    right(await fixture.load(...args)).warnings.map(({ member, message }) => `${member}: ${message}`);
  const [lost, ...none] = await warned((c) => c.this_kme.delete_key_file_after_read = true);
  assert.match(lost!, /^this_kme\.delete_key_file_after_read: .*restart/);
  assert.deepEqual(none, []);

  const [open] = await warned((c) => c.this_kme.debugging_http_interface = "[::]:18080");
  assert.match(open!, /^this_kme\.debugging_http_interface: .*console/);

  // The certificates are valid for 90 days, the CA for ten years.
  const soon = await warned(undefined, { now: new Date(Date.now() + 61 * 86_400_000) });
  assert.deepEqual(soon.map((line) => line.replace(/:.*/, "")), [
    "this_kme.saes_https_interface.server_cert_path",
    "this_kme.kmes_https_interface.server_cert_path",
    "other_kmes[0].https_client_authentication_certificate",
    "other_kmes[1].https_client_authentication_certificate",
  ]);
  assert.match(soon[0]!, /expires on .*, in 2\d days/);

  const old = await fixture.ca.server({ notBefore: new Date(0), notAfter: new Date(1e12) });
  await fixture.write("cas.pem", fixture.ca.ca + old.cert);
  const [expired] = await warned((c) => c.this_kme.saes_https_interface.ca_client_cert_path = "cas.pem");
  assert.match(expired!, /certificate 2 of 2 in the file expired/);
});

Deno.test("neighbours whose certificates are not named are a warning, more so if SAEs have the same CA", async () => {
  await using fixture = await makeFixture();
  const warnings = async (named: number, edit: (config: AnyConfig) => void = () => {}) => {
    const { warnings } = right(
      await fixture.load((config) => {
        for (const kme of config.other_kmes.slice(named)) delete kme.certificates;
        config.other_kmes.push({ id: 4, reached_through: 2 });
        edit(config);
      }),
    );
    return warnings.map(({ member, message }) => `${member}: ${message}`);
  };
  assert.deepEqual(await warnings(2), []);
  const [third, ...none] = await warnings(1);
  assert.match(
    third!,
    /^other_kmes\[1\]\.certificates: is missing: any certificate .* can call as KME 3; write/,
  );
  assert.deepEqual(none, []);

  // The same CA certificate among others, in other lines.
  const other = await makeTestCa("another");
  await fixture.write("both.pem", `${other.ca}text\n${fixture.ca.ca.replaceAll("\n", "\r\n")}`);
  const shared = (config: AnyConfig) => {
    config.this_kme.kmes_https_interface.ca_client_cert_path = "both.pem";
  };
  assert.deepEqual(await warnings(2, shared), []);
  const both = await warnings(0, shared);
  assert.match(
    both[0]!,
    /^this_kme\.kmes_https_interface\.ca_client_cert_path: .*every SAE can call as KME 2, 3;/,
  );
  assert.deepEqual(both.length, 3);
});

Deno.test({
  name: "a private key that all users may read is a warning, one that its group may read is none",
  ignore: Deno.build.os === "windows",
  fn: async () => {
    await using fixture = await makeFixture();
    await Deno.chmod(`${fixture.path}/server.key`, 0o640);
    await Deno.chmod(`${fixture.path}/client.pfx`, 0o604);
    const { warnings } = right(await fixture.load());
    assert.deepEqual(warnings.map(({ member }) => member), [
      "other_kmes[0].https_client_authentication_certificate",
    ]);
    assert.match(warnings[0]!.message, /readable for all users; run chmod o-rwx/);
  },
});

Deno.test("the schema can be described by itself", () => {
  const described = z.toJSONSchema(configSchema, { io: "input" });
  const thisKme = (described.properties!.this_kme as z.core.JSONSchema.JSONSchema).properties!;
  assert.equal((thisKme.max_key_per_request as z.core.JSONSchema.JSONSchema).default, 128);
  assert.deepEqual(Object.keys(described.properties!), ["this_kme", "other_kmes", "saes"]);
});
