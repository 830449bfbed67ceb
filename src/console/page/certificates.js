/** The table of certificates, those that expire first at the top. */
import { keep, make, setChip, setText } from "./elements.js";
import { formatDay } from "./format.js";

const parts = new WeakMap();

export function showCertificates(body, { status }) {
  const sorted = status.certificates
    .map((certificate, index) => ({ ...certificate, index }))
    .toSorted((a, b) => a.daysLeft - b.daysLeft);
  // One file may hold two certificates with one serial, of two CAs or the same one twice.
  const rows = keep(body, sorted, ({ member, serial, index }) => `${member} ${serial} ${index}`, makeRow);
  rows.forEach((row, i) => showRow(row, sorted[i]));
}

function makeRow() {
  const days = make("span", { class: "chip" });
  const subject = make("span", { class: "subject" });
  const member = make("span", { class: "member muted" });
  const use = make("td");
  const expires = make("td");
  const row = make(
    "tr",
    {},
    make("td", {}, days),
    make("th", { scope: "row" }, subject, member),
    use,
    expires,
  );
  parts.set(row, { days, subject, member, use, expires });
  return row;
}

function showRow(row, certificate) {
  const { days, subject, member, use, expires } = parts.get(row);
  setChip(days, ...daysChip(certificate.daysLeft));
  setText(subject, certificate.subject);
  setText(member, certificate.member);
  setText(use, certificate.use);
  setText(expires, formatDay(certificate.notAfter));
}

/** State and words for the days that a certificate is still valid. */
export function daysChip(days) {
  if (days < 0) return ["bad", "expired"];
  if (days < 7) return ["bad", `${days} d`];
  return [days < 30 ? "warn" : "good", `${days} d`];
}
