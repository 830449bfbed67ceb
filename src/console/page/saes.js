/** The SAEs of this KME: when each was here, and how long its certificate lasts. */
import { byId, keep, make, setChip, setText } from "./elements.js";
import { daysChip } from "./certificates.js";
import { formatSpan } from "./format.js";

const parts = new WeakMap();

export function showSaes({ status, now }) {
  byId("no-saes").hidden = status.saes.length > 0;
  const rows = keep(byId("saes"), status.saes, ({ sae }) => sae, makeRow);
  rows.forEach((row, i) => {
    const { name, seen, days } = parts.get(row);
    const { sae, lastSeen, certificateDaysLeft } = status.saes[i];
    setText(name, `SAE ${sae}`);
    setText(seen, lastSeen === null ? "not seen yet" : `${formatSpan(now - Date.parse(lastSeen))} ago`);
    if (certificateDaysLeft === null) setChip(days, "none", "not known");
    else setChip(days, ...daysChip(certificateDaysLeft));
  });
  const limited = byId("limited");
  limited.hidden = status.limited === undefined;
  const each = (status.limited ?? []).map(({ sae, limit, count }) => `SAE ${sae} ${limit} (${count})`);
  setText(limited, `Refused since the start because of limits: ${each.join(", ")}`);
}

function makeRow() {
  const name = make("th", { scope: "row" });
  const seen = make("td");
  const days = make("span", { class: "chip" });
  const row = make("tr", {}, make("td", {}, days), name, seen);
  parts.set(row, { name, seen, days });
  return row;
}
