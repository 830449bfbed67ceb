/** Each failure is caused once at a running KME: the log, the metrics, the events and the page tell it, until it is over. */
import assert from "node:assert/strict";
import type { Page } from "playwright-core";
import { findProgram } from "../harness/child_process.ts";
import { eventually } from "../harness/eventually.ts";
import { testWith } from "../harness/installed.ts";
import { type KmeOptions, type KmeProcess, PROJECT_ROOT, runKme } from "../harness/kme_process.ts";
import { makeTestNetwork, type TestNetwork } from "../harness/test_network.ts";
import { KmeCaller } from "../inter_kme/rust_kme.ts";
import { put, random } from "../inter_kme/stock_network.ts";
import { type Samples, scrape } from "../metrics/scrape.ts";
import { CHROMIUM, closeBrowser, openPage } from "./browser.ts";

/** For a machine that is busy with other tests. */
const PATIENCE = 60_000;

/** A difference between the two ends is shown within a minute, and gone within seconds. */
const SHOWN = 60_000;
const GONE = 10_000;

interface Site {
  readonly network: TestNetwork;
  readonly kme: KmeProcess;
  /** Of KME 2; changed by the step that stops it. */
  neighbour: KmeProcess;
  readonly page: Page;
}

interface Failure {
  readonly what: string;
  cause(site: Site): Promise<void>;
  /** A line of the log of KME 1. */
  readonly line: RegExp;
  readonly metric: (samples: Samples) => boolean;
  /** An incident of `/incidents`, as the page shows it. */
  readonly event: RegExp;
  /** What the page shows as its state: text of elements that this selector finds. */
  readonly state: readonly (readonly [selector: string, text: RegExp])[];
  readonly more?: (site: Site) => Promise<void>;
  /** Ends it; `state` is not shown any more then. Absent: it was a single request. */
  readonly repair?: (site: Site) => Promise<void>;
  readonly afterwards?: {
    readonly within?: number;
    readonly line?: RegExp;
    readonly metric: (samples: Samples) => boolean;
    readonly event?: RegExp;
    readonly more?: (site: Site) => Promise<void>;
  };
}

const LINK = '#links li[data-key="2"]';
const refused = (labels: string) => (samples: Samples) =>
  samples.of("kme_requests_refused_total")[labels] === 1;
const refusedClient = (labels: string) => (samples: Samples) =>
  samples.of("kme_tls_refused_clients_total")[labels] === 1;

