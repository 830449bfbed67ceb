/** Formats the status of a running KME. Pure. */
import type { KmeStatus, LinkStatus, PeerStatus } from "../metrics/kme_status.ts";
import { toOneLine } from "../domain/text.ts";

/** A certificate is listed when it has fewer days left. */
const SOON_DAYS = 30;

/** Files of a link that are named. */
const MAX_FILES = 3;

const DELIVERABLE: Record<KmeStatus["delivery"]["links"], string> = {
  all: "",
  some: ", but not all links can deliver keys",
  none: ", but no link can deliver keys",
};

export function formatStatus(status: KmeStatus): string {
  const { kme, nickname, version, ready, reason, delivery, uptime, links, keysWaiting, peers, certificates } =
    status;
  const soon = certificates.filter(({ daysLeft }) => daysLeft < SOON_DAYS);
  return [
    `KME ${kme} (${nickname}), version ${version}, up ${duration(uptime)}`,
    ready ? `ready${DELIVERABLE[delivery.links]}` : `NOT READY: ${reason ?? "no reason given"}`,
    ...delivery.problems.map(({ severity, what, since }) =>
      `${severity.toUpperCase()} ${what}, since ${since}`
    ),
    "",
    ...columns([
      ["link", "free", "of", "at one end only", "since", "last key file"],
      ...links.map((link) => [
        link.kme === kme ? "own SAEs" : `KME ${link.kme}`,
        link.free === null ? "?" : String(link.free),
        String(link.max),
        unmatched(link),
        link.unmatchedSince ?? "-",
        link.lastIngestion === null
          ? "none since the start"
          : `${link.lastIngestion.at} ${link.lastIngestion.file}`,
      ]),
    ]),
    ...links.flatMap(unmatchedFiles),
    ...links.flatMap(deviceLine),
    "",
    `keys waiting for their slaves: ${keysWaiting ?? "?"}`,
    ...(status.limited ?? []).map(({ sae, limit, count }) =>
      `SAE ${sae}: ${count} request${count === 1 ? "" : "s"} refused because of ${limit}`
    ),
    ...auditLine(status),
    ...peers.length === 0
      ? []
      : ["", ...columns([["peer", "state", "since", "last error"], ...peers.map(peerRow)])],
    "",
    ...soon.length === 0
      ? [certificates.length === 0 ? "no certificates" : `certificates: none ends within ${SOON_DAYS} days`]
      : soon.map(({ member, daysLeft }) =>
        `certificate ${member} ${daysLeft < 0 ? "has EXPIRED" : `ends in ${daysLeft} days`}`
      ),
  ].map(toOneLine).join("\n");
}

function auditLine({ audit }: KmeStatus): string[] {
  if (audit === undefined) return [];
  const { chain, sequence, head, failure } = audit;
  const state = failure === null ? `record ${sequence}, hash ${head}` : `CANNOT BE WRITTEN: ${failure}`;
  return [`audit log: chain ${chain}, ${state}`];
}

/** Blocks at one end only: those here, and those that the listed files have at the other end. */
function unmatched({ unmatched, unmatchedFiles = [] }: LinkStatus): string {
  if (unmatched === undefined) return "-";
  const there = unmatchedFiles.reduce((sum, file) => sum + file.there, 0);
  return unmatched + there === 0 ? "0" : `${unmatched} here, ${there} there`;
}

/** The files of which one end has blocks that the other does not have. */
function unmatchedFiles({ kme, unmatchedFiles: files = [] }: LinkStatus): string[] {
  if (files.length === 0) return [];
  const named = files.slice(0, MAX_FILES).map(({ name, here, there }) =>
    `${name} (${here} here, ${there} there)`
  );
  const more = files.length > MAX_FILES ? ", ..." : "";
  return [`at one end only, KME ${kme}: ${named.join(", ")}${more}`];
}

/** The QKD device of a link. */
function deviceLine({ kme, device: state }: LinkStatus): string[] {
  if (state === undefined) return [];
  const { device, up, stock, lastMinute, unconfirmed, asks, problem } = state;
  const isUp = up === null ? "not called yet" : up ? "up" : "DOWN";
  return [
    `QKD device of the link with KME ${kme}: ${device} ${isUp}, ${
      stock ?? "?"
    } keys left there, ${lastMinute} blocks in the ` +
    `last minute, ${unconfirmed} not confirmed, ${
      asks ? "this KME requests keys" : "the other KME requests keys"
    }` +
    (problem === null ? "" : `; ${problem}`),
  ];
}

function peerRow({ kme, up, since, lastError }: PeerStatus): string[] {
  return [`KME ${kme}`, up === null ? "not called yet" : up ? "up" : "DOWN", since ?? "-", lastError ?? "-"];
}

function columns(rows: string[][]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column]!)).join("  ").trimEnd());
}

/** `3 d 4 h`, `4 h 10 min`, `10 min`, `12 s`. */
function duration(seconds: number): string {
  const [days, hours, minutes] = [seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60].map(Math.floor);
  if (days! > 0) return `${days} d ${hours} h`;
  if (hours! > 0) return `${hours} h ${minutes} min`;
  return minutes! > 0 ? `${minutes} min` : `${Math.floor(seconds)} s`;
}
