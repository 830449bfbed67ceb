/** What a running KME records, and that no key leaves it without a record. */
import assert from "node:assert/strict";
import { eventually } from "../harness/eventually.ts";
import { runKme } from "../harness/kme_process.ts";
import { keyIdsOf, keysOf } from "../harness/sae_client.ts";
import { makeTestNetwork, type NetworkSpec, type TestNetwork } from "../harness/test_network.ts";
import { allIngested } from "../harness/key_files.ts";
import { SkipClient, skipKeyOf, toUuid, twoSkipKmes } from "../skip_api/skip_fixture.ts";
import { assertProblem, unknownKeyId } from "../sae_api/api_fixture.ts";
import { linesIn, problemsOf } from "./audit_fixture.ts";
import { findRecords } from "../../src/audit/find_records.ts";
import { fullDiskTest } from "../store/full_disk.ts";
import { verifyAudit } from "../../src/audit/verify_audit.ts";

// deno-lint-ignore no-explicit-any
type Entry = Record<string, any>;

const directoryOf = (network: TestNetwork, kme: number | string) => `${network.kme(kme).directory}/audit`;

function recordsOf(network: TestNetwork, kme: number | string): Entry[] {
  const directory = directoryOf(network, kme);
  return [...Deno.readDirSync(directory)].map(({ name }) => name).filter((name) => name.endsWith(".jsonl"))
    .sort()
    .flatMap((name) => linesIn(Deno.readFileSync(`${directory}/${name}`)).map((line) => JSON.parse(line)));
}

/** Networks in which each KME has an audit log. */
async function audited(spec: NetworkSpec): Promise<TestNetwork> {
  const network = await makeTestNetwork(spec);
  for (const { id } of spec.kmes) {
    await Deno.mkdir(directoryOf(network, String(id)));
    await network.writeConfig(id, ({ this_kme }) => {
      this_kme.audit_log = { directory: directoryOf(network, String(id)) };
    });
  }
  return network;
}

const two: NetworkSpec = {
  kmes: [
    { id: 1, saes: [1, 2], database: "sqlite", console: true },
    { id: 2, saes: [3], database: "sqlite", options: { key_lifetime_seconds: 2 } },
  ],
};

const ready = async (network: TestNetwork) => {
  const answer = await fetch(`http://127.0.0.1:${network.kme(1).consolePort}/health/ready`);
  return { status: answer.status, ...await answer.json() };
};

