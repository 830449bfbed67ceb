/**
 * Takes the pictures of the console in docs/, with made-up data:
 * `deno run -A tests/console/screenshots.ts`
 */
import { EventText } from "../../src/events/events.ts";
import { formatEvent } from "../../src/console/event_stream.ts";
import type { Buckets, Point } from "../../src/console/history.ts";
import { PAGE } from "../../src/console/page.ts";
import { DURATION_BOUNDS } from "../../src/metrics/histogram.ts";
import type { KmeStatus } from "../../src/metrics/kme_status.ts";
import { VERSION } from "../../src/version.ts";
import { CHROMIUM, closeBrowser, openPage } from "./browser.ts";

const now = Date.now();
const before = (seconds: number) => new Date(now - seconds * 1000).toISOString();
const inDays = (days: number) => new Date(now + days * 86_400_000).toISOString();

/** Pseudo-random, so that every run makes the same pictures. */
let seed = 1;
function random(): number {
  seed = seed * 48271 % 2147483647;
  return seed / 2147483647;
}

/** Buckets of `count` durations around `seconds`. */
function durations(count: number, seconds: number): Buckets {
  const buckets = new Map<number, number>();
  for (let i = 0; i < count; i++) {
    const duration = seconds * (0.7 + random() * 0.8 + (random() < 0.03 ? 3 : 0));
    const bucket = DURATION_BOUNDS.findIndex((bound) => duration <= bound);
    buckets.set(bucket, (buckets.get(bucket) ?? 0) + 1);
  }
  return [...buckets].sort(([a], [b]) => a - b);
}

/** An hour of three links: one has ample stock, one depends on each key file, one runs empty if the KME fails. */
function hour(failing: boolean): Point[] {
  const points: Point[] = [];
  let [own, second, third] = [8200, 41_000, failing ? 4100 : 25_200];
  for (let i = 0; i < 360; i++) {
    const load = 1 + Math.sin(i / 55) / 2 + random() / 3;
    const down = failing && i > 325;
    const fileSecond = i % 60 === 20 ? 16_384 : 0;
    const fileOwn = i === 180 ? 4096 : 0;
    own += fileOwn - Math.round(14 * load);
    second += fileSecond - (down ? 0 : Math.round(250 * load));
    third = Math.max(0, third - Math.round(13 * load));
    const delivered = Math.round((down ? 14 : 277) * load);
    points.push({
      at: now - (359 - i) * 10_000,
      seconds: 10,
      free: { 1: own, 2: second, 3: third },
      delivered,
      collected: Math.round(delivered * 0.95 + random()),
      ingested: fileOwn + fileSecond,
      burnt: 0,
      refused: down
        ? { "sae peer": Math.round(200 * load), "sae out_of_keys": Math.round(12 * load) }
        : random() < 0.02
        ? { "sae invalid": 1 }
        : {},
      durations: {
        enc_keys: durations(delivered, 0.004),
        dec_keys: durations(delivered, 0.0012),
        activation: down ? [] : durations(delivered, 0.003),
      },
    });
  }
  return points;
}

const certificate = (
  member: string,
  use: KmeStatus["certificates"][number]["use"],
  name: string,
  days: number,
): KmeStatus["certificates"][number] => ({
  member,
  use,
  subject: `CN=${name}, O=sample`,
  serial: `${member}${name}`,
  notBefore: inDays(days - 365),
  notAfter: inDays(days + 0.5),
  daysLeft: days,
});

function statusAt(point: Point, failing: boolean): KmeStatus {
  const file = (name: string, seconds: number, stored: number, error: string | null = null) => ({
    file: name,
    at: before(seconds),
    stored,
    known: 0,
    complete: error === null,
    error,
  });
  const link = (kme: string, files: ReturnType<typeof file>[], unmatched?: number) => ({
    kme,
    free: point.free[kme]!,
    max: 1_000_000,
    used: true,
    unmatched,
    comparedAt: before(9),
    unmatchedSince: unmatched ? before(2100) : null,
    unmatchedFiles: unmatched ? [{ name: "keys-20864.cor", here: unmatched, there: 0 }] : [],
    lastIngestion: (({ at, file }) => ({ at, file }))(files.find(({ stored }) => stored > 0)!),
    files,
    servedAgain: 0,
  });
  const problem = (severity: "error" | "warning", kme: string | null, what: string, seconds: number) => ({
    severity,
    link: kme,
    what,
    since: before(seconds),
  });
  const refused = file("keys-00932.cor", 1260, 0, "not readable: permission denied");
  return {
    kme: "1",
    nickname: "Alice",
    version: VERSION,
    ready: true,
    reason: null,
    since: before(1_071_000),
    delivery: failing
      ? {
        links: "some",
        problems: [
          problem(
            "error",
            "2",
            "KME 2 does not answer, nor can KME 5 be reached through it: no connection within 10 s",
            340,
          ),
          problem("error", "3", "no blocks left in the link with KME 3", 655),
          problem(
            "warning",
            "2",
            "128 blocks of the link with KME 2 are at one end only (128 here, 0 there): keys-20864.cor",
            2100,
          ),
          problem(
            "warning",
            "3",
            "key file keys-00932.cor of the link with KME 3 was not ingested: not readable: permission denied",
            1260,
          ),
          problem(
            "warning",
            null,
            "the certificate of other_kmes[1].https_client_authentication_certificate expires in 5 days",
            86_000,
          ),
        ],
      }
      : { links: "all", problems: [] },
    uptime: 1_071_000,
    links: [
      link("1", [file("local-0412.cor", 1790, 4096)]),
      link(
        "2",
        [file("keys-20867.cor", 390, 16_384), file("keys-20866.cor", 990, 16_384)],
        failing ? 128 : 0,
      ),
      link("3", [...failing ? [refused] : [], file("keys-00931.cor", 7460, 8192)], 0),
    ],
    relayed: [{ kme: "5", through: "2" }],
    saes: [
      { sae: "1", lastSeen: before(1), certificateDaysLeft: 131 },
      { sae: "2", lastSeen: before(4), certificateDaysLeft: 24 },
      { sae: "router-7", lastSeen: null, certificateDaysLeft: null },
    ],
    burnt: failing ? 24 : 0,
    keysWaiting: 214,
    peers: [
      failing
        ? { kme: "2", up: false, since: before(340), lastError: "no connection within 10 s" }
        : { kme: "2", up: true, since: before(1_070_000), lastError: null },
      { kme: "3", up: true, since: before(90_000), lastError: null },
    ],
    certificates: [
      certificate("this_kme.saes_https_interface.server_cert_path", "server", "kme-1", 212),
      certificate("this_kme.saes_https_interface.ca_client_cert_path", "client CA", "zone 1 CA", 1912),
      certificate("this_kme.kmes_https_interface.server_cert_path", "server", "kme-1", 212),
      certificate("other_kmes[0].https_client_authentication_certificate", "client", "kme-1 to kme-2", 64),
      certificate(
        "other_kmes[1].https_client_authentication_certificate",
        "client",
        "kme-1 to kme-3",
        failing ? 5 : 64,
      ),
    ],
    storeEncrypted: true,
    entropy: 7.99991,
  };
}

