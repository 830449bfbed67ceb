/** One card for each link: its stock over the chosen time, and what is wrong with it. */
import { drawChart, makeChart, niceTop } from "./chart.js";
import { keep, make, setChip, setText } from "./elements.js";
import { formatCount, formatShort, formatSpan } from "./format.js";
import { peerChip } from "./topology.js";

const parts = new WeakMap();

/** Milliseconds over which it is judged whether a stock falls. */
const TREND = 600_000;

/** @param state of {@linkcode ./console.js}. */
export function showLinks(list, { status, points, recent, range, now }) {
  const cards = keep(list, status.links, (link) => link.kme, makeCard);
  cards.forEach((card, i) => {
    const link = status.links[i];
    const lineOf = (some) => [...some.map(({ at, free }) => [at, free[link.kme] ?? null]), [now, link.free]];
    showCard(card, link, {
      isOwn: link.kme === status.kme,
      peer: status.peers.find((peer) => peer.kme === link.kme),
      line: lineOf(points),
      recent: lineOf(recent),
      range,
      now,
    });
  });
}

function makeCard({ kme }) {
  const title = make("h3");
  const chip = make("span", { class: "chip" });
  const free = make("strong");
  const unit = make("span", { class: "unit" });
  const trend = make("p", { class: "trend" });
  const chart = makeChart(84, [""]);
  const file = make("p", { class: "file muted" });
  const device = make("p", { class: "device muted" });
  const unmatched = make("p", { class: "error unmatched" });
  const error = make("p", { class: "error" });
  const card = make(
    "li",
    { class: "card", id: `link-${encodeURIComponent(kme)}` },
    make("div", { class: "head" }, title, chip),
    make("p", { class: "free" }, free, " ", unit),
    chart.element,
    trend,
    file,
    device,
    unmatched,
    error,
  );
  parts.set(card, { title, chip, free, unit, trend, chart, file, device, unmatched, error });
  return card;
}

function showCard(card, link, { isOwn, peer, line, recent, range, now }) {
  const { title, chip, free, unit, trend, chart, file, device, unmatched, error } = parts.get(card);
  const name = isOwn ? "own pool" : `KME ${link.kme}`;
  const isEmpty = link.used && link.free === 0;
  setText(title, isOwn ? "Own pool" : name);
  if (!link.used) setChip(chip, "none", "not used");
  else if (isOwn) setChip(chip, "none", "own SAEs");
  else setChip(chip, ...peerChip(peer, now));
  setText(free, formatCount(link.free));
  setText(unit, `of ${formatShort(link.max)} blocks`);
  setText(trend, isEmpty ? "no blocks left" : trendOf(recent));
  trend.hidden = trend.textContent === "";
  trend.dataset.state = isEmpty ? "bad" : "";
  const differs = Boolean(link.unmatchedSince);
  card.dataset.state = isEmpty
    ? "empty"
    : link.used && peer?.up === false
    ? "down"
    : differs
    ? "differs"
    : "";

  const known = line.filter(([, value]) => value !== null).map(([, value]) => value);
  const words = known.length === 0
    ? "not known"
    : `low ${formatCount(Math.min(...known))}, high ${formatCount(Math.max(...known))}`;
  drawChart(
    chart,
    {
      points: line,
      top: niceTop(Math.max(0, ...known)),
      format: formatCount,
      label: `Stock of ${name} in the last ${range.words}: ${formatCount(link.free)} blocks now, ${words}`,
    },
    range,
    now,
  );

  const last = link.lastIngestion;
  setText(
    file,
    last === null
      ? "no key file since the start"
      : `${last.file}, ${formatSpan(now - Date.parse(last.at))} ago`,
  );
  device.hidden = link.device === undefined;
  device.dataset.state = link.device?.problem ? "bad" : "";
  setText(device, link.device === undefined ? "" : deviceText(link.device));
  const differing = link.unmatchedFiles ?? [];
  // Here and at the other end.
  const blocks = differing.reduce((sum, { there }) => sum + there, link.unmatched ?? 0);
  const files = differing.slice(0, 3).map(({ name }) => name).join(", ");
  unmatched.hidden = !differs;
  setText(
    unmatched,
    differs ? `${formatCount(blocks)} blocks are at one end only${files === "" ? "" : `: ${files}`}` : "",
  );
  const failure = peer?.up === false ? peer.lastError : null;
  error.hidden = failure === null;
  setText(error, failure ?? "");
}

/** The QKD device of a link: its own stock, and what comes from it. */
function deviceText({ device, problem, stock, lastMinute, unconfirmed }) {
  const known = stock === null ? "its stock is not known" : `${formatCount(stock)} keys left there`;
  const waiting = unconfirmed === 0 ? "" : `, ${formatCount(unconfirmed)} not confirmed`;
  const text = `QKD device ${device}: ${known}, ${
    formatCount(lastMinute)
  } blocks in the last minute${waiting}`;
  return problem === null ? text : `${text}; ${problem}`;
}

/** When the stock will be empty, if it falls as in the last minutes. */
function trendOf(line) {
  const [end, free] = line.at(-1);
  const recent = line.filter(([at, value]) => value !== null && end - at <= TREND);
  const [begin, before] = recent[0] ?? [end, free];
  if (free === null || end - begin < TREND / 4 || before <= free) return "";
  const left = free / ((before - free) / (end - begin));
  return left < 86_400_000 ? `empty in about ${formatSpan(left)}` : "";
}