Deno.test("each delivered key is recorded with its receiver and without its bits", async (t) => {
  await using network = await audited(two);
  await network.writeKeyFile(1, 2, 8);
  await network.writeKeyFile(1, 1, 8);
  const [one, other] = await network.startAll();
  const keys = keysOf(await network.client(1).encKeys(3, { number: 2 }));
  const ids = keys.map(({ key_ID }) => key_ID);
  const composed = keyIdsOf(await network.client(2).encKeys(1, { size: 320 }));
  assert.equal((await network.client(3).decKeys(1, ids[0]!)).status, 200);
  assertProblem(await network.client(3).decKeys(1, unknownKeyId()), 400);
  assertProblem(await network.client(1).encKeys(3, { number: 100 }), 503);
  await other!.waitForLine(/1 keys expired unread/);
  assert.equal(await one!.stop(), 0);
  assert.equal(await other!.stop(), 0);

  const [first, second] = [recordsOf(network, 1), recordsOf(network, 2)];
  const { fingerprint256 } = new (await import("node:crypto")).X509Certificate(network.sae(1).cert);
  const certificate = fingerprint256.replaceAll(":", "").toLowerCase();

  await t.step("the delivery", () => {
    const [delivery, own] = first.filter(({ kind }) => kind === "delivery");
    const { master, slaves, size, key_IDs, address } = delivery!;
    assert.deepEqual({ master, slaves, size, key_IDs }, {
      master: "1",
      slaves: ["3"],
      size: 256,
      key_IDs: ids,
    });
    assert.equal(delivery!.certificate, certificate);
    assert.match(address, /^127\.0\.0\.1:\d+$/);
    assert.deepEqual([own!.master, own!.slaves, own!.size, own!.key_IDs], ["2", ["1"], 320, composed]);
  });
  await t.step("the transaction, at both ends", () => {
    for (const [records, direction, kme] of [[first, "sent", "2"], [second, "received", "1"]] as const) {
      const [transaction] = records.filter(({ kind }) => kind === "transaction");
      assert.equal(transaction!.direction, direction);
      assert.equal(transaction!.kme, kme);
      assert.equal(transaction!.outcome, "activated");
      assert.deepEqual(transaction!.key_IDs, ids);
    }
    const [sent, received] = [first, second].map((records) =>
      records.find(({ kind }) => kind === "transaction")!.transaction
    );
    assert.equal(sent, received);
  });
  await t.step("the fetch, the refusals and the expiry", () => {
    const [fetch] = second.filter(({ kind }) => kind === "fetch");
    assert.deepEqual([fetch!.sae, fetch!.master, fetch!.key_IDs], ["3", "1", [ids[0]]]);
    const [unknown] = second.filter(({ kind }) => kind === "refusal");
    assert.deepEqual([unknown!.caller, unknown!.status, unknown!.reason], ["SAE 3", 400, "invalid"]);
    const [shortage] = first.filter(({ kind }) => kind === "refusal");
    assert.deepEqual([shortage!.caller, shortage!.status, shortage!.reason], ["SAE 1", 503, "out_of_keys"]);
    assert.equal(shortage!.request, "GET /api/v1/keys/3/enc_keys");
    const expired = second.filter(({ kind }) => kind === "expiry").flatMap(({ key_IDs }) => key_IDs);
    assert.deepEqual(expired, [ids[1]]);
  });
  await t.step("start, ingestion and stop", () => {
    for (const records of [first, second]) {
      assert.deepEqual(records.slice(0, 2).map(({ kind }) => kind), ["file", "start"]);
      assert.equal(records.at(-1)!.kind, "stop");
      assert.ok(
        records.some(({ kind, outcome, stored }) =>
          kind === "ingestion" && outcome === "ingested" && stored === 8
        ),
      );
    }
  });
  await t.step("the log is whole and holds no bits", async () => {
    for (const kme of [1, 2]) {
      assert.deepEqual((await verifyAudit({ directory: directoryOf(network, kme) })).findings, []);
      const text = JSON.stringify(recordsOf(network, kme));
      for (const { key } of keys) {
        assert.ok(!text.includes(key));
        assert.ok(!text.includes(Uint8Array.fromBase64(key).toHex()));
      }
    }
  });
  await t.step("kme audit finds what was asked for", async () => {
    const directory = directoryOf(network, 2);
    const audit = async (...args: string[]) => {
      const { code, stdout } = await runKme(["audit", ...args]);
      return { code, lines: stdout.trimEnd().split("\n") };
    };
    const shown = await audit("show", directory, "--key-id", ids[0]!.toUpperCase());
    assert.equal(shown.code, 0);
    assert.deepEqual(shown.lines.map((line) => line.split(" ")[2]), ["transaction", "fetch"]);
    const json = await audit("show", directory, "--sae", "3", "--kind", "refusal", "--json");
    assert.deepEqual(json.lines.map((line) => JSON.parse(line).kind), ["refusal"]);
    assert.deepEqual((await audit("show", directory, "--until", "2000-01-01T00:00:00Z")).lines, [""]);
    const head = await audit("head", directory);
    const [chain, sequence, hash] = head.lines[0]!.split(" ");
    assert.deepEqual([chain, sequence], ["1", String(second.length)]);
    const good = await audit("verify", directory, "--head", hash!);
    assert.equal(good.code, 0, good.lines.join("\n"));
    assert.match(good.lines.at(-1)!, /^whole, with every head/);
    const bad = await audit("verify", directory, "--head", `${hash},${"0".repeat(64)}`);
    assert.equal(bad.code, 1);
    assert.match(bad.lines[0]!, /^PROBLEM no record has the hash 0{64}/);
    for (
      const wrong of [["verify"], ["prove", directory], ["head", directory, "--json"], [
        "verify",
        directory,
        "--head",
        "x",
      ]]
    ) {
      assert.equal((await audit(...wrong)).code, 2, wrong.join(" "));
    }
    assert.equal((await audit("verify", network.kme(1).directory)).code, 2);
  });
});

