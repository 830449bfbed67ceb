/** The two ends of a link are configured so that neither requests keys from its device, or both do: each end sees it. */
import assert from "node:assert/strict";
import { check } from "../../src/check/run_checks.ts";
import { eventually } from "../harness/eventually.ts";
import { scrape } from "../metrics/scrape.ts";
import { stockOf } from "../sae_api/api_fixture.ts";
import { isCall, makeSite, type Site, TIMEOUT } from "./device_site.ts";

/** What `kme check --peers` says of the two devices. */
async function checked({ network }: Site, kme: 1 | 2) {
  const lines = await check(network.kme(kme).configPath, { peers: true });
  return lines.filter(({ what }) => /^KME \d: QKD device$/.test(what));
}

async function problemMetric({ network }: Site, kme: 1 | 2): Promise<number[]> {
  const url = `http://127.0.0.1:${network.kme(kme).consolePort}/metrics`;
  return Object.values(scrape(await (await fetch(url)).text()).of("kme_device_problem"));
}

const requests = ({ devices }: Site, device: 0 | 1) =>
  devices.requests.filter(isCall(device, "enc_keys")).length;

Deno.test("direction other at both ends: log, status, metric and check of each say that no keys come", async () => {
  await using site = await makeSite(undefined, { source: { direction: "other" } });
  const { network, processes } = site;
  for (const kme of [1, 2] as const) {
    await processes[kme - 1]!.waitForLine(/give no keys: neither end requests keys/, TIMEOUT.timeout);
    await eventually(async () => /neither end/.test((await site.device(kme)).problem ?? ""), TIMEOUT);
    assert.deepEqual(await problemMetric(site, kme), [1]);
    const [line, ...more] = await checked(site, kme);
    assert.deepEqual([line!.level, more], ["fail", []]);
    assert.match(line!.fix!, /direction: "this" at one end/);
  }
  assert.deepEqual([requests(site, 0), requests(site, 1)], [0, 0]);

  await processes[0]!.stop();
  await network.writeConfig(1, ({ other_kmes }) => {
    other_kmes[0]!.key_source.direction = "this";
  });
  processes[0] = await network.start(1);
  await site.untilStocked(200);
  // KME 2 has asked again, although it was told before.
  for (const kme of [1, 2] as const) {
    await eventually(async () => (await site.device(kme)).problem === null, TIMEOUT);
    const [line] = await checked(site, kme);
    assert.equal(line!.level, "ok");
    assert.match(line!.detail, kme === 1 ? /this KME requests keys/ : /KME 1 requests keys/);
  }
  await site.close();
});

Deno.test("direction this at both ends: a warning in the log and in check of each, and keys come", async () => {
  await using site = await makeSite(undefined, { source: { direction: "this" } });
  for (const kme of [1, 2] as const) {
    await site.processes[kme - 1]!.waitForLine(
      /WARN.*both ends request keys from the devices/i,
      TIMEOUT.timeout,
    );
    const [line, ...more] = await checked(site, kme);
    assert.deepEqual([line!.level, more], ["warn", []]);
    assert.match(line!.fix!, /direction: "both" at both ends/);
  }
  await site.untilSettled(200);
  for (const kme of [1, 2] as const) {
    assert.deepEqual(await problemMetric(site, kme), [0]);
    assert.deepEqual(await site.lost(kme), {});
  }
  await site.close();
});

Deno.test("no key_source at the other end: no keys are requested, and each end sees why", async () => {
  await using site = await makeSite(undefined, {
    directories: true,
    prepare: (network) =>
      network.writeConfig(2, ({ other_kmes }) => {
        delete other_kmes[0]!.key_source;
      }),
  });
  await site.processes[0]!.waitForLine(/give no keys: KME 2 has no key_source/, TIMEOUT.timeout);
  const [line] = await checked(site, 1);
  assert.equal(line!.level, "fail");
  assert.match(line!.detail, /KME 2 has no key_source for the link/);
  const [other] = await checked(site, 2);
  assert.equal(other!.level, "warn");
  assert.match(other!.detail, /KME 1 has a key_source for the link with this KME, which has none/);
  assert.equal(await stockOf(site.network.client(1), 2), 0);
});

Deno.test("without a direction, and with both at both ends, check finds nothing wrong", async () => {
  for (const source of [{}, { direction: "both" }]) {
    await using site = await makeSite(undefined, { source });
    for (const kme of [1, 2] as const) {
      assert.deepEqual((await checked(site, kme)).map(({ level }) => level), ["ok"]);
    }
    await site.untilSettled(200);
    assert.ok(!site.processes.some(({ lines }) => lines.some((line) => /direction/.test(line))));
  }
});

Deno.test("keys that were not confirmed before a restart are confirmed, also if the end requests none any more", async () => {
  let broken = true;
  await using site = await makeSite((request, right) =>
    broken && isCall(1, "dec_keys")(request) ? { status: 500, json: { message: "out of order" } } : right()
  );
  const { network, processes } = site;
  await eventually(async () => /out of order/.test((await site.device(1)).problem ?? ""), TIMEOUT);
  await eventually(async () => (await site.device(1)).unconfirmed === 200, TIMEOUT);
  await processes[0]!.stop();
  await network.writeConfig(1, ({ other_kmes }) => {
    other_kmes[0]!.key_source.direction = "other";
  });
  processes[0] = await network.start(1);
  await eventually(async () => (await site.device(1)).unconfirmed === 200, {
    what: "the state shows what is not confirmed",
    ...TIMEOUT,
  });
  assert.equal((await site.device(1)).asks, false);
  broken = false;
  await site.untilStocked(200);
  assert.deepEqual([await site.lost(1), await site.lost(2)], [{}, {}]);
  await site.close();
});
