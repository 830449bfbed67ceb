/** Questions of the other KME about keys of this KME's QKD device. */
import assert from "node:assert/strict";
import { blockKeyId } from "../../src/domain/block.ts";
import { type DeviceKey, MAX_DEVICE_BLOCKS } from "../../src/domain/device_keys.ts";
import { BlockPresence } from "../../src/domain/stock_questions.ts";
import { MAX_LOST } from "../../src/ingest/device_receiver.ts";
import { formatDeviceKeysQuestion, readDeviceKeysAnswer } from "../../src/inter_kme/device_key_messages.ts";
import { makeDeviceNetwork } from "../harness/device_network.ts";
import { ledgerOf } from "../harness/ledger_queries.ts";
import { type Misbehaviour, startTestDevices } from "../harness/test_device.ts";
import { KmeCaller } from "../inter_kme/rust_kme.ts";
import { stockOf } from "../sae_api/api_fixture.ts";

/** KME 2 with its device; the test plays KME 1. */
async function makeSite(misbehave: Misbehaviour) {
  await using opened = new AsyncDisposableStack();
  const devices = opened.use(await startTestDevices());
  devices.misbehave = misbehave;
  const network = opened.use(await makeDeviceNetwork({ devices: devices.addresses }));
  const process = await network.start(2);
  const caller = opened.use(new KmeCaller(network, 2, network.kme(1).interKmeClient));
  const kept = opened.move();
  return {
    network,
    process,
    ask: async (keys: DeviceKey[]) => {
      const body = formatDeviceKeysQuestion("1", { keys });
      const { status, text } = await caller.raw("POST", "/kme/v1/device-keys", body);
      assert.equal(status, 200, text);
      return readDeviceKeysAnswer(text)!;
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

function makeKeys(number: number): (DeviceKey & { readonly bits: Uint8Array })[] {
  return Array.from({ length: number }, () => {
    const bits = crypto.getRandomValues(new Uint8Array(32));
    return { id: crypto.randomUUID(), blocks: [blockKeyId(bits)], bits };
  });
}

function askedFor(body: unknown): string[] {
  return (body as { key_IDs: { key_ID: string }[] }).key_IDs.map(({ key_ID }) => key_ID);
}

Deno.test("two questions at the same time that begin with the same key get an answer of their own", async () => {
  const keys = makeKeys(3);
  const [a, b, c] = [keys[0]!, keys[1]!, keys[2]!];
  const bits = new Map(keys.map(({ id, bits }) => [id, bits.toBase64()]));
  const second = Promise.withResolvers<void>();
  await using site = await makeSite(async ({ path, body }, right) => {
    if (!path.endsWith("/dec_keys")) return right();
    const ids = askedFor(body);
    // The first question is still being answered when the second one comes.
    if (ids.includes(c.id)) second.resolve();
    else await Promise.race([second.promise, new Promise((resolve) => setTimeout(resolve, 2000))]);
    return { status: 200, json: { keys: ids.map((key_ID) => ({ key_ID, key: bits.get(key_ID) })) } };
  });
  const [first, other] = await Promise.all([site.ask([a, b]), site.ask([a, c])]);
  const held = [BlockPresence.held, BlockPresence.held];
  assert.deepEqual([[...first.presence], [...other.presence]], [held, held]);
  assert.equal(await stockOf(site.network.client(2), 1), 3);
});

Deno.test("a device that refuses every key of a question is asked a limited number of times", async () => {
  let requests = 0;
  await using site = await makeSite(({ path }, right) => {
    if (!path.endsWith("/dec_keys")) return right();
    requests++;
    return { status: 400, json: { message: "not found" } };
  });
  const { presence, reason } = await site.ask(makeKeys(400));
  assert.deepEqual(new Set(presence), new Set([BlockPresence.absent]));
  assert.match(reason!, /the device/);
  assert.ok(requests <= 64, `${requests} requests`);
});

Deno.test("a neighbour that names blocks that never were does not fill the database, and keys still come", async () => {
  const honest = makeKeys(2);
  const bits = new Map(honest.map(({ id, bits }) => [id, bits.toBase64()]));
  await using site = await makeSite(({ path, body }, right) => {
    if (!path.endsWith("/dec_keys")) return right();
    const other = crypto.getRandomValues(new Uint8Array(32)).toBase64();
    const keys = askedFor(body).map((key_ID) => ({ key_ID, key: bits.get(key_ID) ?? other }));
    return { status: 200, json: { keys } };
  });
  assert.deepEqual([...(await site.ask(honest.slice(0, 1))).presence], [BlockPresence.held]);
  const ask = async () => {
    // The device has the key, but not these blocks.
    const blocks = Array.from(
      { length: MAX_DEVICE_BLOCKS },
      () => crypto.getRandomValues(new Uint8Array(16)),
    );
    const { presence } = await site.ask([{ id: crypto.randomUUID(), blocks }]);
    assert.deepEqual(new Set(presence), new Set([BlockPresence.gone]));
    assert.equal(presence.length, blocks.length);
  };
  for (let i = 0; i < MAX_LOST / MAX_DEVICE_BLOCKS; i++) await ask();
  await Promise.all(Array.from({ length: 4 }, ask));
  assert.deepEqual([...(await site.ask(honest.slice(1))).presence], [BlockPresence.held]);
  assert.equal(await stockOf(site.network.client(2), 1), 2);
  assert.equal(await site.process.stop(), 0);
  const { seen, blocks } = ledgerOf(site.network.kme(2));
  assert.equal(blocks.size, 2);
  assert.ok(seen.size <= MAX_LOST + 4, `${seen.size} blocks are remembered`);
  const warning = /KME 1 has named too many blocks that are not of the device/;
  assert.ok(site.process.lines.some((line) => warning.test(line)), "no warning");
});