Deno.test("while the audit log cannot be written no key is delivered, and none is consumed", async () => {
  await using network = await audited(two);
  await network.writeKeyFile(1, 2, 8);
  await network.writeKeyFile(1, 1, 8);
  const [process] = await network.startAll();
  const [sae, remote] = [network.client(1), network.client(3)];
  const [key] = keyIdsOf(await sae.encKeys(2));
  // As when a file system is unmounted.
  await Deno.rename(directoryOf(network, 1), `${directoryOf(network, 1)}-away`);
  await eventually(async () => (await ready(network)).status === 503, { what: "not ready", timeout: 30_000 });
  assert.match((await ready(network)).reason, /^the audit log cannot be written: /);
  const refused = /^the audit log cannot be written$/;
  assertProblem(await sae.encKeys(2), 503, refused);
  assertProblem(await sae.encKeys(3), 503, refused);
  assertProblem(await network.client(2).decKeys(1, key!), 503, refused);
  // The keys of the other KME's SAE would have to be recorded here.
  assertProblem(await remote.encKeys(1), 503);
  const metrics = await (await fetch(`http://127.0.0.1:${network.kme(1).consolePort}/metrics`)).text();
  assert.match(metrics, /^kme_audit_writable 0$/m);
  assert.match(metrics, /^kme_requests_refused_total\{.*reason="audit".*\} 3$/m);
  await process!.waitForLine(/the audit log cannot be written, so no key is given out: /);
  await Deno.rename(`${directoryOf(network, 1)}-away`, directoryOf(network, 1));
  await eventually(async () => (await ready(network)).status === 200, {
    what: "ready again",
    timeout: 30_000,
  });
  assert.deepEqual(keyIdsOf(await network.client(2).decKeys(1, key!)), [key]);
  assert.equal((await sae.status(2)).json.stored_key_count, 7);
  assert.equal((await sae.status(3)).json.stored_key_count, 8);
  assert.equal((await sae.encKeys(3)).status, 200);
  await process!.stop();
  const found = await verifyAudit({ directory: directoryOf(network, 1) });
  assert.deepEqual(problemsOf(found), []);
  const records = recordsOf(network, 1);
  const gap = records.findIndex(({ kind }) => kind === "gap");
  assert.ok(gap > 0);
  assert.equal(
    records.slice(gap).filter(({ kind, reason }) => kind === "refusal" && reason === "audit").length,
    3,
  );
});

fullDiskTest("a key whose record meets a full disk does not leave the KME", 4, async (disk) => {
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, saes: [1, 2], database: "sqlite" }],
    edit: ({ this_kme }) => this_kme.audit_log = { directory: disk.path },
  });
  await network.writeKeyFile(1, 1, 2000);
  const process = await network.start(1);
  const client = network.client(1);
  await disk.fill();
  // The KME looks at the disk once a second; until then a write has to fail. What fits into the last page is recorded.
  const given: string[] = [];
  for (let refused = 0; refused === 0;) {
    const answers = await Promise.all(Array.from({ length: 20 }, () => client.encKeys(2, { number: 5 })));
    for (const answer of answers) {
      if (answer.status === 200) given.push(...keyIdsOf(answer));
      else {
        assertProblem(answer, 503, /^the audit log cannot be written$/);
        refused++;
      }
    }
  }
  await disk.empty();
  await eventually(async () => (await client.encKeys(2)).status === 200, { timeout: 30_000 });
  await process.stop();
  const recorded = new Set<string>();
  for await (const { record } of findRecords(disk.path, { kind: "delivery" })) {
    for (const id of record.content.key_IDs as string[]) recorded.add(id);
  }
  assert.deepEqual(given.filter((id) => !recorded.has(id)), []);
  assert.deepEqual(problemsOf(await verifyAudit({ directory: disk.path })), []);
});

fullDiskTest("keys that the database fails to deliver are recorded as not delivered", 4, async (disk) => {
  await using network = await audited({
    kmes: [{ id: 1, saes: [1, 2], database: `sqlite://${disk.path}/kme.db` }],
  });
  await network.writeKeyFile(1, 1, 500);
  const process = await network.start(1);
  const client = network.client(1);
  assertProblem(await client.encKeys(2, { number: 30, size: 17 * 256 }), 503);
  await disk.fill();
  const given: string[] = [];
  for (let refused = 0; refused === 0;) {
    for (const answer of await Promise.all(Array.from({ length: 20 }, () => client.encKeys(2)))) {
      if (answer.status === 200) given.push(...keyIdsOf(answer));
      else refused++;
    }
  }
  await process.stop();
  const idsOf = (kind: string) =>
    recordsOf(network, 1).filter((record) => record.kind === kind).flatMap(({ key_IDs }) => key_IDs);
  const [recorded, undelivered] = [idsOf("delivery"), idsOf("undelivered")];
  // Of the request that found too few keys nothing was recorded.
  assert.ok(recorded.length <= given.length + 20, `${recorded.length} recorded, ${given.length} given`);
  assert.ok(undelivered.length > 0);
  assert.deepEqual(recorded.filter((id) => !undelivered.includes(id)).sort(), given.sort());
  assert.deepEqual(problemsOf(await verifyAudit({ directory: directoryOf(network, 1) })), []);
});