const failures: readonly Failure[] = [
  {
    what: "a refused request of an SAE",
    cause: async ({ network }) => {
      assert.equal((await network.client(1).encKeys(3, { number: 0 })).status, 400);
    },
    line: /WARNING.* the SAE interface refused a request of SAE 1: GET .*enc_keys.*: 400 invalid: /,
    metric: refused('listener="sae",status="400",reason="invalid"'),
    event: /^SAE 1: GET .*enc_keys.*: 400 /,
    state: [["#reasons tr", /SAE.*invalid request/]],
  },
  {
    what: "a refused request of a peer",
    cause: async ({ network }) => {
      using peer = new KmeCaller(network, 1, network.kme(2).interKmeClient);
      assert.equal((await peer.activate("no JSON")).status, 400);
    },
    line:
      /WARNING.* the inter-KME interface refused a request of KME 2: POST \/keys\/activate: 400 invalid: /,
    metric: refused('listener="kme",status="400",reason="invalid"'),
    event: /^KME 2: POST \/keys\/activate: 400 /,
    state: [["#reasons tr", /KME.*invalid request/]],
  },
  {
    what: "a refused client of the SAE interface",
    cause: async ({ network }) => {
      using stranger = network.client(1, { cert: undefined, key: undefined });
      assert.equal((await stranger.status(3)).status, 401);
    },
    line: /WARNING.* SAE: client 127\.0\.0\.1:\d+ refused: no client certificate/,
    metric: refusedClient('listener="sae",reason="no_certificate"'),
    event: /^SAE interface: client 127\.0\.0\.1:\d+: .*no client certificate/,
    state: [],
  },
  {
    what: "a refused client of the inter-KME interface",
    cause: async ({ network }) => {
      using stranger = new KmeCaller(network, 1, await network.issueClient(1));
      assert.equal((await stranger.activate("no JSON")).status, 401);
    },
    line: /WARNING.* inter-KME: client 127\.0\.0\.1:\d+ refused: .*not trusted/,
    metric: refusedClient('listener="kme",reason="unknown_ca"'),
    event: /^inter-KME interface: client 127\.0\.0\.1:\d+: .*not trusted/,
    state: [],
  },
  {
    what: "a handshake that fails",
    cause: async ({ network }) => {
      using connection = await Deno.connect({ hostname: "127.0.0.1", port: network.kme(1).saesPort });
      await connection.write(new TextEncoder().encode("GET / HTTP/1.1\r\nHost: kme\r\n\r\n"));
      while (await connection.read(new Uint8Array(1000)).catch(() => null) !== null) {
        /* until it is closed */
      }
    },
    line: /WARNING.* SAE: TLS handshake with 127\.0\.0\.1:\d+ failed: /,
    metric: refusedClient('listener="sae",reason="handshake"'),
    event: /^SAE interface: TLS handshake with 127\.0\.0\.1:\d+: /,
    state: [],
  },
  {
    what: "an empty link",
    cause: async ({ network }) => {
      assert.equal((await network.client(1).encKeys(3)).status, 503);
    },
    line: /WARNING.* the SAE interface refused a request of SAE 1: .*: 503 out_of_keys: /,
    metric: (samples) =>
      refused('listener="sae",status="503",reason="out_of_keys"')(samples) &&
      samples.of("kme_link_free_blocks")['kme="2"'] === 0,
    event: /^SAE 1: .*: 503 not enough keys/,
    state: [
      [
        "#problems li",
        /no blocks left in the link with KME 2/,
      ],
      [`${LINK}[data-state="empty"]`, /KME 2/],
      ['#verdict[data-state="bad"]', /Keys cannot be delivered/],
    ],
    repair: async ({ network }) => {
      await network.writeKeyFile(1, 2, 50);
      await network.writeKeyFile(1, 1, 5);
    },
    afterwards: { metric: (samples) => samples.of("kme_link_free_blocks")['kme="2"'] === 50 },
  },
  (() => {
    const only = random(7);
    const status = async ({ network }: Site) =>
      (await runKme(["status", network.kme(1).configPath], { env: { NO_COLOR: "1" } })).stdout;
    const check = async ({ network }: Site) =>
      (await runKme(["check", "--peers", network.kme(1).configPath], { env: { NO_COLOR: "1" } })).stdout;
    return {
      what: "a key file that came to one end only",
      cause: ({ network }: Site) => put(network, 1, "one-end.cor", only),
      line:
        /WARNING.* the ends of the link with KME 2 have different blocks: one-end\.cor \(7 here, 0 there only\)/,
      metric: (samples: Samples) =>
        samples.of("kme_link_unmatched_blocks")['kme="2"'] === 7 &&
        samples.of("kme_link_unmatched_since_seconds")['kme="2"']! > 0 &&
        samples.of("kme_link_free_blocks")['kme="2"'] === 50,
      event: /^the ends of the link with KME 2 have different blocks: one-end\.cor/,
      state: [
        ["#problems li", /7 blocks of the link with KME 2 are at one end only .*: one-end\.cor/],
        [`${LINK}[data-state="differs"] .unmatched`, /^7 blocks are at one end only: one-end\.cor$/],
      ] as const,
      more: async (site: Site) => {
        assert.match(await status(site), /^at one end only, KME 2: one-end\.cor \(7 here, 0 there\)$/m);
        assert.match(await check(site), /^warn .*KME 2: blocks.*one-end\.cor \(7 here, 0 there\)/m);
      },
      repair: ({ network }: Site) => put(network, 2, "one-end.cor", only),
      afterwards: {
        within: GONE,
        line: /INFO.* both ends of the link with KME 2 have the same blocks again/,
        metric: (samples: Samples) =>
          samples.of("kme_link_unmatched_blocks")['kme="2"'] === 0 &&
          samples.of("kme_link_unmatched_since_seconds")['kme="2"'] === 0 &&
          samples.of("kme_link_free_blocks")['kme="2"'] === 57,
        event: /^both ends of the link with KME 2 have the same blocks again$/,
        more: async (site: Site) => {
          assert.doesNotMatch(await status(site), /one-end\.cor \(7 here/);
          assert.match(await check(site), /^ok .*KME 2: blocks.*both ends had the same blocks at/m);
        },
      },
    };
  })(),
  {
    what: "a key file that cannot be read",
    cause: async ({ network }) => {
      const path = `${network.keyDirectory(1, 1)}/closed.cor`;
      await Deno.writeFile(`${path}.part`, random(1), { mode: 0o000 });
      await Deno.rename(`${path}.part`, path);
    },
    line: /WARNING.* closed\.cor in .* of link 1 cannot be read: .*; it is not ingested/,
    metric: (samples) => samples.of("kme_refused_files_total")['kme="1"'] === 1,
    event: /^key file closed\.cor of link 1 was not ingested: cannot be read: .*denied/i,
    state: [
      [
        "#problems li",
        /key file closed\.cor of the pool of this KME's own SAEs was not ingested: cannot be read/,
      ],
      ["#files tr", /closed\.cor/],
    ],
    repair: ({ network }) => Deno.remove(`${network.keyDirectory(1, 1)}/closed.cor`),
    afterwards: { metric: (samples) => samples.of("kme_refused_files_total")['kme="1"'] === 1 },
  },
  {
    what: "a key file that is refused",
    cause: async ({ network }) => void await put(network, 1, "zeros.cor", new Uint8Array(3200)),
    line: /WARNING.* zeros\.cor in .* of link 2 does not look random.*; it is not ingested/,
    metric: (samples) => samples.of("kme_refused_files_total")['kme="2"'] === 1,
    event: /^key file zeros\.cor of link 2 was not ingested: does not look random/,
    state: [
      ["#problems li", /key file zeros\.cor of the link with KME 2 was not ingested: does not look random/],
      ["#files tr", /zeros\.cor/],
    ],
    repair: ({ network }) => Deno.remove(`${network.keyDirectory(1, 2)}/zeros.cor`),
    afterwards: { metric: (samples) => samples.of("kme_refused_files_total")['kme="2"'] === 1 },
  },
  {
    what: "a key directory that is gone",
    cause: ({ network }) => Deno.rename(network.keyDirectory(1, 2), `${network.keyDirectory(1, 2)}-moved`),
    line: /ERROR.* Cannot read the directory .* of link 2: /,
    metric: (samples) => samples.value("kme_ready") === 0,
    event: /^no keys can be handed out: the key directory .* cannot be read/,
    state: [
      ["#problems li", /the key directory .* cannot be read/],
      ['#verdict[data-state="bad"]', /Keys cannot be delivered/],
      ['#this-kme[data-state="bad"]', /KME 1/],
    ],
    more: async ({ kme }) => {
      await kme.waitForLine(/ERROR.* no keys can be handed out: the key directory/, PATIENCE);
    },
    repair: ({ network }) => Deno.rename(`${network.keyDirectory(1, 2)}-moved`, network.keyDirectory(1, 2)),
    afterwards: {
      line: /INFO.* The directory .* of link 2 is back/,
      metric: (samples) => samples.value("kme_ready") === 1,
      event: /^keys can be handed out again$/,
    },
  },
  {
    what: "a neighbour that is down",
    cause: async ({ neighbour }) => void await neighbour.stop(),
    line: /WARNING.* KME 2 is unreachable: /,
    metric: (samples) => samples.of("kme_peer_up")['kme="2"'] === 0,
    event: /^KME 2 is unreachable: /,
    state: [
      ["#problems li", /KME 2 does not answer/],
      [`${LINK}[data-state="down"] .chip`, /^down/],
      ['#topology li[data-state="bad"]', /KME 2/],
      ['#verdict[data-state="bad"]', /but not for KME 2/],
    ],
    repair: async (site) => {
      site.neighbour = await site.network.start(2);
    },
    afterwards: {
      line: /INFO.* KME 2 is reachable again/,
      metric: (samples) => samples.of("kme_peer_up")['kme="2"'] === 1,
      event: /^KME 2 is reachable again$/,
    },
  },
  {
    what: "a reload that is refused",
    cause: async ({ network, kme }) => {
      await network.writeConfig(1, (config) => {
        config.this_kme.max_key_count = "many";
      });
      kme.signal("SIGHUP");
    },
    line: /ERROR.* was not reloaded because of its mistakes/,
    metric: (samples) => samples.of("kme_reloads_total")['outcome="refused"'] === 1,
    event: /^the configuration was not reloaded: .*max_key_count/,
    state: [],
    repair: async ({ network, kme }) => {
      await network.writeConfig(1, (config) => {
        delete config.this_kme.max_key_count;
      });
      kme.signal("SIGHUP");
    },
    afterwards: {
      line: /INFO.* was reloaded: certificates and 2 SAEs/,
      metric: (samples) => samples.of("kme_reloads_total")['outcome="applied"'] === 1,
      event: /^certificates and 2 SAEs were reloaded/,
    },
  },
];

/** Root reads every file: the KME is started without that right. */
async function withoutRights(network: TestNetwork): Promise<KmeOptions> {
  if (Deno.uid() !== 0) return {};
  const setpriv = findProgram("setpriv", ["/usr/bin"]);
  assert.ok(setpriv !== undefined, "setpriv of util-linux is not installed");
  const executable = `${network.directory}/kme`;
  const program = `${Deno.execPath()} run -A --config ${PROJECT_ROOT}deno.json ${PROJECT_ROOT}src/main.ts`;
  const drop = "--bounding-set=-dac_override,-dac_read_search --inh-caps=-all";
  await Deno.writeTextFile(executable, `#!/bin/sh\nexec ${setpriv} ${drop} ${program} "$@"\n`, {
    mode: 0o755,
  });
  return { program: { executable } };
}

const isWindows = Deno.build.os === "windows";
if (!isWindows) {
  Deno.test.afterAll(closeBrowser);
  testWith(
    CHROMIUM,
    "chromium is not installed",
    "each failure is told by the log, the metrics, the events and the page, until it is over",
    async (chromium, t) => {
      const options = { neighbour_probe_seconds: 1, inter_kme_timeout_seconds: 30 };
      await using network = await makeTestNetwork({
        kmes: [
          { id: 1, saes: [1], console: true, database: "sqlite", options },
          { id: 2, saes: [3], database: "sqlite", options },
        ],
      });
      const kme = await network.start(1, await withoutRights(network));
      const origin = `http://127.0.0.1:${network.kme(1).consolePort}`;
      await using watched = await openPage(chromium, origin);
      const { page } = watched;
      page.setDefaultTimeout(PATIENCE);
      const site: Site = { network, kme, page, neighbour: await network.start(2) };
      const metrics = async () => scrape(await (await fetch(`${origin}/metrics`)).text());
      const metricIs = (fits: (samples: Samples) => boolean, timeout: number) =>
        eventually(async () => fits(await metrics()), { what: "the metric", timeout, interval: 100 });
      await metricIs((samples) => samples.of("kme_peer_up")['kme="2"'] === 1, PATIENCE);

      const event = async (pattern: RegExp) => {
        await eventually(async () => {
          const incidents: { message: string }[] = await (await fetch(`${origin}/incidents`)).json();
          return incidents.some(({ message }) => pattern.test(message));
        }, { what: `the incident ${pattern}`, timeout: PATIENCE });
        // The kind is in front of the message.
        const shown = new RegExp(pattern.source.replace(/^\^/, ": ").replace(/\$$/, ""), pattern.flags);
        await page.locator("#log > li.incident", { hasText: shown }).first().waitFor();
      };

      for (const { what, cause, line, metric, event: told, state, more, repair, afterwards } of failures) {
        await t.step(what, async () => {
          assert.ok(!metric(await metrics()), "the metric is there without the cause");
          await cause(site);
          await metricIs(metric, SHOWN);
          await kme.waitForLine(line, PATIENCE);
          await event(told);
          for (const [selector, hasText] of state) {
            await page.locator(selector, { hasText }).first().waitFor();
          }
          await more?.(site);
          if (repair === undefined || afterwards === undefined) return;
          await repair(site);
          await metricIs(afterwards.metric, afterwards.within ?? PATIENCE);
          for (const [selector, hasText] of state) {
            await page.locator(selector, { hasText }).first().waitFor({ state: "hidden" });
          }
          if (afterwards.line !== undefined) await kme.waitForLine(afterwards.line, PATIENCE);
          if (afterwards.event !== undefined) await event(afterwards.event);
          await afterwards.more?.(site);
        });
      }
    },
  );
}
