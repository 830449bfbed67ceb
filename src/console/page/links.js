/** One card a link: stock, its last hour, and the peer at the other end. */
import { draw, makeChart, niceTop } from "./chart.js";
import { keep, make, setChip, setText } from "./elements.js";
import { formatCount, formatShort, formatSpan } from "./format.js";

const parts = new WeakMap();

/** Milliseconds over which it is judged whether a stock falls. */
const TREND = 600_000;

/** @param state what {@linkcode ./console.js} knows. */
export function showLinks(list, { status, points, now }) {
  const cards = keep(list, status.links, (link) => link.kme, makeCard);
  cards.forEach((card, i) => {
    const link = status.links[i];
    const line = [...points.map((point) => [point.at, point.free[i] ?? null]), [now, link.free]];
    showCard(card, link, {
      isOwn: link.kme === status.kme,
      peer: status.peers.find((peer) => peer.kme === link.kme),
      line,
      now,
    });
  });
}

function makeCard() {
  const title = make("h3");
  const chip = make("span", { class: "chip" });
  const free = make("strong");
  const unit = make("span", { class: "unit" });
  const trend = make("p", { class: "trend" });
  const chart = makeChart(84, "stock", 15);
  const top = make("span", { class: "top-value" });
  const range = make("span");
  const file = make("p", { class: "file muted" });
  const error = make("p", { class: "error" });
  const card = make(
    "li",
    { class: "card" },
    make("div", { class: "head" }, title, chip),
    make("p", { class: "free" }, free, " ", unit),
    make("div", { class: "plot" }, top, chart.svg),
    make("p", { class: "axis muted" }, make("span", {}, "−1 h"), range, make("span", {}, "now")),
    trend,
    file,
    error,
  );
  parts.set(card, { title, chip, free, unit, trend, chart, top, range, file, error });
  return card;
}

function showCard(card, link, { isOwn, peer, line, now }) {
  const { title, chip, free, unit, trend, chart, top, range, file, error } = parts.get(card);
  const name = isOwn ? "own pool" : `KME ${link.kme}`;
  setText(title, isOwn ? "Own pool" : name);
  setChip(chip, ...peerChip(isOwn, peer, now));
  setText(free, formatCount(link.free));
  setText(unit, `of ${formatShort(link.max)} blocks`);
  setText(trend, trendOf(line));
  trend.hidden = trend.textContent === "";
  trend.dataset.state = link.free === 0 ? "bad" : "";
  card.dataset.state = link.free === 0 ? "empty" : "";

  const known = line.filter(([at, value]) => value !== null && now - at <= 3_600_000).map(([, value]) =>
    value
  );
  const lowest = Math.min(...known);
  const highest = Math.max(...known);
  const edge = niceTop(known.length === 0 ? 0 : highest);
  setText(top, formatCount(edge));
  const words = known.length === 0 ? "not known" : `low ${formatCount(lowest)}, high ${formatCount(highest)}`;
  setText(range, words);
  draw(
    chart,
    line,
    edge,
    now,
    `Stock of ${name} in the last hour: ${formatCount(link.free)} blocks now, ${words}`,
  );

  const last = link.lastIngestion;
  setText(
    file,
    last === null
      ? "no key file since the start"
      : `${last.file}, ${formatSpan(now - Date.parse(last.at))} ago`,
  );
  const complaint = peer?.up === false ? peer.lastError : null;
  error.hidden = complaint === null;
  setText(error, complaint ?? "");
}

function peerChip(isOwn, peer, now) {
  if (isOwn) return ["none", "own SAEs"];
  if (peer === undefined || peer.up === null) return ["unknown", "not called yet"];
  const since = peer.since === null ? "" : ` for ${formatSpan(now - Date.parse(peer.since))}`;
  return peer.up ? ["good", `up${since}`] : ["bad", `down${since}`];
}

/** When the stock will be empty, if it goes on as in the last minutes. */
function trendOf(line) {
  const [end, free] = line.at(-1);
  if (free === 0) return "no blocks left";
  const recent = line.filter(([at, value]) => value !== null && end - at <= TREND);
  const [begin, before] = recent[0] ?? [end, free];
  if (free === null || end - begin < TREND / 4 || before <= free) return "";
  const left = free / ((before - free) / (end - begin));
  return left < 86_400_000 ? `empty in about ${formatSpan(left)}` : "";
}