Deno.test("a KME whose audit log cannot be written does not start", async () => {
  await using network = await audited({ kmes: [{ id: 1, saes: [1, 2] }] });
  const { configPath } = network.kme(1);
  await Deno.mkdir(`${directoryOf(network, 1)}/audit-1.lock`);
  const { code, stderr } = await runKme(["start", configPath]);
  assert.equal(code, 1, stderr);
  assert.match(stderr, /the audit log in .* cannot be written/);
});

Deno.test("commands and reloads are recorded", async () => {
  await using network = await audited({ kmes: [{ id: 1, saes: [1, 2], database: "sqlite" }] });
  await network.writeKeyFile(1, 1, 5);
  const { configPath } = network.kme(1);
  const process = await network.start(1);
  process.signal("SIGHUP");
  await process.waitForLine(/was reloaded/);
  const right = Deno.readTextFileSync(configPath);
  Deno.writeTextFileSync(configPath, "{");
  process.signal("SIGHUP");
  await process.waitForLine(/was not reloaded/);
  await process.stop();
  Deno.writeTextFileSync(configPath, right);
  assert.equal((await runKme(["burn", configPath])).code, 0);
  assert.equal((await runKme(["burn", configPath, "--yes"])).code, 0);
  const key = `${network.kme(1).directory}/store.key`;
  Deno.writeFileSync(key, crypto.getRandomValues(new Uint8Array(32)), { mode: 0o600 });
  await network.writeConfig(1, ({ this_kme }) => this_kme.store_encryption = { key_file: key });
  const rekeyed = await runKme(["store", "rekey", configPath]);
  assert.equal(rekeyed.code, 0, rekeyed.stderr);
  const records = recordsOf(network, 1);
  const reloads = records.filter(({ kind }) => kind === "reload");
  assert.deepEqual(reloads.map(({ outcome }) => outcome), ["applied", "refused"]);
  const commands = records.filter(({ kind }) => kind === "command");
  assert.deepEqual(commands.map(({ outcome }) => outcome), ["begun", "done", "begun", "done"]);
  assert.match(commands[0]!.command, /^burn .*config\.json5 --yes$/);
  assert.match(commands[3]!.command, /^store rekey .*config\.json5$/);
  assert.equal(commands[1]!.details, "5 blocks, 0 keys");
  assert.deepEqual((await verifyAudit({ directory: directoryOf(network, 1) })).findings, []);
});

Deno.test("a client that is refused again and again has few records", async () => {
  await using network = await audited({ kmes: [{ id: 1, saes: [1, 2] }] });
  const process = await network.start(1);
  const client = network.client(1);
  for (let i = 0; i < 30; i++) {
    await Promise.all(Array.from({ length: 10 }, () => client.encKeys(77)));
  }
  await process.stop();
  const refusals = recordsOf(network, 1).filter(({ kind }) => kind === "refusal");
  assert.equal(refusals.length + refusals.reduce((sum, { more = 0 }) => sum + more, 0), 300);
  const seconds = new Set(refusals.map(({ time }) => time.slice(0, 19))).size;
  assert.ok(refusals.length <= 21 * (seconds + 1), `${refusals.length} in ${seconds} s`);
});

Deno.test("keys by SKIP are recorded as those by ETSI GS QKD 014", async () => {
  const [one, other] = twoSkipKmes.kmes;
  await using network = await audited({ kmes: [one!, other!] });
  await network.writeKeyFile(1, 2, 8);
  const processes = await network.startAll();
  for (const { keyDirectories } of [network.kme(1), network.kme(2)]) {
    await allIngested(keyDirectories.values());
  }
  const { keyId } = skipKeyOf(await new SkipClient(network, 1).newKey(3, 128), 128);
  skipKeyOf(await new SkipClient(network, 3).keyById(keyId, 1), 128);
  assertProblem(await new SkipClient(network, 3).keyById(keyId, 1), 400);
  for (const process of processes) assert.equal(await process.stop(), 0);

  const key_IDs = [toUuid(keyId)];
  const of = (kme: number, wanted: string) => recordsOf(network, kme).filter(({ kind }) => kind === wanted);
  const [delivery] = of(1, "delivery");
  assert.deepEqual([delivery!.master, delivery!.slaves, delivery!.size, delivery!.key_IDs], [
    "1",
    ["3"],
    128,
    key_IDs,
  ]);
  const fetched = of(2, "fetch");
  assert.deepEqual(fetched.map((record) => [record.sae, record.master, record.key_IDs]), [[
    "3",
    "1",
    key_IDs,
  ]]);
  const [refusal] = of(2, "refusal");
  assert.deepEqual([refusal!.interface, refusal!.status], ["skip", 400]);
});
