/** Rates, latency and refused requests over the chosen time. */
import { drawChart, makeChart, niceTop } from "./chart.js";
import { byId, keep, make, setText } from "./elements.js";
import { formatCount, formatRate, formatSeconds } from "./format.js";
import { merge, rate, refusedOf } from "./series.js";

const LATENCIES = [
  { key: "enc_keys", title: "Latency of enc_keys" },
  { key: "dec_keys", title: "Latency of dec_keys" },
  { key: "activation", title: "Latency of activation at a peer" },
];

const REASONS = {
  invalid: "invalid request",
  unauthorized: "not authorized",
  out_of_keys: "too few keys",
  limit: "limit of the SAE",
  peer: "peer does not answer or agree",
  database: "database",
  audit: "audit log",
  http: "path, method, size or type",
  internal: "error of the program",
};
const LISTENERS = { sae: "SAE", kme: "KME", skip: "SKIP" };

const charts = new Map();
const parts = new WeakMap();

/** @param state of {@linkcode ./console.js}. */
export function showTrends({ series, points, range, now }) {
  const total = merge(points);
  show(
    "rates",
    "Keys",
    ["delivered", "fetched"],
    {
      summary: `${formatCount(total.delivered)} delivered, ${formatCount(total.collected)} fetched`,
      points: points.map((point) => [point.at, rate(point.delivered, point), rate(point.collected, point)]),
      format: (value) => `${formatRate(value)}/s`,
      what: "Keys per second",
    },
    range,
    now,
  );
  for (const { key, title } of LATENCIES) {
    const count = total.durations[key].reduce((sum, [, each]) => sum + each, 0);
    const quantiles = (buckets) => [series.quantile(0.5, buckets), series.quantile(0.99, buckets)];
    const [p50, p99] = quantiles(total.durations[key]);
    show(
      key,
      title,
      ["p50", "p99"],
      {
        summary: count === 0
          ? "none"
          : `p50 ${formatSeconds(p50)}, p99 ${formatSeconds(p99)}, ${formatCount(count)} in all`,
        points: points.map((point) => [point.at, ...quantiles(point.durations[key])]),
        format: formatSeconds,
        what: title,
      },
      range,
      now,
    );
  }
  show(
    "refused",
    "Refused requests",
    ["refused"],
    {
      summary: formatCount(refusedOf(total)),
      points: points.map((point) => [point.at, rate(refusedOf(point), point) * 60]),
      format: (value) => `${formatRate(value)}/min`,
      what: "Refused requests per minute",
    },
    range,
    now,
  );
  showReasons(total);
}

function show(key, title, names, { summary, points, format, what }, range, now) {
  let chart = charts.get(key);
  if (chart === undefined) {
    chart = makeChart(70, names);
    const words = make("span", { class: "summary" });
    const element = make(
      "li",
      { class: "card", "data-key": key },
      make("div", { class: "head" }, make("h3", {}, title), words),
      chart.element,
    );
    byId("trends").append(element);
    charts.set(key, chart = { ...chart, words });
  }
  setText(chart.words, summary);
  const values = points.flatMap(([, ...each]) => each).filter((value) => value !== null);
  drawChart(
    chart,
    {
      points,
      top: niceTop(Math.max(0, ...values)),
      format,
      label: `${what} in the last ${range.words}: ${summary}`,
    },
    range,
    now,
  );
}

function showReasons({ refused }) {
  const items = Object.entries(refused).sort(([, a], [, b]) => b - a);
  byId("no-reasons").hidden = items.length > 0;
  const rows = keep(byId("reasons"), items, ([name]) => name, makeReason);
  rows.forEach((row, i) => {
    const [name, count] = items[i];
    const [listener, reason] = name.split(" ");
    const { who, why, times } = parts.get(row);
    setText(times, formatCount(count));
    setText(who, LISTENERS[listener] ?? listener);
    setText(why, REASONS[reason] ?? reason);
  });
}

function makeReason() {
  const times = make("td");
  const who = make("td");
  const why = make("th", { scope: "row" });
  const row = make("tr", {}, times, who, why);
  parts.set(row, { times, who, why });
  return row;
}
