/** Which of the shipped alerts fire for the metrics of a running KME, as `promtool` evaluates them. */
import assert from "node:assert/strict";
import { stringify } from "yaml";
import { makeTempDir } from "../harness/temp_dir.ts";

export const RULES = new URL("../../docs/alerts.yml", import.meta.url).pathname;

const TARGET = 'instance="kme-1",job="kme"';

/**
 * How a series gets from its value before the fault to that after it:
 * `step`: within the first minute; `ramp`: evenly until the end; `repeat`: a counter grows by the difference each minute.
 */
export type Shape = "step" | "ramp" | "repeat";

export interface Scrapes {
  /** Answers of `/metrics`; undefined: the KME does not answer. */
  readonly before: string | undefined;
  readonly after: string | undefined;
  readonly shape?: Shape;
  /** Minutes from the fault until the rules are looked at. */
  readonly minutes: number;
}

/** Names of the alerts that fire. */
export async function firing(promtool: string, { before, after, shape = "step", minutes }: Scrapes) {
  const now = Date.now() / 1000;
  const [first, last] = [before, after].map((text) => samplesOf(text, now));
  const series = [...new Set([...first!.keys(), ...last!.keys()])].map((name) => ({
    series: name,
    values: valuesOf(first!.get(name), last!.get(name), shape, minutes).join(" "),
  }));
  const expression = 'count by (alertname) (ALERTS{alertstate="firing"})';
  await using temp = await makeTempDir("kme-alerts-");
  const file = `${temp.path}/test.yml`;
  await Deno.writeTextFile(
    file,
    stringify({
      rule_files: [RULES],
      evaluation_interval: "1m",
      tests: [{
        interval: "1m",
        input_series: series,
        promql_expr_test: [{ expr: expression, eval_time: `${minutes}m`, exp_samples: [] }],
      }],
    }),
  );
  const { code, stdout, stderr } = await new Deno.Command(promtool, { args: ["test", "rules", file] })
    .output();
  const said = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  const names = [...said.matchAll(/alertname="(\w+)"/g)].map(([, name]) => name!);
  // It fails because nothing is expected, and says what is there instead.
  assert.equal(code === 0, names.length === 0, said);
  return new Set(names);
}

/** By name and labels. Times are relative to now, since promtool's clock starts at 0. */
function samplesOf(text: string | undefined, now: number): Map<string, number> {
  const samples = new Map([[`up{${TARGET}}`, text === undefined ? 0 : 1]]);
  for (const line of (text ?? "").split("\n")) {
    const found = /^([a-z0-9_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (found === null) continue;
    const [, name, labels, value] = found;
    const number = Number(value) - (/_timestamp_seconds$/.test(name!) ? now : 0);
    samples.set(`${name}{${labels === undefined ? "" : `${labels},`}${TARGET}}`, number);
  }
  return samples;
}

function valuesOf(
  before: number | undefined,
  after: number | undefined,
  shape: Shape,
  minutes: number,
): (number | "_")[] {
  return Array.from({ length: minutes + 1 }, (_, minute) => {
    if (minute === 0) return before ?? "_";
    if (after === undefined) return "_";
    const from = before ?? (shape === "step" ? after : 0);
    const part = { step: 1, ramp: minute / minutes, repeat: minute }[shape];
    return from + (after - from) * part;
  });
}
