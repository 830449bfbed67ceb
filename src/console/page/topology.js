/** This KME, its links, and the state of the KMEs at their other ends. */
import { byId, keep, make, setChip, setText } from "./elements.js";
import { formatCount, formatSpan } from "./format.js";
import { canDeliver } from "./verdict.js";

const parts = new WeakMap();

export function showTopology({ status, now }) {
  setText(byId("this-kme-name"), status.nickname);
  setText(byId("this-kme-id"), `KME ${status.kme}`);
  byId("this-kme").dataset.state = status.ready ? "good" : "bad";
  const rows = keep(byId("topology"), status.links, ({ kme }) => kme, makeRow);
  rows.forEach((row, i) => showRow(row, status, status.links[i], now));
}

function makeRow({ kme }) {
  const stock = make("span", { class: "stock-words" });
  const name = make("span", { class: "name" });
  const chip = make("span", { class: "chip" });
  const beyond = make("span", { class: "beyond muted" });
  const target = make("a", { class: "node", href: `#link-${encodeURIComponent(kme)}` }, name, chip, beyond);
  const row = make("li", {}, make("span", { class: "edge" }, stock), target);
  parts.set(row, { stock, name, chip, beyond });
  return row;
}

function showRow(row, status, link, now) {
  const { stock, name, chip, beyond } = parts.get(row);
  const isOwn = link.kme === status.kme;
  const peer = status.peers.find(({ kme }) => kme === link.kme);
  row.dataset.state = !link.used ? "unused" : canDeliver(status, link) ? "good" : "bad";
  setText(stock, link.free === null ? "stock not known" : `${formatCount(link.free)} blocks`);
  setText(name, isOwn ? "own SAEs" : `KME ${link.kme}`);
  chip.hidden = isOwn;
  if (!isOwn) setChip(chip, ...peerChip(peer, now));
  const relayed = status.relayed.filter(({ through }) => through === link.kme).map(({ kme }) => `KME ${kme}`);
  beyond.hidden = relayed.length === 0;
  setText(beyond, relayed.length === 0 ? "" : `leads to ${relayed.join(", ")}`);
}

/** State and words for the other end of a link. */
export function peerChip(peer, now) {
  if (peer === undefined || peer.up === null) return ["unknown", "not reached yet"];
  const since = peer.since === null ? "" : ` for ${formatSpan(now - Date.parse(peer.since))}`;
  return peer.up ? ["good", `up${since}`] : ["bad", `down${since}`];
}
