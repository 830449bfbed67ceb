/** A chart of the rows that have a goal: how far each is reached. Plain SVG, for light and dark backgrounds. */
import type { BenchResults } from "./report.ts";
import { isReached, type Row } from "./row.ts";
import { round } from "./stats.ts";

const WIDTH = 900;
const ROW_HEIGHT = 44;
const TOP = 64;
const LEFT = 16;
/** Where a goal is reached, and where a bar ends at the latest: at twice the goal. */
const GOAL_X = 400;
const END_X = LEFT + 2 * (GOAL_X - LEFT);

const STYLE = `
text { font: 13px sans-serif; fill: #1f2328; }
.title { font-size: 16px; font-weight: bold; }
.pass { fill: #0969da; }
.miss { fill: #bc4c00; }
.goal { stroke: #1f2328; stroke-dasharray: 4 3; }
.paper { fill: #ffffff; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .pass { fill: #58a6ff; }
  .miss { fill: #f0883e; }
  .goal { stroke: #f0f6fc; }
  .paper { fill: #0d1117; }
}`;

/** @returns the text of an SVG file. */
export function drawChart({ at, machine, quick, rows }: BenchResults): string {
  const bars = rows.filter((row) => row.goal !== undefined);
  const height = TOP + bars.length * ROW_HEIGHT + 12;
  const about = `${at.slice(0, 10)}, ${machine.processors} processors, ${machine.os} ${machine.arch}, ` +
    `Deno ${machine.deno}${quick ? ", with --quick" : ""}`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img">
<title>How far the goals of deno task bench are reached</title>
<style>${STYLE}
</style>
<rect class="paper" width="${WIDTH}" height="${height}"/>
<text class="title" x="${LEFT}" y="24">How far each goal is reached</text>
<text x="${LEFT}" y="44">${escape(about)}. A bar that reaches the line reaches the goal.</text>
${bars.map((row, i) => barOf(row, TOP + i * ROW_HEIGHT)).join("\n")}
<line class="goal" x1="${GOAL_X}" y1="${TOP - 8}" x2="${GOAL_X}" y2="${height - 8}"/>
</svg>
`;
}

function barOf({ what, ratio, goal }: Row, y: number): string {
  const isAtLeast = "atLeast" in goal!;
  const limit = isAtLeast ? goal.atLeast : (goal as { atMost: number }).atMost;
  // For a goal of at most, a smaller ratio is the longer bar.
  const part = isAtLeast ? ratio.median / limit : limit / ratio.median;
  const width = Math.max(1, Math.min(part * (GOAL_X - LEFT), END_X - LEFT));
  const verdict = isReached(ratio, goal!) ? "pass" : "miss";
  const figures = `${round(ratio.median)} (goal ${isAtLeast ? "≥" : "≤"} ${limit}), ${verdict}`;
  return `<text x="${LEFT}" y="${y + 12}">${escape(what)}</text>
<rect class="${verdict}" x="${LEFT}" y="${y + 18}" width="${round(width)}" height="14"/>
<text x="${round(LEFT + width + 8)}" y="${y + 30}">${figures}</text>`;
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

if (import.meta.main) {
  const [results = "bench.json", file = "docs/performance.svg"] = Deno.args.filter((arg) => arg !== "--");
  Deno.writeTextFileSync(file, drawChart(JSON.parse(Deno.readTextFileSync(results))));
  console.log(`Written to ${file}.`);
}
