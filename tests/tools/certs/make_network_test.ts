import "reflect-metadata";
import * as x509 from "@peculiar/x509";
import assert from "node:assert/strict";
import { createPrivateKey, X509Certificate } from "node:crypto";
import {
  CertificateFileError,
  makeNetwork,
  NamedCertificateError,
  OtherNetworkError,
} from "../../../src/tools/certs/make_network.ts";
import type { MadeCertificate } from "../../../src/tools/certs/made.ts";
import { makeTempDir } from "../../harness/temp_dir.ts";
import { copy, differences, filesOf, HOSTS, twoKmes } from "./network_files.ts";

const BASIC_CONSTRAINTS = "2.5.29.19";
const KEY_USAGE = "2.5.29.15";
const YEAR_MS = 365 * 86_400_000;

async function certificate(made: MadeCertificate): Promise<X509Certificate> {
  return new X509Certificate(await Deno.readTextFile(made.crt));
}

async function assertIssued(made: MadeCertificate, ca: MadeCertificate): Promise<void> {
  const [leaf, issuer] = [await certificate(made), await certificate(ca)];
  assert.ok(leaf.checkIssued(issuer), `${made.name} names ${ca.name} as its issuer`);
  assert.ok(leaf.verify(issuer.publicKey), `${made.name} is signed by ${ca.name}`);
  assert.ok(leaf.checkPrivateKey(createPrivateKey(await Deno.readTextFile(made.key))), `key of ${made.name}`);
}

Deno.test("every certificate is issued by the CA of the KME and interface it is used at", async () => {
  await using out = await makeTempDir();
  const { kmes, warnings } = await makeNetwork(twoKmes(), out.path);
  assert.deepEqual([...kmes.keys()], ["1", "2"]);
  assert.deepEqual(warnings, []);
  for (const kme of kmes.values()) {
    for (
      const [ca, leaves] of [
        [kme.saesCa, [kme.saesServer, ...kme.saes.values()]],
        [kme.kmesCa, [kme.kmesServer, ...kme.callers.values()]],
      ] as const
    ) {
      const issuer = await certificate(ca);
      assert.equal(issuer.ca, true);
      assert.ok(issuer.verify(issuer.publicKey), "self-signed");
      for (const leaf of leaves) await assertIssued(leaf, ca);
    }
  }
  const [alice, bob] = [kmes.get("1")!, kmes.get("2")!];
  assert.deepEqual([...alice.saes.keys()], ["1", "2"]);
  assert.deepEqual([...bob.saes.keys()], ["3"]);
  assert.equal(
    bob.callers.get("1")!.pfx,
    `${out.path}/inter_kmes/kme1-to-kme2.pfx`.replaceAll("/", SEPARATOR),
  );
  const subjects = await Promise.all(
    [alice, bob].flatMap((kme) => [kme.saesCa, kme.kmesCa]).map(async (ca) =>
      (await certificate(ca)).subject
    ),
  );
  assert.equal(new Set(subjects).size, 4, "no two CAs of one name");
});

const SEPARATOR = Deno.build.os === "windows" ? "\\" : "/";

