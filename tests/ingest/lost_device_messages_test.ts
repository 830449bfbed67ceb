/**
 * The message about keys of QKD devices, or its answer, is lost between the KMEs: afterwards both ends have the same stock, no key was
 * given twice, and what is lost is counted.
 */
import assert from "node:assert/strict";
import { type CuttingProxy, type ProxyMode, startCuttingProxy } from "../durability/cutting_proxy.ts";
import { eventually } from "../harness/eventually.ts";
import { freePort } from "../harness/free_port.ts";
import { assertSameKeys, type DeliveredKey, keyIdsOf } from "../harness/sae_client.ts";
import type { Misbehaviour } from "../harness/test_device.ts";
import { stockOf } from "../sae_api/api_fixture.ts";
import { isCall, makeSite, type Site, TIMEOUT } from "./device_site.ts";

/** Keys that the devices can give in all. */
const AT_DEVICES = 100_000;

/** When the fault begins: KME 2 works on the message, or KME 1 has not sent it yet. */
type When = "received" | "not sent";

const CASES: readonly (readonly [ProxyMode, When, string])[] = [
  ["lose answers", "received", "the connection is cut before the answer"],
  ["hold answers", "received", "the answer comes when KME 1 does not wait any more"],
  ["down", "received", "the connection is closed before the answer, and new ones too"],
  ["lose requests", "not sent", "the connection is cut before the message has arrived"],
  ["hold requests", "not sent", "the message arrives long after it was repeated"],
  ["down", "not sent", "there is no connection"],
];

interface Setting extends AsyncDisposable {
  readonly site: Site;
  readonly proxy: CuttingProxy;
}

/** KME 1 reaches KME 2 through the proxy only; KME 2 reaches KME 1 directly. */
async function makeSetting(misbehave: (proxy: CuttingProxy) => Misbehaviour): Promise<Setting> {
  await using opened = new AsyncDisposableStack();
  const port = freePort();
  let proxy: CuttingProxy | undefined;
  const site = opened.use(
    await makeSite((request, right) => misbehave(proxy!)(request, right), {
      options: { inter_kme_timeout_seconds: 2 },
      prepare: async (network) => {
        proxy = opened.use(await startCuttingProxy(network.kme(2).kmesPort, port));
        await network.redirect(1, 2, port);
      },
    }),
  );
  const kept = opened.move();
  return { site, proxy: proxy!, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

/** New keys of one SAE, read by the other one. */
async function deliver({ network }: Site, master: number, slave: number, number: number) {
  const enc = await eventually(async () => {
    const answer = await network.client(master).encKeys(slave, { number });
    assert.equal(answer.status, 200, answer.text);
    return answer;
  }, { what: `keys of SAE ${master} for SAE ${slave}`, ...TIMEOUT });
  assertSameKeys(await network.client(slave).decKeys(master, keyIdsOf(enc)), enc);
  return enc.json.keys as DeliveredKey[];
}

for (const [mode, when, what] of CASES) {
  Deno.test(`${mode}, ${when}: ${what}`, async () => {
    let begun = false;
    await using setting = await makeSetting((proxy) => async (request, right) => {
      const call = when === "received" ? isCall(1, "dec_keys") : isCall(0, "enc_keys");
      if (!begun && call(request)) {
        begun = true;
        await proxy.setMode(mode);
      }
      return right();
    });
    const { site, proxy } = setting;
    const { network, devices } = site;
    await eventually(async () => {
      const { unconfirmed, problem } = await site.device(1);
      return unconfirmed > 0 && problem !== null;
    }, { what: "KME 1 has no answer", ...TIMEOUT });
    assert.equal(await stockOf(network.client(1), 2), 0);
    const delivered: DeliveredKey[] = [];
    if (when === "received") {
      await eventually(async () => await stockOf(network.client(2), 1) > 0, {
        what: "KME 2 has keys",
        ...TIMEOUT,
      });
      // What KME 2 has is no loss, although KME 1 does not know that.
      delivered.push(...await deliver(site, 2, 1, 10));
    } else assert.equal(await stockOf(network.client(2), 1), 0);

    await proxy.setMode(mode === "hold requests" ? "pass new" : "pass");
    await site.untilSettled(100);
    await proxy.setMode("pass");
    delivered.push(...await deliver(site, 1, 2, 10), ...await deliver(site, 2, 1, 10));
    await site.untilSettled(100);
    assert.deepEqual([await site.lost(1), await site.lost(2)], [{}, {}]);
    await eventually(async () => (await site.device(1)).problem === null, TIMEOUT);
    assert.equal(new Set(delivered.map(({ key }) => key)).size, delivered.length);
    const [{ blocks }] = await site.close();
    assert.equal(blocks.size + delivered.length, AT_DEVICES - devices.stock);
  });
}

Deno.test("the answer that some of the keys will never come is lost: they are counted once at each end", async () => {
  let missing: string | undefined;
  let refusals = 0;
  await using setting = await makeSetting((proxy) => async (request, right) => {
    if (!isCall(1, "dec_keys")(request)) return right();
    const ids = (request.body as { key_IDs: { key_ID: string }[] }).key_IDs.map(({ key_ID }) => key_ID);
    missing ??= ids[3]!;
    if (!ids.includes(missing)) return right();
    // A refusal is believed the second time.
    if (ids.length === 1 && ++refusals === 2) await proxy.setMode("lose answers");
    return { status: 400, json: { message: "not found" } };
  });
  const { site, proxy } = setting;
  await eventually(async () => (await site.lost(2)).refused === 1, {
    what: "KME 2 gives the key up",
    ...TIMEOUT,
  });
  await eventually(async () => (await site.device(1)).problem !== null, TIMEOUT);
  assert.deepEqual(await site.lost(1), {});
  await proxy.setMode("pass");
  await eventually(async () => (await site.lost(1)).unconfirmed === 1, TIMEOUT);
  await site.untilSettled(199);
  assert.deepEqual([await site.lost(1), await site.lost(2)], [{ unconfirmed: 1 }, { refused: 1 }]);
  const [{ blocks }] = await site.close();
  assert.equal(blocks.size + 1, AT_DEVICES - site.devices.stock);
});
