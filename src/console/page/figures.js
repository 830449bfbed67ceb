/** The strip of figures at the top. */
import { draw, makeChart, niceTop } from "./chart.js";
import { keep, make, setText } from "./elements.js";
import { formatCount, formatRate, formatSpan } from "./format.js";

const RATES = [
  { key: "delivered", title: "Delivered", unit: "keys/s", what: "keys a second given to masters" },
  { key: "collected", title: "Fetched", unit: "keys/s", what: "keys a second fetched by slaves" },
  { key: "takenUp", title: "Taken up", unit: "blocks/s", what: "blocks a second stored from key files" },
];

const parts = new WeakMap();

/** @param state what {@linkcode ./console.js} knows. */
export function showFigures(list, { status, rates, points, now }) {
  const last = status.links.map((link) => link.lastIngestion).filter(Boolean)
    .sort((a, b) => a.at < b.at ? 1 : -1)[0];
  const figures = [
    ...RATES.map(({ key, title, unit, what }) => ({
      key,
      title,
      unit,
      value: formatRate(rates[key]),
      what,
      line: [...points.map((point) => [point.at, point.rates[key]]), [now, rates[key]]],
    })),
    {
      key: "waiting",
      title: "Waiting",
      unit: "keys",
      value: formatCount(status.keysWaiting),
      note: "for their slaves",
    },
    {
      key: "entropy",
      title: "Entropy",
      unit: "bits/byte",
      value: status.entropy === null ? "–" : status.entropy.toFixed(4),
      note: "8 at most",
    },
    {
      key: "ingestion",
      title: "Last key file",
      unit: last === undefined ? "" : "ago",
      value: last === undefined ? "none yet" : formatSpan(now - Date.parse(last.at)),
      note: last?.file ?? "since the start",
    },
  ];
  const elements = keep(list, figures, (figure) => figure.key, makeFigure);
  elements.forEach((element, i) => showFigure(element, figures[i], now));
}

function makeFigure({ line, title }) {
  const value = make("strong");
  const unit = make("span", { class: "unit" });
  const note = make("span", { class: "note muted" });
  const chart = line && makeChart(28, "spark");
  const element = make(
    "div",
    {},
    make("dt", {}, title),
    make("dd", {}, value, " ", unit, chart ? chart.svg : note),
  );
  parts.set(element, { value, unit, note, chart });
  return element;
}

function showFigure(element, figure, now) {
  const { value, unit, note, chart } = parts.get(element);
  setText(value, figure.value);
  setText(unit, figure.unit);
  if (chart) {
    const highest = Math.max(...figure.line.map(([, rate]) => rate));
    draw(
      chart,
      figure.line,
      niceTop(highest),
      now,
      `${figure.what}: ${figure.value} now, ${formatRate(highest)} at most in the last hour`,
    );
  } else {
    setText(note, figure.note);
    note.title = figure.note;
  }
}
