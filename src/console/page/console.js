/** Follows the KME over server-sent events and shows its state. */
import { showCertificates } from "./certificates.js";
import { byId, make, setChip, setText } from "./elements.js";
import { EventList } from "./events.js";
import { showFigures } from "./figures.js";
import { showFiles } from "./files.js";
import { formatSpan, formatTime } from "./format.js";
import { showLinks } from "./links.js";
import { showSaes } from "./saes.js";
import { RANGES, Series } from "./series.js";
import { showTopology } from "./topology.js";
import { showTrends } from "./trends.js";
import { showVerdict } from "./verdict.js";

/** Milliseconds between two attempts to connect. */
const RETRY = 2000;
/** Milliseconds without a message after which the connection counts as lost. */
const SILENCE = 10_000;

const events = new EventList({
  log: byId("log"),
  note: byId("shown"),
  filter: byId("filter"),
  kind: byId("kind"),
  hold: byId("hold"),
});
const series = new Series();

let range = RANGES[1];
let latest;
let heard = 0;
let source;

function connect() {
  source?.close();
  heard = Date.now();
  source = new EventSource("events");
  source.addEventListener("begin", ({ data }) => {
    const message = JSON.parse(data);
    series.begin(message);
    events.begin(message);
    show(message);
  });
  source.addEventListener("status", ({ data }) => {
    const message = JSON.parse(data);
    series.add(message);
    if (message.incidents) events.addIncidents(message.incidents);
    show(message);
  });
  source.addEventListener("messages", ({ data }) => {
    alive();
    events.add(JSON.parse(data));
  });
  source.addEventListener("error", () => lost());
}

/** After an error answer a browser does not connect again by itself. */
setInterval(() => {
  const silent = Date.now() - heard > SILENCE;
  if (silent && source.readyState === EventSource.OPEN) lost();
  if (silent || source.readyState === EventSource.CLOSED) connect();
}, RETRY);

function show(message) {
  alive();
  latest = message;
  const { status, live, now } = message;
  const state = {
    status,
    live,
    now,
    range,
    series,
    points: series.points(range.milliseconds, now),
    recent: series.points(RANGES[0].milliseconds, now),
  };
  showIdentity(status);
  showAudit(status);
  showVerdict(state);
  showTopology(state);
  showFigures(byId("figures"), state);
  showLinks(byId("links"), state);
  showTrends(state);
  showFiles(state);
  showSaes(state);
  showCertificates(byId("certificates"), state);
}

function showAudit({ audit }) {
  const element = byId("audit");
  element.hidden = audit === undefined;
  if (audit === undefined) return;
  const { chain, sequence, head, failure } = audit;
  const state = failure === null
    ? `record ${sequence}, hash ${head.slice(0, 13)}…`
    : `cannot be written: ${failure}`;
  setText(element, `audit log: chain ${chain}, ${state}`);
}

function showIdentity({ kme, nickname, version, ready, reason, uptime, delivery }) {
  setText(byId("nickname"), nickname);
  setText(byId("identity"), `KME ${kme}, up for ${formatSpan(uptime * 1000)}`);
  setText(byId("program"), `kme ${version}`);
  setChip(byId("readiness"), ready ? "good" : "bad", ready ? "ready" : `not ready: ${reason}`);
  const title = `${ready && delivery.links !== "none" ? "" : "⚠ "}${nickname}: KME ${kme}`;
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
    `No connection since ${formatTime(new Date())}. The values shown are older; connecting again.`,
  );
  stale.hidden = false;
}

for (const each of RANGES) {
  const button = make("button", { type: "button", "aria-pressed": String(each === range) }, each.name);
  button.addEventListener("click", () => {
    range = each;
    for (const other of byId("ranges").querySelectorAll("button")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    if (latest !== undefined) show(latest);
  });
  byId("ranges").append(button);
}

addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, select, textarea");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  byId("filter").focus();
});

connect();
