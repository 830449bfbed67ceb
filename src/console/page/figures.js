/** The current values at the top. */
import { drawSpark, makeSpark, niceTop } from "./chart.js";
import { keep, make, setText } from "./elements.js";
import { formatCount, formatRate, formatSpan } from "./format.js";
import { rate, refusedOf } from "./series.js";

const RATES = [
  { key: "delivered", title: "Delivered", unit: "keys/s", what: "keys per second delivered to masters" },
  { key: "collected", title: "Fetched", unit: "keys/s", what: "keys per second fetched by slaves" },
  { key: "ingested", title: "Ingested", unit: "blocks/s", what: "blocks per second stored from key files" },
  { key: "refused", title: "Refused", unit: "requests/s", what: "requests per second refused" },
];

const parts = new WeakMap();

/** @param state of {@linkcode ./console.js}. */
export function showFigures(list, { status, live, points, range, now }) {
  const last = status.links.map((link) => link.lastIngestion).filter(Boolean)
    .sort((a, b) => a.at < b.at ? 1 : -1)[0];
  const valueOf = (key, point) => rate(key === "refused" ? refusedOf(point) : point[key], point);
  const figures = [
    ...RATES.map(({ key, title, unit, what }) => {
      const current = live === undefined ? 0 : valueOf(key, live);
      return {
        key,
        title,
        unit,
        value: formatRate(current),
        what,
        line: [...points.map((point) => [point.at, valueOf(key, point)]), [now, current]],
      };
    }),
    {
      key: "waiting",
      title: "Waiting",
      unit: "keys",
      value: formatCount(status.keysWaiting),
      note: "for their slaves",
    },
    {
      key: "burnt",
      title: "Burnt",
      unit: "blocks",
      value: formatCount(status.burnt),
      note: "since the start",
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
  elements.forEach((element, i) => showFigure(element, figures[i], range, now));
}

function makeFigure({ line, title }) {
  const value = make("strong");
  const unit = make("span", { class: "unit" });
  const note = make("span", { class: "note muted" });
  const chart = line && makeSpark(28);
  const element = make(
    "div",
    {},
    make("dt", {}, title),
    make("dd", {}, value, " ", unit, chart ? chart.svg : note),
  );
  parts.set(element, { value, unit, note, chart });
  return element;
}

function showFigure(element, figure, range, now) {
  const { value, unit, note, chart } = parts.get(element);
  setText(value, figure.value);
  setText(unit, figure.unit);
  if (chart) {
    const highest = Math.max(...figure.line.map(([, each]) => each));
    drawSpark(
      chart,
      { points: figure.line, top: niceTop(highest) },
      range,
      now,
      `${figure.what}: ${figure.value} now, at most ${formatRate(highest)} in the last ${range.words}`,
    );
  } else {
    setText(note, figure.note);
    note.title = figure.note;
  }
}
