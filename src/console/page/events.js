/** The list of key events and incidents with its filter. One entry for each key; its single events are its details. */
import { keep, make, setText } from "./elements.js";
import { formatTime } from "./format.js";

/** Entries kept, and entries shown at once. */
const KEPT = 1000;
const SHOWN = 200;

const parts = new WeakMap();

export class EventList {
  /** By key: the least recently changed first. */
  #entries = new Map();
  /** Events of Get key requests, which belong to the keys that follow. */
  #requests = new Map();
  /** Number of the next event that is not known yet. */
  #next = 0;
  #missed = 0;
  #held = false;
  #log;
  #note;
  #filter;
  #kind;

  constructor({ log, note, filter, kind, hold }) {
    this.#log = log;
    this.#note = note;
    this.#filter = filter;
    this.#kind = kind;
    filter.addEventListener("input", () => this.#show());
    kind.addEventListener("change", () => this.#show());
    filter.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      filter.value = "";
      this.#show();
    });
    log.addEventListener("keydown", (event) => moveFocus(log, event));
    log.parentElement.addEventListener("keydown", (event) => {
      if (event.target === log.parentElement) moveFocus(log, event);
    });
    hold.addEventListener("click", () => {
      this.#held = !this.#held;
      hold.setAttribute("aria-pressed", String(this.#held));
      this.#show();
    });
  }

  /** Another connection, maybe to another process: what was known is dropped. */
  begin({ from, messages, incidents }) {
    this.#entries = new Map();
    this.#requests = new Map();
    this.#next = from;
    this.#missed = 0;
    this.#addIncidents(incidents);
    this.add({ from, messages });
  }

  add({ from, messages }) {
    if (from > this.#next) this.#missed += from - this.#next;
    const fresh = messages.slice(Math.max(0, this.#next - from));
    this.#next = Math.max(this.#next, from + messages.length);
    for (const event of fresh) this.#addEvent(event);
    this.#trim();
    this.#show();
  }

  addIncidents(incidents) {
    this.#addIncidents(incidents);
    this.#trim();
    this.#show();
  }

  #addEvent(event) {
    const { request, keyId, datetime } = event;
    if (keyId === undefined) {
      const lines = [...this.#requests.get(request) ?? [], event];
      this.#requests.set(request, lines);
      if (this.#requests.size > KEPT) this.#requests.delete(this.#requests.keys().next().value);
      this.#put(`request ${request}`, { at: datetime, lines });
      return;
    }
    this.#entries.delete(`request ${request}`);
    const name = `key ${keyId}`;
    const before = this.#entries.get(name)?.lines ?? this.#requests.get(request) ?? [];
    this.#put(name, { at: datetime, keyId, lines: [...before, event] });
  }

  #addIncidents(incidents) {
    for (const { id, kind, severity, message, first, last, count } of incidents) {
      this.#put(`incident ${id}`, { at: last, incident: { kind, severity, message, first, count } });
    }
  }

  /** The most recently changed entry is the last. */
  #put(name, entry) {
    this.#entries.delete(name);
    this.#entries.set(name, { name, ...entry });
  }

  #trim() {
    for (const name of this.#entries.keys()) {
      if (this.#entries.size <= KEPT) return;
      this.#entries.delete(name);
    }
  }

  #show() {
    if (this.#held) {
      setText(this.#note, "Held: new events are kept but not shown");
      return;
    }
    const wanted = this.#filter.value.trim().toLowerCase();
    const kind = this.#kind.value;
    const matching = [...this.#entries.values()].filter((entry) =>
      (kind === "all" || (kind === "keys") === (entry.incident === undefined)) &&
      textsOf(entry).some((text) => text.toLowerCase().includes(wanted))
    ).sort((a, b) => a.at < b.at ? -1 : 1);
    const shown = matching.slice(-SHOWN).reverse();
    const rows = keep(this.#log, shown, ({ name }) => name, makeRow);
    rows.forEach((row, i) => showRow(row, shown[i]));
    setText(this.#note, this.#words(matching.length, rows.length, wanted !== "" || kind !== "all"));
  }

  #words(matching, shown, filtered) {
    const known = this.#entries.size;
    if (known === 0) return "No events yet";
    const count = filtered ? `${matching} of ${known} match` : `${known} kept`;
    const part = shown < matching ? `, the newest ${shown} shown` : "";
    const missed = this.#missed > 0 ? `, ${this.#missed} came too fast to be shown` : "";
    return count + part + missed;
  }
}

/** The entries are one tab stop; the arrow keys move between them. */
function moveFocus(log, event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step === undefined) return;
  const summaries = [...log.querySelectorAll("summary")];
  const next = summaries[summaries.indexOf(event.target) + step];
  if (next === undefined) return;
  event.preventDefault();
  next.focus();
}

function textsOf({ incident, lines = [] }) {
  return incident === undefined ? lines.map(({ message }) => message) : [incident.kind, incident.message];
}

function makeRow({ incident }) {
  const time = make("time");
  const what = make("span", { class: "what" });
  if (incident !== undefined) {
    const row = make("li", { class: "incident" }, make("div", { class: "entry" }, time, what));
    parts.set(row, { time, what });
    return row;
  }
  const lines = make("ol", { class: "details" });
  const row = make(
    "li",
    {},
    make("details", {}, make("summary", { class: "entry", tabindex: "-1" }, time, what), lines),
  );
  parts.set(row, { time, what, lines });
  return row;
}

function showRow(row, { at, keyId, lines: events, incident }) {
  const { time, what, lines } = parts.get(row);
  setText(time, formatTime(new Date(at)));
  if (time.title !== at) time.title = at;
  if (incident !== undefined) {
    row.dataset.state = { info: "", warning: "warn", error: "bad" }[incident.severity];
    const count = incident.count > 1
      ? ` (${incident.count} times since ${formatTime(new Date(incident.first))})`
      : "";
    setText(what, `${incident.kind}: ${incident.message}${count}`);
    return;
  }
  setText(what, keyId === undefined ? plain(events[0].message) : summaryOf(keyId, events));
  const items = keep(lines, events.map((event, i) => ({ ...event, i })), ({ i }) => String(i), makeLine);
  items.forEach((item, i) => setText(item.lastChild, events[i].message));
}

function makeLine({ datetime }) {
  return make(
    "li",
    {},
    make("time", { datetime, title: datetime }, formatTime(new Date(datetime))),
    make("span"),
  );
}

/** The events of a key in one line. */
function summaryOf(keyId, events) {
  const texts = events.map(({ message }) => plain(message)).filter((text) => text.includes(keyId));
  const activated = texts.filter((text) => text.startsWith("Key ")).at(-1);
  const fetched = texts.filter((text) => text.startsWith("SAE ")).length;
  if (activated === undefined) return texts.at(-1);
  return fetched === 0 ? activated : `${activated}, fetched`;
}

/** Without the nickname in front, which is the same in all of them. */
function plain(message) {
  return message.replace(/^\[[^\]]*\] /, "");
}
