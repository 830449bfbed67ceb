/** The list of events with its filter. */
import { make, setText } from "./elements.js";
import { formatTime } from "./format.js";

/** Events kept, and events shown at once. */
const KEPT = 1000;
const SHOWN = 300;

export class EventList {
  #events = [];
  /** Number of the next event that is not known yet. */
  #next = 0;
  #missed = 0;
  #held = false;
  #log;
  #note;
  #filter;

  constructor({ log, note, filter, hold }) {
    this.#log = log;
    this.#note = note;
    this.#filter = filter;
    filter.addEventListener("input", () => this.#show());
    filter.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      filter.value = "";
      this.#show();
    });
    hold.addEventListener("click", () => {
      this.#held = !this.#held;
      hold.setAttribute("aria-pressed", String(this.#held));
      this.#show();
    });
  }

  /** Another connection, maybe to another process: what was known is forgotten. */
  begin({ from, messages }) {
    this.#events = [];
    this.#next = from;
    this.#missed = 0;
    this.add({ from, messages });
  }

  add({ from, messages }) {
    if (from > this.#next) this.#missed += from - this.#next;
    const fresh = messages.slice(Math.max(0, this.#next - from));
    this.#next = Math.max(this.#next, from + messages.length);
    this.#events.push(...fresh);
    if (this.#events.length > KEPT) this.#events.splice(0, this.#events.length - KEPT);
    this.#show();
  }

  #show() {
    if (this.#held) {
      setText(this.#note, "Held: new events are kept but not shown");
      return;
    }
    const wanted = this.#filter.value.trim().toLowerCase();
    const matching = this.#events.filter(({ message }) => message.toLowerCase().includes(wanted));
    const rows = matching.slice(-SHOWN).reverse().map(({ message, datetime }) =>
      make(
        "li",
        {},
        make("time", { datetime, title: datetime }, formatTime(new Date(datetime))),
        make("span", {}, ...parts(message)),
      )
    );
    this.#log.replaceChildren(...rows);
    setText(this.#note, this.#words(matching.length, rows.length, wanted !== ""));
  }

  #words(matching, shown, filtered) {
    const known = this.#events.length;
    if (known === 0) return "No events yet";
    const count = filtered ? `${matching} of ${known} match` : `${known} kept`;
    const part = shown < matching ? `, the newest ${shown} shown` : "";
    const missed = this.#missed > 0 ? `, ${this.#missed} came too fast to be shown` : "";
    return count + part + missed;
  }
}

/** The nickname in front is the same in all of them: it stands back. */
function parts(message) {
  const prefix = /^\[[^\]]*\] /.exec(message)?.[0];
  return prefix === undefined
    ? [message]
    : [make("span", { class: "muted" }, prefix), message.slice(prefix.length)];
}
