/** Small line charts of the last hour. */
import { makeSvg } from "./elements.js";

const HOUR = 3_600_000;
const WIDTH = 360;
/** Two points that are further apart are not joined: nobody looked in between. */
const GAP = 60_000;

/**
 * An empty chart; {@linkcode draw} fills it.
 *
 * @param headroom pixels above the upper edge's line, for its label.
 */
export function makeChart(height, className, headroom = 1) {
  const area = makeSvg("path", { class: "area" });
  const line = makeSvg("path", { class: "line" });
  const svg = makeSvg(
    "svg",
    { class: className, viewBox: `0 0 ${WIDTH} ${height}`, preserveAspectRatio: "none", role: "img" },
    makeSvg("path", { class: "grid", d: `${quarters(height)}M0 ${headroom}H${WIDTH}` }),
    area,
    line,
  );
  return { svg, area, line, height, headroom };
}

/**
 * @param points `[milliseconds since 1970, value or null]`, oldest first.
 * @param top value of the upper edge.
 * @param label the chart in words.
 */
export function draw(chart, points, top, now, label) {
  const { svg, area, line, height, headroom } = chart;
  const x = (at) => round(WIDTH * (1 - (now - at) / HOUR));
  const y = (value) => round(height - 1 - (height - 1 - headroom) * Math.min(1, value / (top || 1)));
  const runs = runsOf(points.filter(([at]) => now - at <= HOUR));
  line.setAttribute(
    "d",
    runs.map((run) => `M${run.map(([at, value]) => `${x(at)} ${y(value)}`).join("L")}`).join(""),
  );
  area.setAttribute(
    "d",
    runs.map((run) =>
      `M${x(run[0][0])} ${height}L${run.map(([at, value]) => `${x(at)} ${y(value)}`).join("L")}L${
        x(run.at(-1)[0])
      } ${height}Z`
    ).join(""),
  );
  if (svg.getAttribute("aria-label") !== label) svg.setAttribute("aria-label", label);
}

/** Upper edge for a highest value: 1, 2 or 5 times a power of ten. */
export function niceTop(highest) {
  if (highest <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(highest));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((factor) => factor * power).find((top) => top >= highest);
}

function runsOf(points) {
  const runs = [];
  let run = [];
  for (const [at, value] of points) {
    if (value === null || (run.length > 0 && at - run.at(-1)[0] > GAP)) {
      if (run.length > 0) runs.push(run);
      run = [];
    }
    if (value !== null) run.push([at, value]);
  }
  if (run.length > 0) runs.push(run);
  return runs;
}

function quarters(height) {
  return [0.25, 0.5, 0.75].map((part) => `M${WIDTH * part} 0V${height}`).join("");
}

function round(number) {
  return Math.round(number * 10) / 10;
}