function messages() {
  return Array.from({ length: 24 }, (_, i) => {
    const bytes = Array.from({ length: 16 }, () => Math.floor(random() * 256).toString(16).padStart(2, "0"))
      .join("");
    const keyId = bytes.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
    const [master, slave] = i % 3 === 0 ? ["2", "7"] : ["1", "3"];
    const datetime = before((24 - i) * 0.7);
    const event = (text: string, about: object) => ({ message: `[Alice] ${text}`, datetime, ...about });
    return [
      event(EventText.requested(master, slave), { request: i }),
      event(EventText.activating(slave, "3"), { request: i }),
      event(EventText.activated(keyId, master, slave), { request: i, keyId }),
      ...i % 2 === 0 ? [event(EventText.collected("1", keyId, "3"), { keyId })] : [],
    ];
  }).flat();
}

const incidents = [
  [
    "stock",
    "warning",
    "the ends of the link with KME 2 have different blocks: keys-20864.cor (128 here, 0 there only)",
    2095,
    2095,
    1,
  ],
  ["neighbour", "error", "KME 2 is unreachable: no connection within 10 s", 340, 340, 1],
  [
    "refused request",
    "warning",
    "SAE 1: GET /api/v1/keys/3/enc_keys: 503 the keys cannot be activated on every slave's KME",
    338,
    1,
    6902,
  ],
  [
    "refused request",
    "warning",
    "SAE 2: POST /api/v1/keys/7/enc_keys: 503 not enough keys are in stock",
    655,
    2,
    412,
  ],
  ["reload", "info", "the configuration was reloaded: certificates and 9 SAEs", 52_000, 52_000, 1],
].map(([kind, severity, message, first, last, count], id) => ({
  id,
  number: id,
  kind,
  severity,
  message,
  first: before(first as number),
  last: before(last as number),
  count,
}));

function serve(failing: boolean) {
  const fine = hour(failing);
  const last = fine.at(-1)!;
  const begin = formatEvent("begin", {
    status: statusAt(last, failing),
    live: last,
    fine,
    coarse: [],
    bounds: DURATION_BOUNDS,
    incidents: failing ? incidents : incidents.slice(-1),
    from: 0,
    messages: messages(),
    now,
  });
  return Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
    const { pathname } = new URL(request.url);
    if (pathname === "/events") {
      // Never ends: a page that lost its stream looks different.
      const body = new ReadableStream({ start: (controller) => controller.enqueue(begin) });
      return new Response(body, { headers: { "content-type": "text/event-stream" } });
    }
    const file = PAGE.get(pathname);
    return file === undefined
      ? new Response(null, { status: 404 })
      : new Response(file.text, { headers: { "content-type": file.type } });
  });
}

if (CHROMIUM === undefined) throw new Error("chromium is not installed");
const wide = { width: 1280, height: 1180 };
const narrow = { width: 360, height: 1900 };
const pictures = [
  { name: "light", failing: false, colorScheme: "light", viewport: wide },
  { name: "dark", failing: false, colorScheme: "dark", viewport: wide },
  { name: "narrow", failing: false, colorScheme: "light", viewport: narrow },
  { name: "failing-light", failing: true, colorScheme: "light", viewport: wide },
  { name: "failing-dark", failing: true, colorScheme: "dark", viewport: wide },
  { name: "failing-narrow", failing: true, colorScheme: "light", viewport: narrow },
] as const;
const directory = Deno.args[0] ?? new URL("../../docs/", import.meta.url).pathname;
for (const { name, failing, ...options } of pictures) {
  await using server = serve(failing);
  await using watched = await openPage(CHROMIUM, `http://127.0.0.1:${server.addr.port}`, options);
  await watched.page.screenshot({
    path: `${directory}/console-${name}.png`,
    fullPage: Deno.args[1] === "whole",
  });
}
await closeBrowser();
