/** Follows the KME over server-sent events and shows what it tells. */
import { showCertificates } from "./certificates.js";
import { byId, setChip, setText } from "./elements.js";
import { EventList } from "./events.js";
import { showFigures } from "./figures.js";
import { formatSpan, formatTime } from "./format.js";
import { showLinks } from "./links.js";

/** Points of the charts that are kept: an hour. */
const POINTS = 360;
/** Milliseconds between two attempts to connect. */
const RETRY = 2000;
/** Milliseconds without a word after which the connection counts as lost. */
const SILENCE = 10_000;

const events = new EventList({
  log: byId("log"),
  note: byId("shown"),
  filter: byId("filter"),
  hold: byId("hold"),
});

let points = [];
let heard = 0;
let source;

function connect() {
  source?.close();
  heard = Date.now();
  source = new EventSource("events");
  source.addEventListener("begin", ({ data }) => {
    const message = JSON.parse(data);
    points = message.points;
    events.begin(message);
    show(message);
  });
  source.addEventListener("status", ({ data }) => {
    const message = JSON.parse(data);
    if (message.point) points = [...points, message.point].slice(-POINTS);
    show(message);
  });
  source.addEventListener("messages", ({ data }) => {
    alive();
    events.add(JSON.parse(data));
  });
  source.addEventListener("error", () => lost());
}

/** A browser gives up for good where the answer is an error; here it is tried again. */
setInterval(() => {
  const silent = Date.now() - heard > SILENCE;
  if (silent && source.readyState === EventSource.OPEN) lost();
  if (silent || source.readyState === EventSource.CLOSED) connect();
}, RETRY);

function show(message) {
  alive();
  const state = { ...message, points };
  const { status } = message;
  showIdentity(status);
  showFigures(byId("figures"), state);
  showLinks(byId("links"), state);
  showCertificates(byId("certificates"), state);
}

function showIdentity({ kme, nickname, version, ready, reason, uptime }) {
  setText(byId("nickname"), nickname);
  setText(byId("identity"), `KME ${kme}, up for ${formatSpan(uptime * 1000)}`);
  setText(byId("program"), `kme ${version}`);
  setChip(byId("readiness"), ready ? "good" : "bad", ready ? "ready" : `not ready: ${reason}`);
  const title = `${ready ? "" : "⚠ "}${nickname}: KME ${kme}`;
  if (document.title !== title) document.title = title;
}

function alive() {
  heard = Date.now();
  setChip(byId("connection"), "good", "live");
  byId("stale").hidden = true;
}

function lost() {
  const stale = byId("stale");
  setChip(byId("connection"), "bad", "not connected");
  if (!stale.hidden) return;
  setText(
    stale,
    `No connection since ${formatTime(new Date())}. What is shown is from before; connecting again.`,
  );
  stale.hidden = false;
}

addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, textarea");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  byId("filter").focus();
});

connect();