Deno.test("extensions say what a certificate is for", async () => {
  await using out = await makeTempDir();
  const { kmes } = await makeNetwork(twoKmes(), out.path);
  const { saesCa, saesServer, kmesCa, kmesServer, saes, callers } = kmes.get("1")!;
  const parsed = async (made: MadeCertificate) => new x509.X509Certificate(await Deno.readTextFile(made.crt));
  const criticalOnes = (made: x509.X509Certificate) =>
    Array.from(made.extensions).filter((extension) => extension.critical).map((extension) => extension.type);
  for (
    const [ca, leaves] of [[saesCa, [saesServer, saes.get("1")!]], [kmesCa, [
      kmesServer,
      callers.get("2")!,
    ]]] as const
  ) {
    const issuer = await parsed(ca);
    const { ca: isCa, pathLength } = issuer.getExtension(x509.BasicConstraintsExtension)!;
    assert.deepEqual([isCa, pathLength], [true, 0]);
    assert.equal(
      issuer.getExtension(x509.KeyUsagesExtension)!.usages,
      x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign,
    );
    assert.deepEqual(criticalOnes(issuer), [BASIC_CONSTRAINTS, KEY_USAGE]);
    const keyId = issuer.getExtension(x509.SubjectKeyIdentifierExtension)!.keyId;
    for (const [i, made] of leaves.entries()) {
      const leaf = await parsed(made);
      assert.equal(leaf.getExtension(x509.BasicConstraintsExtension)!.ca, false);
      assert.equal(leaf.getExtension(x509.KeyUsagesExtension)!.usages, x509.KeyUsageFlags.digitalSignature);
      assert.deepEqual(criticalOnes(leaf), [BASIC_CONSTRAINTS, KEY_USAGE]);
      assert.equal(leaf.getExtension(x509.AuthorityKeyIdentifierExtension)!.keyId, keyId);
      assert.ok(leaf.getExtension(x509.SubjectKeyIdentifierExtension));
      assert.deepEqual(
        [...leaf.getExtension(x509.ExtendedKeyUsageExtension)!.usages],
        [i === 0 ? x509.ExtendedKeyUsage.serverAuth : x509.ExtendedKeyUsage.clientAuth],
      );
      const names = leaf.getExtension(x509.SubjectAlternativeNameExtension)?.names.items;
      assert.deepEqual(
        names?.map(({ type, value }) => [type, value]),
        i === 0 ? [["dns", "localhost"], ["ip", "127.0.0.1"], ["ip", "::1"]] : undefined,
      );
      assert.match(leaf.subject, /O=TEST ONLY/);
    }
  }
});

Deno.test("lifetimes and key types are those of the network file", async () => {
  await using out = await makeTempDir();
  const now = Date.now();
  const near = (date: Date, time: number) => assert.ok(Math.abs(date.getTime() - time) < 120_000, `${date}`);
  const short = await makeNetwork(twoKmes(), `${out.path}/default`);
  near(short.kmes.get("1")!.saesCa.notAfter, now + 20 * YEAR_MS);
  near(short.kmes.get("1")!.saes.get("1")!.notAfter, now + 2 * YEAR_MS);
  const server = await certificate(short.kmes.get("1")!.saesServer);
  assert.equal(server.publicKey.asymmetricKeyDetails?.namedCurve, "prime256v1");
  near(new Date(server.validFrom), now - 3_600_000);

  const long = await makeNetwork({
    ...twoKmes(),
    key_type: "P-384",
    ca_days: 365 * 60,
    leaf_days: 365 * 70,
    valid_from: "2025-01-31",
  }, `${out.path}/long`);
  const ca = await certificate(long.kmes.get("1")!.saesCa);
  assert.equal(ca.publicKey.asymmetricKeyDetails?.namedCurve, "secp384r1");
  assert.equal(new Date(ca.validFrom).toISOString(), "2025-01-31T00:00:00.000Z");
  near(new Date(ca.validTo), now + 60 * YEAR_MS);
  // From 2050 on a date has to be a GeneralizedTime (tag 0x18) of 15 octets (RFC 5280, clause 4.1.2.5).
  const year = String(new Date(ca.validTo).getUTCFullYear());
  assert.ok(ca.raw.toString("latin1").includes(`\x18\x0f${year}`));
  const leaf = long.kmes.get("1")!.saes.get("1")!;
  assert.deepEqual(leaf.notAfter, long.kmes.get("1")!.saesCa.notAfter, "a leaf does not outlive its CA");
  await assertIssued(leaf, long.kmes.get("1")!.saesCa);
});

Deno.test("a network can fix a serial, whatever its first bits", async () => {
  await using out = await makeTempDir();
  const network = twoKmes();
  network.kmes[0]!.saes = [
    { id: 1, serial: "0a1b" },
    { id: 2, serial: "00:9c:01" },
    { id: 4, serial: "8F00000000000000000000000000000000000F" },
    { id: 5, serial: "7" },
    { id: 6 },
  ];
  const { kmes } = await makeNetwork(network, out.path);
  const saes = kmes.get("1")!.saes;
  const der = async (id: string) => (await certificate(saes.get(id)!)).raw.toString("hex");
  assert.deepEqual([...saes.get("1")!.serial], [0x0a, 0x1b]);
  assert.ok((await der("1")).includes("a003020102" + "02020a1b"));
  assert.deepEqual([...saes.get("2")!.serial], [0x9c, 0x01]);
  assert.ok((await der("2")).includes("a003020102" + "0203009c01"), "a top bit has a zero byte before it");
  assert.ok((await der("4")).includes("a003020102" + "0214008f00000000000000000000000000000000000f"));
  assert.deepEqual([...saes.get("5")!.serial], [7]);
  const random = saes.get("6")!.serial;
  assert.equal(random.length, 20);
  assert.ok(random[0]! >= 0x40 && random[0]! < 0x80);
});

