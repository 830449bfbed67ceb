import assert from "node:assert/strict";
import { drawChart } from "./chart.ts";
import { rowOf } from "./row.ts";

Deno.test("the chart has a bar for each row with a goal, as long as the goal is reached", () => {
  const svg = drawChart({
    at: "2026-01-02T03:04:05.000Z",
    machine: { os: "linux", arch: "x86_64", processors: 2, deno: "2.9.6" },
    quick: false,
    rounds: 1,
    times: { seconds: 1, warmup: 1 },
    minutes: 1,
    rows: [
      rowOf("a & <b>", "requests/s", [50], [100], { atLeast: 0.5 }),
      rowOf("half", "requests/s", [25], [100], { atLeast: 0.5 }),
      rowOf("slow", "ms", [16], [8], { atMost: 1 }),
      rowOf("far beyond", "keys/s", [100], [1], { atLeast: 10 }),
      rowOf("no goal", "ms", [1], [1]),
    ],
  });
  const bars = [...svg.matchAll(/<rect class="(pass|miss)" x="16" y="\d+" width="([\d.]+)"/g)];
  assert.deepEqual(bars.map(([, verdict, width]) => [verdict, Number(width)]), [
    ["pass", 384],
    ["miss", 192],
    ["miss", 192],
    ["pass", 768],
  ]);
  assert.match(svg, />a &amp; &lt;b&gt;</);
  assert.match(svg, /2 \(goal ≤ 1\), miss/);
  assert.match(svg, /2026-01-02, 2 processors/);
  assert.ok(!svg.includes("no goal") && svg.includes("prefers-color-scheme: dark"));
});
