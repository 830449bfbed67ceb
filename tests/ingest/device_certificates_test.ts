/** The certificates between a KME and its QKD device: revocation of the device's, and renewal of the KME's while it runs. */
import assert from "node:assert/strict";
import { check } from "../../src/check/run_checks.ts";
import { eventually } from "../harness/eventually.ts";
import { assertSameKeys, keyIdsOf } from "../harness/sae_client.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { makeTestCa } from "../harness/test_certificates.ts";
import { scrape } from "../metrics/scrape.ts";
import {
  altNames,
  basicConstraints,
  bytes,
  CLIENT,
  crl,
  forge,
  ip,
  keyUsage,
  SERVER,
  usage,
} from "../x509/forge.ts";
import { isCall, makeSite, type Site, TIMEOUT } from "./device_site.ts";

const DEVICE_SERIAL = 0x51;

const root = forge({
  commonName: "CA of devices (for tests)",
  extensions: [basicConstraints(true), keyUsage(0x06)],
});
const issue = (commonName: string, serial: number, ...extensions: Uint8Array[]) =>
  forge({
    commonName,
    issuer: root,
    serial: bytes(serial),
    extensions: [basicConstraints(false), ...extensions],
  }).pem;
/** None of the lists is older than another one. */
const thisUpdate = new Date(Date.now() - 86_400_000);

/** Keys of SAE 1 for SAE 2 that make it necessary to request more. */
async function use({ network }: Site): Promise<void> {
  for (let time = 0; time < 2; time++) {
    const enc = await network.client(1).encKeys(2, { number: 60 });
    assert.equal(enc.status, 200, enc.text);
    assertSameKeys(await network.client(2).decKeys(1, keyIdsOf(enc)), enc);
  }
}

Deno.test("a device whose certificate is revoked is not called any more, until it is taken off the list", async () => {
  await using directory = await makeTempDir();
  const path = `${directory.path}/devices.crl`;
  const put = async (...serials: number[]) => {
    const list = crl(root, { thisUpdate, serials: serials.map((serial) => bytes(serial)) });
    await Deno.writeFile(`${path}.new`, list);
    await Deno.rename(`${path}.new`, path);
  };
  await put();
  const certificates = {
    ca: root.pem.cert,
    server: issue("device (for tests)", DEVICE_SERIAL, usage(SERVER), altNames(ip(127, 0, 0, 1))),
    client: issue("SAE of a device (for tests)", 0x52, usage(CLIENT)),
  };
  await using site = await makeSite(undefined, { certificates, sourceOf: { 1: { crl_path: path } } });
  const { network, devices, processes } = site;
  await site.untilStocked(200);
  const lines = await check(network.kme(1).configPath);
  const [line] = lines.filter(({ what }) => what === "other_kmes[0].key_source.crl_path");
  assert.deepEqual([line!.level, /^0 certificates are revoked/.test(line!.detail)], ["ok", true]);

  await put(DEVICE_SERIAL);
  await eventually(async () => {
    const { problem, up } = await site.device(1);
    assert.match(problem, /CN=device \(for tests\) is revoked/);
    assert.equal(up, false);
    return true;
  }, TIMEOUT);
  await processes[0]!.waitForLine(/give no keys: .* is revoked/);
  const url = `http://127.0.0.1:${network.kme(1).consolePort}/metrics`;
  const samples = scrape(await (await fetch(url)).text());
  assert.equal(samples.of("kme_crl_problems")['crl="device of the link with KME 2"'], 0);
  const requests = () => devices.requests.filter(({ device }) => device === 0).length;
  const before = requests();
  await use(site);
  assert.equal((await site.device(1)).up, false);
  assert.equal(requests(), before);

  await put();
  await site.untilStocked(200);
  await eventually(async () => (await site.device(1)).problem === null, TIMEOUT);
  await site.close();
});

Deno.test(
  "SIGHUP: no keys are requested with the certificate of another SAE, however rarely the device is polled",
  { ignore: Deno.build.os === "windows" },
  async () => {
    const ca = await makeTestCa("CA of test devices");
    const certificates = { ca: ca.ca, server: await ca.server(), client: await ca.client() };
    const other = await ca.client({ commonName: "another SAE" });
    const plain = (serial: string) => serial.toLowerCase().replace(/^0+/, "");
    const isOther = ({ serial }: { serial: string }) => plain(serial) === plain(other.serialHex);
    await using site = await makeSite((request, right) => {
      const answer = right();
      if (request.path.endsWith("/status") && isOther(request)) answer.json.master_SAE_ID = "999";
      return answer;
    }, { certificates, source: { poll_seconds: 3600 } });
    const { network, devices, processes: [process] } = site;
    await site.untilStocked(200);
    await Deno.writeTextFile(`${network.kme(1).directory}/device.pem`, other.cert + other.key);
    process!.signal("SIGHUP");
    await process!.waitForLine(/was reloaded/);
    await use(site);
    await eventually(async () => /knows this KME as SAE 999/.test((await site.device(1)).problem), TIMEOUT);
    assert.deepEqual(
      devices.requests.filter((request) => isOther(request) && isCall(0, "enc_keys")(request)),
      [],
    );
    await site.close();
  },
);

Deno.test(
  "SIGHUP: a device is called with the new certificate from then on",
  { ignore: Deno.build.os === "windows" },
  async () => {
    const ca = await makeTestCa("CA of test devices");
    const certificates = { ca: ca.ca, server: await ca.server(), client: await ca.client() };
    await using site = await makeSite(undefined, { certificates });
    const { network, devices, processes: [process] } = site;
    await site.untilStocked(200);
    const renewed = await ca.client({ commonName: "renewed" });
    await Deno.writeTextFile(`${network.kme(1).directory}/device.pem`, renewed.cert + renewed.key);
    process!.signal("SIGHUP");
    await process!.waitForLine(/was reloaded/);
    await use(site);
    await site.untilStocked(200);
    const serials = devices.requests.filter(isCall(0, "enc_keys")).map(({ serial }) => serial);
    const plain = (serial: string) => serial.replace(/^0+/, "");
    assert.notEqual(plain(serials[0]!), plain(renewed.serialHex));
    assert.equal(plain(serials.at(-1)!), plain(renewed.serialHex));
    assert.ok(!process!.lines.some((line) => /left out until the next start/.test(line)));
    assert.deepEqual(await site.lost(1), {});

    await network.writeConfig(1, ({ other_kmes }) => {
      other_kmes[0]!.key_source.target_stock = 300;
    });
    process!.signal("SIGHUP");
    await process!.waitForLine(/left out until the next start: the link with KME 2 \(.*QKD device/);
    await site.close();
  },
);