Deno.test("names may have commas, quotes and letters of any script", async () => {
  await using out = await makeTempDir();
  const network = twoKmes();
  network.organization = 'Ünï, "quoted" + #1 \\ Ltd';
  network.kmes[0]!.id = "a/b c";
  const { kmes } = await makeNetwork(network, out.path);
  const kme = kmes.get("a/b c")!;
  const { O, CN } = (await certificate(kme.saesServer)).toLegacyObject().subject as unknown as Record<
    string,
    string
  >;
  assert.equal(O, network.organization);
  assert.equal(CN, "a/b c");
  assert.ok(kme.saesServer.crt.endsWith(`kme-a%2Fb%20c-local-zone${SEPARATOR}kme_server.crt`));
  await assertIssued(kme.saes.get("1")!, kme.saesCa);
});

Deno.test("private files are for their owner only", { ignore: Deno.build.os === "windows" }, async () => {
  await using out = await makeTempDir();
  const { written } = await makeNetwork(twoKmes(), out.path, { configs: true });
  const modeOf = async (path: string) => (await Deno.stat(path)).mode! & 0o777;
  // Less what the umask takes away.
  const like = `${out.path}/public`;
  await Deno.writeTextFile(like, "", { mode: 0o644 });
  const publicMode = await modeOf(like);
  for (const path of written) {
    assert.equal(await modeOf(path), /\.cr[tl]$/.test(path) ? publicMode : 0o600, path);
  }
});

Deno.test("a second run changes nothing", async () => {
  await using out = await makeTempDir();
  const first = await makeNetwork(twoKmes(), out.path, { configs: true });
  const before = await filesOf(out.path);
  assert.equal(before.size, first.written.length);
  const second = await makeNetwork(twoKmes(), out.path, { configs: true });
  assert.deepEqual(second.written, []);
  assert.deepEqual(second.warnings, []);
  assert.deepEqual(second.kmes, first.kmes);
  assert.deepEqual(differences(before, await filesOf(out.path)), []);
});

Deno.test("an SAE and a KME can be added later", async () => {
  await using out = await makeTempDir();
  await makeNetwork(twoKmes(), out.path);
  const before = await filesOf(out.path);
  const network = twoKmes();
  network.kmes[0]!.saes!.push({ id: 4, name: "router" });
  network.kmes.push({
    id: 3,
    saes_interface: { hosts: HOSTS, port: 15000 },
    kmes_interface: { hosts: HOSTS, port: 15001 },
  });
  const { kmes } = await makeNetwork(network, out.path);
  const changed = differences(before, await filesOf(out.path));
  assert.ok(changed.every((path) => !before.has(path)), "nothing that was there is another");
  assert.deepEqual(changed.filter((path) => path.startsWith("kme-1")), [
    "kme-1-local-zone/router.crt",
    "kme-1-local-zone/router.key",
    "kme-1-local-zone/router.pem",
    "kme-1-local-zone/router.pfx",
  ]);
  await assertIssued(kmes.get("1")!.saes.get("4")!, kmes.get("1")!.saesCa);
  await assertIssued(kmes.get("1")!.callers.get("3")!, kmes.get("1")!.kmesCa);
  await assertIssued(kmes.get("3")!.callers.get("1")!, kmes.get("3")!.kmesCa);
});

Deno.test("single missing files are made from the others", async () => {
  await using out = await makeTempDir();
  const { kmes } = await makeNetwork(twoKmes(), out.path);
  const { saes, saesCa } = kmes.get("1")!;
  const [first, second] = [saes.get("1")!, saes.get("2")!];
  const before = await filesOf(out.path);
  await Deno.remove(first.pem);
  await Deno.remove(first.pfx);
  const key = await Deno.readTextFile(second.key);
  await Deno.remove(second.crt);
  const again = await makeNetwork(twoKmes(), out.path);
  assert.deepEqual(again.written, [first.pem, first.pfx, second.crt, second.pem, second.pfx]);
  assert.equal((await filesOf(out.path)).size, before.size);
  assert.equal(await Deno.readTextFile(second.key), key);
  await assertIssued(second, saesCa);
});

