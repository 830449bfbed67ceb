/** `answer_repeat_seconds`: an SAE fetches a key again whose answer it has lost. */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { runKme } from "../harness/kme_process.ts";
import { ledgerOf } from "../harness/ledger_queries.ts";
import { type DeliveredKey, keyIdsOf, keysOf, type SaeResponse } from "../harness/sae_client.ts";
import { eventually } from "../harness/eventually.ts";
import { scrape } from "../metrics/scrape.ts";
import { SkipClient, skipKeyOf } from "../skip_api/skip_fixture.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { assertProblem, oneKmeWith, startNetwork, stockOf } from "./api_fixture.ts";

const NOT_FOUND = "one or more keys specified are not found on KME";

/** Fails, without showing a key, unless the answer has exactly these keys. */
function assertKeys(response: SaeResponse, ...expected: DeliveredKey[]): void {
  assert.ok(JSON.stringify(keysOf(response)) === JSON.stringify(expected), "other keys");
}

Deno.test("a key is given again to the same SAE with the same certificate, and to no other", async (t) => {
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, saes: [1, 4] }, {
      id: 2,
      saes: [3, 5],
      database: "sqlite",
      skip: true,
      console: true,
      options: { answer_repeat_seconds: 300, audit_log: { directory: "audit" } },
    }],
  });
  const directory = `${network.kme(2).directory}/audit`;
  await Deno.mkdir(directory);
  await network.writeKeyFile(1, 2, 20);
  let [, two] = await network.startAll();
  await eventually(async () => await stockOf(network.client(1), 3) === 20);
  const slave = network.client(3);
  const [key, other] = keysOf(await network.client(1).encKeys(3, { number: 2 }));
  const [shared] = keysOf(await network.client(1).encKeys(3, { size: 320, additional_slave_SAE_IDs: ["5"] }));
  const certificate = new X509Certificate(network.sae(3).cert).fingerprint256.replaceAll(":", "")
    .toLowerCase();

  await t.step("the first time, and again", async () => {
    for (let i = 0; i < 3; i++) assertKeys(await slave.decKeys(1, key!.key_ID), key!);
  });
  await t.step("by SKIP", async () => {
    const keyId = key!.key_ID.replaceAll("-", "");
    const skip = skipKeyOf(await new SkipClient(network, 3).keyById(keyId, 1));
    assert.ok(Uint8Array.fromHex(skip.key).toBase64() === key!.key, "another key");
  });
  await t.step("together with a key that was not fetched yet", async () => {
    assertKeys(await slave.decKeys(1, [other!.key_ID, key!.key_ID]), other!, key!);
  });
  await t.step("not to another SAE, and not from another master", async () => {
    assertProblem(await network.client(5).decKeys(1, key!.key_ID), 401);
    assertProblem(await slave.decKeys(4, key!.key_ID), 400, NOT_FOUND);
  });
  await t.step("each slave of a key by itself", async () => {
    assertKeys(await slave.decKeys(1, shared!.key_ID), shared!);
    assertKeys(await network.client(5).decKeys(1, shared!.key_ID), shared!);
    for (const sae of [3, 5]) assertKeys(await network.client(sae).decKeys(1, shared!.key_ID), shared!);
  });
  await t.step("the counts", async () => {
    const metrics = scrape(
      await (await fetch(`http://127.0.0.1:${network.kme(2).consolePort}/metrics`)).text(),
    );
    assert.deepEqual(
      ["kme_keys_collected_total", "kme_keys_repeated_total"].map((name) => metrics.value(name)),
      [4, 6],
    );
  });
  await t.step("after the KME was killed", async () => {
    await two!.kill();
    two = await network.start(2);
    assertKeys(await slave.decKeys(1, key!.key_ID), key!);
  });
  await t.step("not with another certificate of the same SAE", async () => {
    const renewed = await network.issueClient(2, { commonName: "SAE 3 renewed" });
    const fingerprint = new X509Certificate(renewed.cert).fingerprint256;
    await two!.kill();
    await network.writeConfig(2, ({ saes }) => {
      const sae = saes.find(({ id }) => id === 3)!;
      delete sae.https_client_certificate_serial;
      sae.certificates = [{ fingerprint_sha256: certificate }, { fingerprint_sha256: fingerprint }];
    });
    two = await network.start(2);
    const again = network.client(3, renewed);
    assertProblem(await again.decKeys(1, key!.key_ID), 400, NOT_FOUND);
    assertKeys(await slave.decKeys(1, key!.key_ID), key!);
    assert.equal(await two!.stop(), 0);
  });
  await t.step("the audit log has a record of each repetition", async () => {
    const { code, stdout } = await runKme(["audit", "show", directory, "--key-id", key!.key_ID, "--json"]);
    assert.equal(code, 0);
    const fetches = stdout.trim().split("\n").map((line) => JSON.parse(line)).filter(({ kind }) =>
      kind === "fetch"
    );
    // A process does not know what was recorded before it was started.
    assert.deepEqual(fetches.map(({ outcome }) => outcome), [
      undefined,
      ...Array(4).fill("repeated"),
      ...Array(2).fill("perhaps repeated"),
    ]);
    for (const { sae, master, key_IDs, certificate: recorded } of fetches) {
      assert.deepEqual([sae, master, key_IDs, recorded], ["3", "1", [key!.key_ID], certificate]);
    }
    const mixed = await runKme(["audit", "show", directory, "--key-id", other!.key_ID, "--json"]);
    const [first] = mixed.stdout.trim().split("\n").map((line) => JSON.parse(line)).filter(({ kind }) =>
      kind === "fetch"
    );
    assert.deepEqual([first.key_IDs, first.outcome], [[other!.key_ID], undefined]);
  });
  await t.step("not after kme burn, as after an old backup", async () => {
    assert.ok(ledgerOf(network.kme(2)).keys.some(({ keyId, hasBits }) => keyId === key!.key_ID && hasBits));
    const burnt = await runKme(["burn", network.kme(2).configPath, "--yes"]);
    assert.match(burnt.stdout + burnt.stderr, /\b0 (waiting )?keys/);
    await network.start(2);
    assertProblem(await slave.decKeys(1, key!.key_ID), 400, NOT_FOUND);
  });
});

