/** QKD devices that misbehave: nothing is in stock at one end only, and what is lost is counted. */
import assert from "node:assert/strict";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { parse } from "yaml";
import { findRecords } from "../../src/audit/find_records.ts";
import { eventually } from "../harness/eventually.ts";
import { PROJECT_ROOT } from "../harness/kme_process.ts";
import { assertSameKeys, keyIdsOf } from "../harness/sae_client.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { scrape } from "../metrics/scrape.ts";
import { stockOf } from "../sae_api/api_fixture.ts";
import { isCall, makeSite, once, TIMEOUT } from "./device_site.ts";

Deno.test("requests to a device are those of docs/openapi.yaml", async () => {
  const document = parse(await Deno.readTextFile(`${PROJECT_ROOT}docs/openapi.yaml`));
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  addFormats.default(ajv);
  ajv.addSchema(document, "openapi");
  await using site = await makeSite();
  await site.untilStocked(200);
  const seen = new Set<string>();
  for (const { method, path, headers, body } of site.devices.requests) {
    const name = path.split("/").at(-1)!;
    const template = `/api/v1/keys/{${name === "dec_keys" ? "master" : "slave"}_SAE_ID}/${name}`;
    const operation = document.paths[template]?.[method.toLowerCase()];
    assert.ok(operation !== undefined, `${method} ${path}`);
    seen.add(`${method} ${name}`);
    if (body === undefined) continue;
    assert.equal(headers["content-type"], "application/json");
    const schema = name === "enc_keys" ? "KeyRequest" : "KeyIDs";
    const check = ajv.getSchema(`openapi#/components/schemas/${schema}`)!;
    assert.ok(check(body), ajv.errorsText(check.errors));
    assert.deepEqual(
      Object.keys(body as object).sort(),
      name === "enc_keys" ? ["number", "size"] : ["key_IDs"],
    );
  }
  assert.deepEqual([...seen].sort(), ["GET status", "POST dec_keys", "POST enc_keys"]);
  const { blocks } = (await site.close())[0];
  assert.equal(blocks.size, 200);
});

Deno.test("keys of 576 bits are cut into two blocks, and the rest is counted", async () => {
  await using site = await makeSite(undefined, { source: { key_size: 576 } });
  await site.untilStocked(200);
  const text = await (await fetch(`http://127.0.0.1:${site.network.kme(1).consolePort}/metrics`)).text();
  assert.equal(scrape(text).of("kme_device_rest_bits_total")['kme="2"'], 64 * 100);
  await site.close();
});

Deno.test("with direction both, each end asks its own device", async () => {
  // The first end must not fill the stock before the other one asks.
  const asked = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  await using site = await makeSite(async (request, right) => {
    for (const device of [0, 1] as const) {
      if (!isCall(device, "enc_keys")(request)) continue;
      asked[device]!.resolve();
      await asked[1 - device]!.promise;
    }
    return right();
  }, { source: { direction: "both" } });
  for (const kme of [1, 2] as const) {
    assert.equal((await site.device(kme)).asks, true);
  }
  await eventually(() => site.devices.requests.some(isCall(0, "enc_keys")), TIMEOUT);
  await eventually(() => site.devices.requests.some(isCall(1, "enc_keys")), TIMEOUT);
  // Both may have fetched for the same need.
  await site.untilSettled(200);
  const stock = await stockOf(site.network.client(1), 2);
  assert.ok(stock <= 400, String(stock));
  await site.close();
});

Deno.test("a device refuses some of the key_IDs: only those are lost", async () => {
  let missing: string | undefined;
  await using site = await makeSite((request, right) => {
    if (!isCall(1, "dec_keys")(request)) return right();
    const ids = (request.body as { key_IDs: { key_ID: string }[] }).key_IDs.map(({ key_ID }) => key_ID);
    missing ??= ids[3];
    return ids.includes(missing!) ? { status: 400, json: { message: "not found" } } : right();
  });
  await eventually(async () => (await site.lost(1)).unconfirmed === 1, TIMEOUT);
  await site.untilSettled(199);
  assert.deepEqual(await site.lost(1), { unconfirmed: 1 });
  assert.deepEqual(await site.lost(2), { refused: 1 });
  await site.close();
});

Deno.test("a device that does not have a key yet is asked again until it has it", async () => {
  await using site = await makeSite(
    once(isCall(1, "dec_keys"), { status: 400, json: { message: "not found" } }),
  );
  await site.untilStocked(200);
  assert.deepEqual(await site.lost(2), {});
  await site.close();
});