Deno.test("a new client certificate is in all of its files", async () => {
  await using out = await makeTempDir();
  const { kmes } = await makeNetwork(twoKmes(), out.path);
  const client = kmes.get("1")!.saes.get("1")!;
  const pfx = await Deno.readFile(client.pfx);
  await Deno.remove(client.crt);
  await Deno.remove(client.key);
  const again = await makeNetwork(twoKmes(), out.path);
  const now = again.kmes.get("1")!.saes.get("1")!;
  assert.notDeepEqual(now.serial, client.serial);
  assert.equal(
    await Deno.readTextFile(now.pem),
    await Deno.readTextFile(now.crt) + await Deno.readTextFile(now.key),
  );
  assert.notDeepEqual(await Deno.readFile(now.pfx), pfx);
});

Deno.test("the CA of another network, such as the published one, issues nothing", async () => {
  await using out = await makeTempDir();
  await copy(new URL("../../../certs/", import.meta.url), out.path);
  const before = await filesOf(out.path);
  for (const organization of ["Example Corp.", undefined]) {
    const network = { ...twoKmes(), organization };
    for (const options of [{ configs: true }, { renew: "client_1" }, { renew: "ca_kme2" }]) {
      await assert.rejects(
        makeNetwork(network, out.path, options),
        (error) =>
          error instanceof OtherNetworkError &&
          /ca(_kme2)?\.crt is of another network: .*TEST ONLY/.test(error.message),
      );
    }
  }
  assert.deepEqual(differences(before, await filesOf(out.path)), []);
  const odd = { ...twoKmes(), organization: 'Quotes ", commas, + #' };
  await makeNetwork(odd, `${out.path}/odd`);
  assert.deepEqual((await makeNetwork(odd, `${out.path}/odd`)).written, []);
});

Deno.test("renewing gives one client a new key and serial and changes nothing else", async () => {
  await using out = await makeTempDir();
  const { kmes } = await makeNetwork(twoKmes(), out.path);
  const before = await filesOf(out.path);
  const old = await certificate(kmes.get("1")!.saes.get("1")!);
  for (const renew of ["client_1", "kme-1-local-zone/client_1.crt"]) {
    const renewed = await makeNetwork(twoKmes(), out.path, { renew });
    assert.deepEqual(differences(before, await filesOf(out.path)), [
      "kme-1-local-zone/client_1.crt",
      "kme-1-local-zone/client_1.key",
      "kme-1-local-zone/client_1.pem",
      "kme-1-local-zone/client_1.pfx",
    ]);
    const made = renewed.kmes.get("1")!.saes.get("1")!;
    const now = await certificate(made);
    assert.notEqual(now.serialNumber, old.serialNumber);
    assert.ok(!now.publicKey.equals(old.publicKey));
    await assertIssued(made, kmes.get("1")!.saesCa);
    const pem = await Deno.readTextFile(made.pem);
    assert.equal(pem, await Deno.readTextFile(made.crt) + await Deno.readTextFile(made.key));
  }
});

Deno.test("a renewed CA keeps its key, so what it issued stays valid", async () => {
  await using out = await makeTempDir();
  const { kmes } = await makeNetwork({ ...twoKmes(), ca_days: 30 }, out.path);
  const before = await filesOf(out.path);
  const { kmes: renewed } = await makeNetwork(twoKmes(), out.path, { renew: "ca_kme2" });
  assert.deepEqual(differences(before, await filesOf(out.path)), ["inter_kmes/ca_kme2.crt"]);
  const [was, is] = [kmes.get("2")!, renewed.get("2")!];
  assert.notDeepEqual(is.kmesCa.serial, was.kmesCa.serial);
  assert.ok(is.kmesCa.notAfter > was.kmesCa.notAfter);
  for (const leaf of [is.kmesServer, is.callers.get("1")!]) await assertIssued(leaf, is.kmesCa);
});