Deno.test("the bits of a key are kept for the time in which it may be fetched again, and not longer", async () => {
  await using network = await startNetwork(oneKmeWith({ answer_repeat_seconds: 3 }, "sqlite"), [1, 1, 4]);
  const [one] = network.processes;
  const slave = network.client(2);
  const request = { additional_slave_SAE_IDs: ["4"] };
  const [key] = keysOf(await network.client(1).encKeys(2));
  const [half] = keysOf(await network.client(1).encKeys(2, request));
  for (let i = 0; i < 2; i++) assertKeys(await slave.decKeys(1, [key!.key_ID, half!.key_ID]), key!, half!);
  await eventually(async () => (await slave.decKeys(1, key!.key_ID)).status === 400, { what: "the end" });
  // The other slave has not read this one, but this slave's time is over.
  assertProblem(await slave.decKeys(1, half!.key_ID), 400, NOT_FOUND);
  assert.equal(await one!.stop(), 0);
  // The next start erases what the last process has left.
  const next = await network.start(1);
  for (let i = 0; i < 2; i++) assertKeys(await network.client(4).decKeys(1, half!.key_ID), half!);
  await next.kill();
  const bits = () =>
    Object.fromEntries(ledgerOf(network.kme(1)).keys.map(({ keyId, hasBits }) => [keyId, hasBits]));
  assert.deepEqual(bits(), { [key!.key_ID]: false, [half!.key_ID]: true });
  await network.writeConfig(1, ({ this_kme }) => delete this_kme.answer_repeat_seconds);
  const last = await network.start(1);
  assertProblem(await network.client(4).decKeys(1, half!.key_ID), 400, NOT_FOUND);
  assert.equal(await last.stop(), 0);
  assert.deepEqual(bits(), { [key!.key_ID]: false, [half!.key_ID]: false });
});

Deno.test("a key that is fetched again does not count as another waiting key that was fetched", async () => {
  const spec = oneKmeWith({ answer_repeat_seconds: 300 });
  await using network = await startNetwork({
    ...spec,
    edit: ({ saes }) => saes.find(({ id }) => id === 1)!.max_waiting_keys = 2,
  }, [1, 1, 9]);
  const master = network.client(1);
  const [first] = keyIdsOf(await master.encKeys(2, { number: 2 }));
  for (let i = 0; i < 5; i++) assert.equal((await network.client(2).decKeys(1, first!)).status, 200);
  assertProblem(await master.encKeys(2, { number: 2 }), 503);
  assert.equal((await master.encKeys(2)).status, 200);
  assertProblem(await master.encKeys(2), 503);
});
