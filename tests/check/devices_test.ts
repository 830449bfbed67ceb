/** `kme check` asks the QKD devices of links for their status. */
import assert from "node:assert/strict";
import type { CheckLine } from "../../src/check/check_line.ts";
import { check } from "../../src/check/run_checks.ts";
import { type DeviceNetworkOptions, makeDeviceNetwork } from "../harness/device_network.ts";
import { startTestDevices, type TestDevices } from "../harness/test_device.ts";

async function lines(
  devices: TestDevices,
  options: Partial<DeviceNetworkOptions> = {},
): Promise<CheckLine[]> {
  await using network = await makeDeviceNetwork({ devices: devices.addresses, ...options });
  const all = await check(network.kme(1).configPath);
  return all.filter(({ what }) => what === "other_kmes[0].key_source");
}

Deno.test("a device that answers is named with its stock, and no key is requested", async () => {
  await using devices = await startTestDevices(321);
  const [line, ...more] = await lines(devices);
  assert.deepEqual([line!.level, more], ["ok", []]);
  assert.match(line!.detail, /^the QKD device 127\.0\.0\.1:\d+ answers and has 321 keys for this link$/);
  assert.deepEqual(devices.requests.map(({ method, path }) => `${method} ${path}`), [
    "GET /api/v1/keys/202/status",
  ]);
});

Deno.test("settings that contradict each other are a failure, with what to do", async () => {
  await using devices = await startTestDevices();
  const cases: [Record<string, unknown>, RegExp, RegExp][] = [
    [{ local_SAE_id: 7 }, /knows this KME as SAE 201, not 7/, /local_SAE_id/],
    [{ remote_SAE_id: 9 }, /status 400: no such SAE/, /remote_SAE_id/],
    [{ url: "https://127.0.0.1:1" }, /connection refused/, /start the device/],
    [{ url: `https://localhost:${devices.addresses[1].port}/other` }, /status 400/, /url/],
  ];
  for (const [source, detail, fix] of cases) {
    const [line] = await lines(devices, { source });
    assert.equal(line!.level, "fail", JSON.stringify(source));
    assert.match(line!.detail, detail);
    assert.match(line!.fix!, fix);
  }
});

Deno.test("more keys in a request than the device gives at once is a warning", async () => {
  await using devices = await startTestDevices();
  const found = await lines(devices, { source: { keys_per_request: 600 } });
  assert.deepEqual(found.map(({ level }) => level), ["ok", "warn"]);
  assert.match(found[1]!.fix!, /keys_per_request to 500/);
});

Deno.test("a device whose certificate another CA has issued, or that does not know this KME, is a failure", async () => {
  await using devices = await startTestDevices();
  await using others = await startTestDevices();
  const [one, two] = devices.addresses;
  const [wrongCa] = await lines(devices, { devices: [{ ...one, ca: others.addresses[0].ca }, two] });
  assert.match(wrongCa!.detail, /not trusted|issuer/i);
  assert.match(wrongCa!.fix!, /ca_cert_path/);
  devices.misbehave = () => ({ status: 401, json: { message: "who is this?" } });
  const [unknown] = await lines(devices);
  assert.match(unknown!.detail, /status 401: who is this\?/);
  assert.match(unknown!.fix!, /certificate/);
});