Deno.test("a certificate that cannot be renewed is refused, and nothing is changed", async () => {
  await using out = await makeTempDir();
  const network = twoKmes();
  network.kmes[0]!.saes = [{ id: 1, serial: "0a1b" }];
  const renew = (name: string) => makeNetwork(network, out.path, { renew: name });
  await assert.rejects(renew("client_1"), NamedCertificateError, "it does not exist yet");
  assert.equal((await filesOf(out.path)).size, 0);
  await makeNetwork(network, out.path);
  const before = await filesOf(out.path);
  await assert.rejects(renew("client_9"), /there is no client_9; there are .*kme-1-local-zone\/client_1,/);
  await assert.rejects(renew("kme_server"), /kme-1-local-zone\/kme_server, kme-2-local-zone\/kme_server/);
  await assert.rejects(renew("client_1"), /has the serial that the network file fixes/);
  assert.deepEqual(differences(before, await filesOf(out.path)), []);
  network.kmes[0]!.saes = [{ id: 1, serial: "0a1c" }];
  const { kmes } = await renew("client_1");
  assert.deepEqual([...kmes.get("1")!.saes.get("1")!.serial], [0x0a, 0x1c]);
});

Deno.test("certificates that expire or do not match the network file are warnings", async () => {
  await using out = await makeTempDir();
  const network = { ...twoKmes(), leaf_days: 60 };
  const { kmes } = await makeNetwork(network, out.path);
  const after = (days: number) => new Date(Date.now() + days * 86_400_000);
  const warnings = async (now?: Date) => (await makeNetwork(network, out.path, { now })).warnings.join("\n");
  assert.equal(await warnings(after(25)), "");
  assert.match(
    await warnings(after(35)),
    /^kme-1-local-zone\/client_1 expires on .*--renew kme-1-local-zone\/client_1/m,
  );
  assert.match(await warnings(after(61)), /^inter_kmes\/kme1-to-kme2 expired on /m);

  network.kmes[0]!.saes_interface.hosts = [...HOSTS, "kme1.example"];
  network.kmes[0]!.saes![0]!.serial = "0b";
  const { saes, saesCa } = kmes.get("1")!;
  await Deno.copyFile(saes.get("1")!.key, saes.get("2")!.key);
  await Deno.copyFile(kmes.get("2")!.saes.get("3")!.crt, kmes.get("2")!.kmesServer.crt);
  await Deno.remove(saesCa.key);
  assert.deepEqual((await makeNetwork(network, out.path)).warnings.map((warning) => warning.split(" (")[0]), [
    "kme-1-local-zone/kme_server is not valid for kme1.example",
    `kme-1-local-zone/client_1 has serial ${saes.get("1")!.serial.toHex()}, the network file says 0b`,
    "kme-1-local-zone/client_2 does not belong to its key",
    "inter_kmes/kme2_server does not belong to its key",
    "inter_kmes/kme2_server was not issued by inter_kmes/ca_kme2",
    "inter_kmes/kme2_server is not valid for localhost, 127.0.0.1, ::1",
  ]);
});

Deno.test("missing and unreadable files are named", async () => {
  await using out = await makeTempDir();
  const { kmes } = await makeNetwork(twoKmes(), out.path);
  const { saesCa, saes } = kmes.get("1")!;
  const network = twoKmes();
  network.kmes[0]!.saes!.push({ id: 4 });
  await Deno.rename(saesCa.key, `${saesCa.key}.elsewhere`);
  await assert.rejects(
    makeNetwork(network, out.path),
    (error) => error instanceof CertificateFileError && error.message.includes("ca.key is missing"),
  );
  await Deno.copyFile(saes.get("1")!.key, saesCa.key);
  await assert.rejects(makeNetwork(network, out.path), /ca\.key is not the key of its certificate/);
  await Deno.rename(`${saesCa.key}.elsewhere`, saesCa.key);
  await Deno.writeTextFile(saes.get("2")!.crt, "not a certificate");
  await assert.rejects(makeNetwork(network, out.path), /client_2\.crt holds no certificate in PEM/);
});

Deno.test("a server's certificate has the KME's id as CN, and names and addresses as alternative names", async () => {
  await using out = await makeTempDir();
  const { kmes } = await makeNetwork(twoKmes(), out.path);
  for (const kme of kmes.values()) {
    for (const server of [kme.saesServer, kme.kmesServer]) {
      const made = await certificate(server);
      assert.match(made.subject!, new RegExp(`^CN=${kme.id}$`, "m"));
      assert.equal(made.checkHost("localhost"), "localhost");
      for (const address of ["127.0.0.1", "::1"]) assert.notEqual(made.checkIP(address), undefined);
    }
  }
});