Deno.test("a slow device does not make the other KME unreachable, and its keys are ingested in the end", async () => {
  let slow = true;
  await using site = await makeSite(async (request, right) => {
    // Longer than KME 2 lets KME 1 wait, which is half of inter_kme_timeout_seconds.
    if (slow && isCall(1, "dec_keys")(request)) await new Promise((resolve) => setTimeout(resolve, 2500));
    return right();
  });
  await eventually(() => site.devices.requests.some(isCall(1, "dec_keys")), TIMEOUT);
  slow = false;
  await site.untilStocked(200);
  const status = await (await fetch(`http://127.0.0.1:${site.network.kme(1).consolePort}/status`)).json();
  // KME 1 may have looked for KME 2 before that was started.
  assert.match(String(status.peers[0].lastError), /^(null|connection refused)$/);
  assert.deepEqual([await site.lost(1), await site.lost(2)], [{}, {}]);
  await site.close();
});

Deno.test("a device that is down at one end: keys wait until it is back, and no more are requested", async () => {
  let down = true;
  await using site = await makeSite((request, right) => down && request.device === 1 ? "cut" : right());
  await eventually(
    async () => (await site.device(1)).unconfirmed > 0 && (await site.device(1)).problem,
    TIMEOUT,
  );
  await eventually(async () => (await site.device(2)).up === false, TIMEOUT);
  const asked = () => site.devices.requests.filter(isCall(0, "enc_keys")).length;
  const before = asked();
  assert.ok(before <= 3, `${before} requests`);
  assert.equal(await stockOf(site.network.client(1), 2), 0);
  assert.equal(await stockOf(site.network.client(2), 1), 0);
  down = false;
  await site.untilStocked(200);
  await eventually(async () => (await site.device(1)).problem === null, TIMEOUT);
  await site.close();
});

Deno.test("a batch that is never decided does not keep other keys from coming, nor the device from being polled", async () => {
  let missing: string | undefined;
  let broken = true;
  await using site = await makeSite((request, right) => {
    if (!isCall(1, "dec_keys")(request)) return right();
    const ids = (request.body as { key_IDs: { key_ID: string }[] }).key_IDs.map(({ key_ID }) => key_ID);
    missing ??= ids[0]!;
    return broken && ids.includes(missing) ? { status: 500, json: { message: "out of order" } } : right();
  }, { source: { keys_per_request: 50 } });
  // 50 of 200 are undecided.
  await site.untilStocked(150);
  const polls = () => site.devices.requests.filter(isCall(0, "status")).length;
  const before = polls();
  await eventually(() => polls() > before + 1, { what: "polls of the device", ...TIMEOUT });
  for (let time = 0; time < 2; time++) {
    const enc = await site.network.client(1).encKeys(2, { number: 60 });
    assertSameKeys(await site.network.client(2).decKeys(1, keyIdsOf(enc)), enc);
  }
  // 30 were left, which is below low_stock.
  await site.untilStocked(150);
  assert.match((await site.device(1)).problem, /out of order/);
  assert.equal((await site.device(1)).unconfirmed, 50);
  broken = false;
  await site.untilStocked(200);
  assert.deepEqual([await site.lost(1), await site.lost(2)], [{}, {}]);
  await site.close();
});

Deno.test("a device that gives no keys is asked again later, not at once", async () => {
  let empty = true;
  await using site = await makeSite((request, right) => {
    const answer = right();
    if (empty && isCall(0, "enc_keys")(request)) answer.json.keys.length = 0;
    return answer;
  });
  await eventually(async () => /gave no keys/.test((await site.device(1)).problem ?? ""), TIMEOUT);
  empty = false;
  await site.untilStocked(200);
  await site.close();
});

Deno.test("a device gives fewer keys than were requested", async () => {
  await using site = await makeSite((request, right) => {
    const answer = right();
    if (isCall(0, "enc_keys")(request)) answer.json.keys.length = Math.min(answer.json.keys.length, 7);
    return answer;
  });
  await site.untilStocked(200);
  assert.deepEqual([await site.lost(1), await site.lost(2)], [{}, {}]);
  await site.close();
});

