/**
 * Takes the pictures of the console in docs/, with an hour that was made up:
 * `deno run -A tests/console/screenshots.ts`
 */
import { EventText } from "../../src/events/events.ts";
import { formatEvent } from "../../src/console/event_stream.ts";
import type { Point } from "../../src/console/history.ts";
import { PAGE } from "../../src/console/page.ts";
import type { KmeStatus } from "../../src/metrics/kme_status.ts";
import { VERSION } from "../../src/version.ts";
import { CHROMIUM, closeBrowser, openPage } from "./browser.ts";

const now = Date.now();
const before = (seconds: number) => new Date(now - seconds * 1000).toISOString();
const inDays = (days: number) => new Date(now + days * 86_400_000).toISOString();

/** The same picture every time: no true chance. */
let seed = 1;
function chance(): number {
  seed = seed * 48271 % 2147483647;
  return seed / 2147483647;
}

/** An hour of three links: one is well supplied, one lives from file to file, one runs dry. */
function hour(): Point[] {
  const points: Point[] = [];
  let [own, second, third] = [8200, 41_000, 5200];
  for (let i = 0; i < 360; i++) {
    const busy = 1 + Math.sin(i / 55) / 2 + chance() / 3;
    const fileSecond = i % 60 === 20 ? 16_384 : 0;
    const fileOwn = i === 180 ? 4096 : 0;
    own += fileOwn - Math.round(14 * busy);
    second += fileSecond - Math.round(250 * busy);
    third -= Math.round(13 * busy);
    points.push({
      at: now - (359 - i) * 10_000,
      free: [own, second, Math.max(0, third)],
      rates: {
        delivered: Math.round(28 * busy),
        collected: Math.round(26 * busy + chance()),
        takenUp: (fileOwn + fileSecond) / 10,
      },
    });
  }
  return points;
}

const points = hour();
const last = points.at(-1)!;

const subject = (name: string) => `CN=${name}, O=sample`;
const certificate = (
  member: string,
  use: KmeStatus["certificates"][number]["use"],
  name: string,
  days: number,
): KmeStatus["certificates"][number] => ({
  member,
  use,
  subject: subject(name),
  serial: `${member}${name}`,
  notBefore: inDays(days - 365),
  notAfter: inDays(days + 0.5),
  daysLeft: days,
});

const status: KmeStatus = {
  kme: "1",
  nickname: "Alice",
  version: VERSION,
  ready: true,
  reason: null,
  uptime: 1_071_000,
  links: [
    {
      kme: "1",
      free: last.free[0]!,
      max: 1_000_000,
      lastIngestion: { at: before(1790), file: "local-0412.cor" },
    },
    {
      kme: "2",
      free: last.free[1]!,
      max: 1_000_000,
      lastIngestion: { at: before(390), file: "keys-20867.cor" },
    },
    {
      kme: "3",
      free: last.free[2]!,
      max: 1_000_000,
      lastIngestion: { at: before(7460), file: "keys-00931.cor" },
    },
  ],
  keysWaiting: 214,
  peers: [
    { kme: "2", up: true, since: before(1_070_000), lastError: null },
    { kme: "3", up: false, since: before(340), lastError: "no connection within 10 s" },
  ],
  certificates: [
    certificate("this_kme.saes_https_interface.server_cert_path", "server", "kme-1", 212),
    certificate("this_kme.saes_https_interface.ca_client_cert_path", "client CA", "zone 1 CA", 1912),
    certificate("this_kme.kmes_https_interface.server_cert_path", "server", "kme-1", 212),
    certificate("other_kmes[0].https_client_authentication_certificate", "client", "kme-1 to kme-2", 24),
    certificate("other_kmes[1].https_client_authentication_certificate", "client", "kme-1 to kme-3", 5),
  ],
  entropy: 7.99991,
};

const messages = Array.from({ length: 14 }, (_, i) => {
  const bytes = Array.from({ length: 16 }, () => Math.floor(chance() * 256).toString(16).padStart(2, "0"))
    .join("");
  const key = bytes.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  const [master, slave] = i % 3 === 0 ? ["2", "7"] : ["1", "3"];
  return [
    EventText.requested(master, slave),
    EventText.activating(slave, "2"),
    EventText.activated(key, master, slave),
    ...i % 2 === 0 ? [EventText.collected("1", key, "3")] : [],
  ].map((text) => ({ message: `[Alice] ${text}`, datetime: before((14 - i) * 0.7) }));
}).flat();

await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
  const { pathname } = new URL(request.url);
  if (pathname === "/events") {
    const begin = formatEvent("begin", { status, rates: last.rates, points, from: 0, messages, now });
    // Never ends: a page that lost its stream looks different.
    const body = new ReadableStream({ start: (controller) => controller.enqueue(begin) });
    return new Response(body, { headers: { "content-type": "text/event-stream" } });
  }
  const file = PAGE.get(pathname);
  return file === undefined
    ? new Response(null, { status: 404 })
    : new Response(file.text, { headers: { "content-type": file.type } });
});

if (CHROMIUM === undefined) throw new Error("chromium is not installed");
const pictures = [
  { name: "light", colorScheme: "light", viewport: { width: 1280, height: 830 } },
  { name: "dark", colorScheme: "dark", viewport: { width: 1280, height: 830 } },
  { name: "narrow", colorScheme: "light", viewport: { width: 360, height: 1500 } },
] as const;
for (const { name, ...options } of pictures) {
  const path = new URL(`../../docs/console-${name}.png`, import.meta.url).pathname;
  await using watched = await openPage(CHROMIUM, `http://127.0.0.1:${server.addr.port}`, options);
  await watched.page.screenshot({ path });
}
await closeBrowser();
