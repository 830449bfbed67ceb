/** Line charts. Values are shown on hover and by the arrow keys. */
import { make, makeSvg, setText } from "./elements.js";
import { formatTime } from "./format.js";

const WIDTH = 360;

/** A small line without values of its own; {@linkcode drawSpark} fills it. */
export function makeSpark(height) {
  const chart = makeLines(height, ["s0"], 1);
  chart.svg.setAttribute("class", "spark");
  return chart;
}

export function drawSpark(chart, values, range, now, label) {
  const { points, top } = values;
  drawLines(chart, points, top, range, now);
  setLabel(chart.svg, label);
}

/**
 * An empty chart with a line of text for its values; {@linkcode drawChart} fills it.
 *
 * @param names of the lines.
 */
export function makeChart(height, names) {
  const lines = makeLines(height, names.map((_, i) => `s${i}`), 15);
  const cursor = makeSvg("path", { class: "cursor" });
  lines.svg.append(cursor);
  lines.svg.setAttribute("class", "lines");
  const top = make("span", { class: "top-value" });
  const readout = make("p", { class: "readout", "aria-live": "polite" });
  const plot = make("div", { class: "plot", tabindex: "0", role: "group" }, top, lines.svg);
  const begin = make("span");
  const axis = make("p", { class: "axis muted" }, begin, make("span", {}, "now"));
  const element = make("div", { class: "chart" }, readout, plot, axis);
  const chart = { ...lines, names, element, plot, top, readout, begin, cursor, at: null, drawn: undefined };

  const choose = (index) => {
    chart.at = index;
    showValues(chart);
  };
  plot.addEventListener("pointermove", ({ clientX }) => {
    const { left, width } = lines.svg.getBoundingClientRect();
    if (chart.drawn) choose(nearest(chart, (clientX - left) / width * WIDTH));
  });
  plot.addEventListener("pointerleave", () => choose(null));
  plot.addEventListener("blur", () => choose(null));
  plot.addEventListener("keydown", (event) => {
    const last = (chart.drawn?.points.length ?? 0) - 1;
    const index = chart.at ?? last;
    const moves = {
      ArrowLeft: Math.max(0, index - 1),
      ArrowRight: Math.min(last, index + 1),
      Home: 0,
      End: last,
      Escape: null,
    };
    if (last < 0 || !(event.key in moves)) return;
    event.preventDefault();
    choose(moves[event.key]);
  });
  return chart;
}

/**
 * @param values.points `[milliseconds since 1970, value or null, …]`, oldest first, a value for each line.
 * @param values.top value of the upper edge.
 * @param values.format a value in words.
 * @param values.label the chart in words.
 */
export function drawChart(chart, values, range, now) {
  const following = chart.at === null || chart.at >= (chart.drawn?.points.length ?? 0) - 1;
  chart.drawn = { ...values, range, now };
  if (chart.at !== null) {
    const last = values.points.length - 1;
    chart.at = last < 0 ? null : following ? last : Math.min(chart.at, last);
  }
  drawLines(chart, values.points, values.top, range, now);
  setText(chart.top, values.format(values.top));
  setText(chart.begin, `−${range.name}`);
  setLabel(chart.svg, values.label);
  const help = `${values.label}. Arrow keys show single values.`;
  if (chart.plot.getAttribute("aria-label") !== help) chart.plot.setAttribute("aria-label", help);
  showValues(chart);
}

function showValues(chart) {
  const { drawn, names, at, readout, cursor, height } = chart;
  if (!drawn) return;
  const point = drawn.points[at ?? drawn.points.length - 1];
  const words = point === undefined
    ? "no values yet"
    : names.map((name, i) => `${name} ${point[i + 1] === null ? "–" : drawn.format(point[i + 1])}`.trim())
      .join(", ");
  const time = at === null || point === undefined ? "now" : formatTime(new Date(point[0]));
  setText(readout, `${time}: ${words}`);
  cursor.setAttribute("d", at === null || !point ? "" : `M${xOf(chart, point[0])} 0V${height}`);
}

function nearest(chart, x) {
  let best = null;
  for (const [i, [at]] of chart.drawn.points.entries()) {
    const distance = Math.abs(xOf(chart, at) - x);
    if (best === null || distance <= best.distance) best = { i, distance };
  }
  return best?.i ?? null;
}

function makeLines(height, classes, headroom) {
  const area = makeSvg("path", { class: "area" });
  const paths = classes.map((name) => makeSvg("path", { class: `line ${name}` }));
  const svg = makeSvg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${height}`, preserveAspectRatio: "none", role: "img" },
    makeSvg("path", { class: "grid", d: `${quarters(height)}M0 ${headroom}H${WIDTH}` }),
    area,
    ...paths,
  );
  return { svg, area, paths, height, headroom };
}

function drawLines(chart, points, top, range, now) {
  const { area, paths, height, headroom } = chart;
  chart.drawn = { ...chart.drawn, range, now };
  const y = (value) => round(height - 1 - (height - 1 - headroom) * Math.min(1, value / (top || 1)));
  paths.forEach((path, i) => {
    const runs = runsOf(points.map((point) => [point[0], point[i + 1]]), range.milliseconds);
    const line = (run) => run.map(([at, value]) => `${xOf(chart, at)} ${y(value)}`).join("L");
    path.setAttribute("d", runs.map((run) => `M${line(run)}`).join(""));
    if (i > 0) return;
    const filled = runs.map((run) =>
      `M${xOf(chart, run[0][0])} ${height}L${line(run)}L${xOf(chart, run.at(-1)[0])} ${height}Z`
    );
    area.setAttribute("d", filled.join(""));
  });
}

function xOf({ drawn: { range, now } }, at) {
  return round(WIDTH * (1 - (now - at) / range.milliseconds));
}

function setLabel(svg, label) {
  if (svg.getAttribute("aria-label") !== label) svg.setAttribute("aria-label", label);
}

/** Upper edge for a highest value: a round number. */
export function niceTop(highest) {
  if (highest <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(highest));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((factor) => factor * power).find((top) => top >= highest);
}

/** Parts without a gap: two points that are far apart are not joined, since no process was there in between. */
function runsOf(points, milliseconds) {
  const gap = milliseconds > 3_600_000 ? 900_000 : 60_000;
  const runs = [];
  let run = [];
  for (const [at, value] of points) {
    if (value === null || (run.length > 0 && at - run.at(-1)[0] > gap)) {
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
