/**
 * `local_SAE_id` or `remote_SAE_id` is wrong at the end of a link that fetches keys of the other end's device: the operator sees it at both
 * ends, and nothing is in stock at one end only.
 */
import assert from "node:assert/strict";
import { check } from "../../src/check/run_checks.ts";
import { eventually } from "../harness/eventually.ts";
import type { Misbehaviour } from "../harness/test_device.ts";
import { scrape } from "../metrics/scrape.ts";
import { stockOf } from "../sae_api/api_fixture.ts";
import { isCall, makeSite, type Site, TIMEOUT } from "./device_site.ts";

/** What log, metrics, status and console of a KME say. */
async function untilSeen({ network, processes }: Site, kme: 1 | 2, what: RegExp): Promise<void> {
  await processes[kme - 1]!.waitForLine(new RegExp(`give no keys: .*${what.source}`), TIMEOUT.timeout);
  const url = `http://127.0.0.1:${network.kme(kme).consolePort}`;
  await eventually(async () => {
    const { delivery: { problems }, links } = await (await fetch(`${url}/status`)).json();
    assert.match(links[1].device.problem, what);
    assert.ok(
      problems.some((problem: { what: string }) => what.test(problem.what)),
      JSON.stringify(problems),
    );
    const samples = scrape(await (await fetch(`${url}/metrics`)).text()).of("kme_device_problem");
    assert.deepEqual(Object.values(samples), [1]);
    return true;
  }, { what: `KME ${kme} says ${what}`, ...TIMEOUT });
}

/** What `kme check` says of the device. */
async function checked({ network }: Site, kme: 1 | 2) {
  return (await check(network.kme(kme).configPath)).filter(({ what }) => what === "other_kmes[0].key_source");
}

async function assertNothingInStock({ network }: Site): Promise<void> {
  assert.deepEqual([await stockOf(network.client(1), 2), await stockOf(network.client(2), 1)], [0, 0]);
}

/** Starts KME 2 with the right ids. */
async function correct({ network, processes }: Site): Promise<void> {
  await processes[1]!.stop();
  await network.writeConfig(2, ({ other_kmes }) => {
    Object.assign(other_kmes[0]!.key_source, { local_SAE_id: 202, remote_SAE_id: 201 });
  });
  processes[1] = await network.start(2);
}

const CASES: readonly {
  readonly what: string;
  readonly source: Record<string, unknown>;
  readonly problem: RegExp;
  readonly fix: RegExp;
}[] = [
  {
    what: "a remote_SAE_id that the device does not know",
    source: { remote_SAE_id: 9 },
    problem: /status 400: no such SAE/,
    fix: /remote_SAE_id/,
  },
  {
    what: "a local_SAE_id that is not the one of the certificate",
    source: { local_SAE_id: 7 },
    problem: /knows this KME as SAE 202, not 7/,
    fix: /local_SAE_id/,
  },
];

for (const { what, source, problem, fix } of CASES) {
  Deno.test(`${what}: keys wait until it is corrected, and none is lost`, async () => {
    await using site = await makeSite(undefined, { sourceOf: { 2: source } });
    const { devices } = site;
    await untilSeen(site, 2, problem);
    await untilSeen(site, 1, problem);
    const [line, ...more] = await checked(site, 2);
    assert.deepEqual([line!.level, more.length], ["fail", 0]);
    assert.match(line!.detail, problem);
    assert.match(line!.fix!, fix);
    assert.deepEqual((await checked(site, 1)).map(({ level }) => level), ["ok"]);
    await assertNothingInStock(site);
    assert.deepEqual([await site.lost(1), await site.lost(2)], [{}, {}]);
    const asked = (device: 0 | 1, name: string) => devices.requests.filter(isCall(device, name)).length;
    assert.ok(asked(0, "enc_keys") <= 3, `${asked(0, "enc_keys")} requests`);
    assert.equal(asked(1, "dec_keys"), 0);

    await correct(site);
    await site.untilStocked(200);
    await eventually(async () => (await site.device(1)).problem === null, TIMEOUT);
    assert.deepEqual([await site.lost(1), await site.lost(2)], [{}, {}]);
    await site.close();
  });
}

Deno.test("the remote_SAE_id of another SAE that the device knows: the keys are lost and counted, and requests become rare", async () => {
  // This device says in its status neither whom it knows nor of whom it is.
  const silent: Misbehaviour = ({ device, path }, right) => {
    const name = path.split("/").at(-1)!;
    if (device === 1 && path.includes("/keys/9/")) {
      return name === "status"
        ? { status: 200, json: { stored_key_count: 0 } }
        : { status: 400, json: { message: "one or more keys specified are not found on KME" } };
    }
    return right();
  };
  await using site = await makeSite(silent, {
    source: { keys_per_request: 20, target_stock: 60, low_stock: 30 },
    sourceOf: { 2: { remote_SAE_id: 9 } },
  });
  const { devices } = site;
  await eventually(async () => (await site.lost(1)).unconfirmed! >= 60, TIMEOUT);
  await untilSeen(site, 1, /does not have some of the keys/);
  await assertNothingInStock(site);
  const asked = devices.requests.filter(isCall(0, "enc_keys")).length;
  assert.ok(asked < 30, `${asked} requests`);
  // The device answers, and KME 2 cannot know that it is asked for keys of others.
  assert.deepEqual((await checked(site, 2)).map(({ level }) => level), ["ok"]);
  await eventually(async () => {
    assert.equal((await site.lost(1)).unconfirmed, (await site.lost(2)).refused);
    return true;
  }, TIMEOUT);

  await correct(site);
  await site.untilSettled(60);
  await site.close();
});
