/** Ready means that this KME can hand out keys. */
import assert from "node:assert/strict";
import { eventually } from "../harness/eventually.ts";
import { keyIdsOf } from "../harness/sae_client.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { scrape } from "../metrics/scrape.ts";

Deno.test("a KME whose key directory is gone is not ready, and says which", async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1], console: true }] });
  await network.start(1);
  const origin = `http://127.0.0.1:${network.kme(1).consolePort}`;
  const ready = async () => await (await fetch(`${origin}/health/ready`)).json();
  assert.deepEqual(await ready(), { ready: true, reason: null });
  const directory = network.kme(1).keyDirectories.get("1")!;
  await Deno.rename(directory, `${directory}-moved`);
  await eventually(async () => !(await ready()).ready, { what: "not ready" });
  assert.match(
    (await ready()).reason,
    new RegExp(`^the key directory ${directory} cannot be read: .*no such file`, "i"),
  );
  assert.equal(scrape(await (await fetch(`${origin}/metrics`)).text()).value("kme_ready"), 0);
  const status = await (await fetch(`${origin}/status`)).json();
  assert.equal(status.delivery.problems[0].what, status.reason);
  await Deno.rename(`${directory}-moved`, directory);
  await eventually(async () => (await ready()).ready, { what: "ready again" });
});

Deno.test("a refused key file is a problem until it is gone", async () => {
  await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1], console: true }] });
  await network.start(1);
  const origin = `http://127.0.0.1:${network.kme(1).consolePort}`;
  const problems = async (): Promise<string[]> => {
    const { delivery } = await (await fetch(`${origin}/status`)).json();
    return delivery.problems.map(({ what }: { what: string }) => what);
  };
  await network.writeKeyFile(1, 1, new Uint8Array(3200), { name: "zeros.cor" });
  const isRefused = (what: string) =>
    /^key file zeros\.cor of .* was not ingested: does not look random/.test(what);
  await eventually(async () => (await problems()).some(isRefused), { what: "a problem" });
  const incidents = await (await fetch(`${origin}/incidents`)).json();
  assert.deepEqual(incidents.map(({ kind }: { kind: string }) => kind), ["key files"]);
  await Deno.remove(`${network.kme(1).keyDirectories.get("1")}/zeros.cor`);
  await eventually(async () => !(await problems()).some(isRefused), { what: "no problem", timeout: 20_000 });
});

Deno.test({
  name: "a reload's outcome is a metric and an incident",
  ignore: Deno.build.os === "windows",
  fn: async () => {
    await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1], console: true }] });
    const kme = await network.start(1);
    const origin = `http://127.0.0.1:${network.kme(1).consolePort}`;
    const reloads = async () =>
      scrape(await (await fetch(`${origin}/metrics`)).text()).of("kme_reloads_total");
    assert.deepEqual(await reloads(), { 'outcome="applied"': 0, 'outcome="refused"': 0 });
    kme.signal("SIGHUP");
    await eventually(async () => (await reloads())['outcome="applied"'] === 1);
    await network.writeConfig(1, (config) => {
      (config.this_kme as unknown as Record<string, unknown>).max_key_count = "many";
    });
    kme.signal("SIGHUP");
    await eventually(async () => (await reloads())['outcome="refused"'] === 1);
    const incidents = await (await fetch(`${origin}/incidents`)).json();
    assert.deepEqual(incidents.map(({ kind, severity }: Record<string, string>) => [kind, severity]), [
      ["reload", "info"],
      ["reload", "error"],
    ]);
    assert.match(incidents[1].message, /^the configuration was not reloaded: .*max_key_count/);
  },
});

Deno.test("the history of the console survives a restart beside a database file", async () => {
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, saes: [1, 2, 4], console: true, database: "sqlite" }, { id: 2, saes: [3] }],
  });
  await network.writeKeyFile(1, 1, 20);
  await network.writeKeyFile(1, 2, 20);
  const [kme] = await network.startAll();
  const origin = `http://127.0.0.1:${network.kme(1).consolePort}`;
  const ids = keyIdsOf(await network.client(1).encKeys(2, { number: 7 }));
  assert.equal((await network.client(2).decKeys(1, ids.slice(0, 1))).status, 200);
  assert.equal((await network.client(1).encKeys(3)).status, 200);
  assert.equal((await network.client(1).encKeys(2, { number: 0 })).status, 400);
  const begin = async () => {
    const response = await fetch(`${origin}/events`);
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    while (!text.includes("\n\n")) text += (await reader.read()).value;
    await reader.cancel();
    return JSON.parse(text.slice(text.indexOf("data: ") + 6, text.indexOf("\n\n")));
  };
  const total = (points: { delivered: number }[]) =>
    points.reduce((sum, { delivered }) => sum + delivered, 0);
  const all = (count: number) => async () => {
    const { fine } = await begin();
    return total(fine) === count && fine;
  };
  const before = await eventually(all(8), { what: "eight keys", timeout: 20_000 });
  await kme!.stop();
  await network.start(1);
  const after = await begin();
  assert.equal(total(after.fine), 8);
  // How long each request and activation took, as counts by duration.
  type Measured = "enc_keys" | "dec_keys" | "activation";
  const durations = (points: { durations: Record<Measured, [bucket: number, count: number][]> }[]) =>
    (["enc_keys", "dec_keys", "activation"] as const).map((measured) =>
      points.flatMap((point) => point.durations[measured])
    );
  assert.deepEqual(durations(after.fine).map((buckets) => buckets.reduce((sum, [, n]) => sum + n, 0)), [
    2,
    1,
    1,
  ]);
  assert.deepEqual(durations(after.fine), durations(before));
  const refused = after.incidents.filter(({ kind }: { kind: string }) => kind === "refused request");
  assert.deepEqual(refused.map(({ count }: { count: number }) => count), [1]);
  const { saes } = await (await fetch(`${origin}/status`)).json();
  assert.ok(saes[0].lastSeen !== null && saes[1].lastSeen !== null && saes[2].lastSeen === null);
});
