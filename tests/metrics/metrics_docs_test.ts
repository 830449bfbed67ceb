/** Compares what the documents say of the metrics with what a KME serves. */
import assert from "node:assert/strict";
import { serve } from "../console/served.ts";
import { type Samples, scrape } from "./scrape.ts";

const read = (name: string) => Deno.readTextFile(new URL(`../../docs/${name}`, import.meta.url));

/** The metrics of a KME in which everything that can be counted has happened. */
async function everyMetric(): Promise<{ text: string; samples: Samples }> {
  await using served = await serve();
  const { watch, world } = served;
  served.stocks.set("2", { state: { link: "2", blocks: 0, files: [] } });
  watch.counts.crls.set("kme", { problems: 0, nextUpdate: Date.now() });
  watch.keys.delivered("2", 1);
  watch.keys.activated("2", 1);
  watch.keys.limited("1", "max_waiting_keys");
  watch.keys.blocksRefused("2", 1, ["a.cor"]);
  const caller = { caller: "SAE 1", request: "GET /", message: "for a test" };
  watch.requests("sae").refused({ status: 400, reason: "invalid", ...caller });
  watch.requests("sae").answered("enc_keys", 5);
  watch.activation("2", "activated", 5);
  watch.counts.ingestion.get("2")!.last = { at: new Date(), file: "a.cor" };
  watch.hasDevice("2");
  world.devices = [{
    link: "2",
    device: "qkd1.example:443",
    up: true,
    stock: 5,
    asks: true,
    lastMinute: 0,
    unconfirmed: 0,
  }];
  world.health = { up: true, since: new Date() };
  const text = await (await fetch(`${served.origin}/metrics`)).text();
  return { text, samples: scrape(text) };
}

function namesIn(text: string): Set<string> {
  // Units and functions do not have these prefixes.
  return new Set(text.match(/\b(?:kme|process)_[a-z0-9_]+\b/g));
}

/** The series of a histogram have names with suffixes. */
function familyOf(name: string, samples: Samples): string {
  const whole = name.replace(/_(bucket|sum|count)$/, "");
  return samples.families.get(whole) === "histogram" ? whole : name;
}

for (const document of ["metrics.md", "alerts.yml", "grafana-dashboard.json"]) {
  Deno.test(`each metric that docs/${document} names exists`, async () => {
    const { samples } = await everyMetric();
    const names = [...namesIn(await read(document))];
    assert.ok(names.length > 10, names.join());
    assert.deepEqual(names.filter((name) => !samples.families.has(familyOf(name, samples))), []);
  });
}

Deno.test("docs/metrics.md has every metric of the KME, with its type and labels", async () => {
  const { text, samples } = await everyMetric();
  const rows = [
    ...(await read("metrics.md")).matchAll(/^\| `(kme_[a-z0-9_]+)` \| (\w+) \|([^|]*)\| [^|]+\|$/gm),
  ]
    .map((
      [, name, type, labels],
    ) => [name!, type!, [...labels!.matchAll(/`(\w+)`/g)].map(([, label]) => label!)]);
  const actual = [...samples.families].filter(([name]) => name.startsWith("kme_")).map(([name, type]) => {
    const sample = new RegExp(`^${name}(?:_count)?\\{(.*)\\} `, "m").exec(text)?.[1] ?? "";
    return [name, type, [...sample.matchAll(/(\w+)="/g)].map(([, label]) => label!)];
  });
  const byName = (a: unknown[], b: unknown[]) => String(a[0]) < String(b[0]) ? -1 : 1;
  assert.deepEqual(rows.toSorted(byName), actual.toSorted(byName));
});

Deno.test("the reasons and outcomes that the dashboard and the rules select are documented", async () => {
  const markdown = await read("metrics.md");
  const selected = [...`${await read("alerts.yml")}${await read("grafana-dashboard.json")}`.matchAll(
    /\{[^}"]*(?:reason|outcome)=\\?"(\w+)/g,
  )].map(([, value]) => value!);
  assert.ok(selected.length > 0);
  for (const value of selected) assert.ok(markdown.includes(`\`${value}\``), value);
});

Deno.test("the dashboard is JSON whose panels do not overlap", async () => {
  const { panels } = JSON.parse(await read("grafana-dashboard.json"));
  const taken = new Set<string>();
  for (const { gridPos: { x, y, w, h }, title, targets } of panels) {
    assert.ok(x + w <= 24 && targets.length > 0, title);
    for (let column = x; column < x + w; column++) {
      for (let row = y; row < y + h; row++) {
        assert.ok(!taken.has(`${column} ${row}`), title);
        taken.add(`${column} ${row}`);
      }
    }
  }
});

Deno.test("docs/metrics.md lists every alert with its severity", async () => {
  const rules = [...(await read("alerts.yml")).matchAll(/- alert: (\w+)[\s\S]*?severity: (\w+)/g)]
    .map(([, alert, severity]) => [alert, severity]);
  const rows = [...(await read("metrics.md")).matchAll(/^\| `(Kme\w+)` \| (\w+) \|/gm)]
    .map(([, alert, severity]) => [alert, severity]);
  assert.ok(rules.length > 10);
  assert.deepEqual(rows, rules);
});