Deno.test("a device gives a key twice: it is in stock once", async () => {
  let earlier: unknown;
  let answers = 0;
  await using site = await makeSite((request, right) => {
    const answer = right();
    if (!isCall(0, "enc_keys")(request) || answers++ > 2) return answer;
    const { keys } = answer.json;
    // Within an answer, and under another key_ID in a later one.
    if (earlier === undefined) keys[1] = keys[0];
    else keys[0] = { ...keys[0], key: (earlier as { key: string }).key };
    earlier = keys[0];
    return answer;
  }, { source: { keys_per_request: 50 } });
  await eventually(async () => await stockOf(site.network.client(1), 2) > 100, TIMEOUT);
  await eventually(async () => (await site.lost(1)).repeated! >= 2, TIMEOUT);
  // Fetching ends there.
  await site.untilSettled(200);
  await site.close();
});

Deno.test("many odd keys in an answer: as many as were requested are counted, with one record for the answer", async () => {
  await using directory = await makeTempDir();
  let answers = 0;
  const odd = (number: number) =>
    Array.from({ length: number }, () => ({ key_ID: crypto.randomUUID(), key: btoa("for tests only") }));
  await using site = await makeSite((request, right) => {
    const answer = right();
    if (!isCall(0, "enc_keys")(request)) return answer;
    answers++;
    if (answers === 1) answer.json.keys = odd(1000);
    else if (answers === 2) answer.json.keys.push(...odd(1000));
    return answer;
  }, {
    source: { keys_per_request: 200 },
    prepare: (network) =>
      network.writeConfig(1, ({ this_kme }) => {
        this_kme.audit_log = { directory: directory.path };
      }),
  });
  await site.untilStocked(200);
  // 200 were requested each time.
  assert.deepEqual(await site.lost(1), { size: 201 + 1 });
  await site.close();
  const found = await Array.fromAsync(findRecords(directory.path, { kind: "ingestion" }));
  const records = found.map(({ line }) => JSON.parse(line)).filter(({ outcome }) => outcome === "lost");
  assert.deepEqual(records.map(({ lost, reason }) => [lost, reason]), [[201, "size"], [1, "size"]]);
});

Deno.test("the two devices give different bits: the keys are lost, and requests become rare", async () => {
  await using site = await makeSite((request, right) => {
    const answer = right();
    if (isCall(1, "dec_keys")(request) && answer.status === 200) {
      for (const key of answer.json.keys) key.key = crypto.getRandomValues(new Uint8Array(32)).toBase64();
    }
    return answer;
  });
  await eventually(async () => (await site.lost(1)).unconfirmed! >= 200, TIMEOUT);
  await eventually(async () => /different bits/.test((await site.device(1)).problem), TIMEOUT);
  assert.ok((await site.lost(2)).different! >= 200);
  assert.equal(await stockOf(site.network.client(1), 2), 0);
  const asked = () => site.devices.requests.filter(isCall(0, "enc_keys")).length;
  assert.ok(asked() < 30, `${asked()} requests`);
  await eventually(async () => (await site.device(1)).unconfirmed === 0, TIMEOUT);
});

Deno.test("keys that do not look random are not used", async () => {
  await using site = await makeSite((request, right) => {
    const answer = right();
    if (!isCall(0, "enc_keys")(request)) return answer;
    for (const key of answer.json.keys) {
      key.key = crypto.getRandomValues(new Uint8Array(32)).map((byte) => byte & 1).toBase64();
    }
    return answer;
  });
  await eventually(async () => (await site.lost(1)).unhealthy! >= 100, TIMEOUT);
  await eventually(async () => /do not look random/.test((await site.device(1)).problem), TIMEOUT);
  assert.equal(await stockOf(site.network.client(1), 2), 0);
  assert.equal(site.devices.agreed, 0);
  const { blocks } = (await site.close())[0];
  assert.equal(blocks.size, 0);
});

Deno.test("the answer of a device is lost, cut off or no key container: what it may have cost is counted", async () => {
  let turn = 0;
  await using site = await makeSite((request, right) => {
    if (!isCall(0, "enc_keys")(request)) return right();
    switch (turn++) {
      case 0:
        return "cut";
      case 1:
        return { status: 200, json: { keys: [{ key_ID: 7, key: "no base64" }] } };
      case 2:
        return { status: 500, json: { message: "out of order" } };
      default:
        return right();
    }
  }, { source: { keys_per_request: 100 } });
  await site.untilStocked(200);
  const { unanswered, ...others } = await site.lost(1);
  assert.ok(unanswered! >= 200, String(unanswered));
  assert.deepEqual(others, {});
  await site.close();
});
