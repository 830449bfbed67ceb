/** The latest key files of all links, the newest first. */
import { byId, keep, make, setChip, setText } from "./elements.js";
import { formatCount, formatSpan } from "./format.js";

const SHOWN = 15;
const parts = new WeakMap();

export function showFiles({ status, now }) {
  const files = status.links
    .flatMap(({ kme, files }) => files.map((file) => ({ ...file, kme })))
    .sort((a, b) => a.at < b.at ? 1 : -1)
    // A file with an error is shown however old it is.
    .filter((file, i) => i < SHOWN || file.error !== null);
  byId("no-files").hidden = files.length > 0;
  const rows = keep(byId("files"), files, ({ kme, file }) => `${kme} ${file}`, makeRow);
  rows.forEach((row, i) => showRow(row, files[i], status.kme, now));
}

function makeRow() {
  const [state, blocks, link, ago] = [make("span", { class: "chip" }), make("td"), make("td"), make("td")];
  const name = make("span", { class: "subject" });
  const error = make("span", { class: "error" });
  const row = make(
    "tr",
    {},
    make("td", {}, state),
    make("th", { scope: "row" }, name, error),
    link,
    blocks,
    ago,
  );
  parts.set(row, { state, blocks, link, ago, name, error });
  return row;
}

function showRow(row, file, thisKme, now) {
  const { state, blocks, link, ago, name, error } = parts.get(row);
  setChip(state, ...stateOf(file));
  setText(name, file.file);
  error.hidden = file.error === null;
  setText(error, file.error ?? "");
  setText(link, file.kme === thisKme ? "own pool" : `KME ${file.kme}`);
  const known = file.known > 0 ? `, ${formatCount(file.known)} known before` : "";
  setText(blocks, `${formatCount(file.stored)} blocks${known}`);
  setText(ago, `${formatSpan(now - Date.parse(file.at))} ago`);
}

function stateOf({ error, complete }) {
  if (error !== null) return ["bad", "failed"];
  return complete ? ["good", "ingested"] : ["unknown", "in part"];
}
