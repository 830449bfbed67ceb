/** The console's page in a real browser, served by real KMEs. */
import assert from "node:assert/strict";
import { eventually } from "../harness/eventually.ts";
import type { KmeProcess } from "../harness/kme_process.ts";
import { keyIdsOf } from "../harness/sae_client.ts";
import { makeTestNetwork, type TestNetwork } from "../harness/test_network.ts";
import { RustKme } from "../inter_kme/rust_kme.ts";
import { browserTest, CHROMIUM, closeBrowser, openPage } from "./browser.ts";
import { contrasts } from "./contrast.ts";

const HOSTILE = `<img src=x onerror="document.title='taken over'"><b>Alice</b>`;

let network: TestNetwork;
let kmes: KmeProcess[];
let origin: string;

if (CHROMIUM !== undefined) {
  Deno.test.beforeAll(async () => {
    network = await makeTestNetwork({
      kmes: [
        { id: 1, nickname: HOSTILE, saes: [1, 2], console: true, database: "sqlite" },
        { id: 2, saes: [3], database: "sqlite" },
      ],
    });
    await network.writeKeyFile(1, 2, 1000);
    await network.writeKeyFile(1, 1, 50);
    kmes = await network.startAll();
    origin = `http://127.0.0.1:${network.kme(1).consolePort}`;
  });
  Deno.test.afterAll(async () => {
    await closeBrowser();
    await network?.remove();
  });
}

/** Delivers keys from SAE 1 to SAE 3; returns their key_IDs. */
async function deliver(number: number): Promise<string[]> {
  const response = await network.client(1).encKeys(3, { number });
  assert.equal(response.status, 200, response.text);
  return response.json.keys.map(({ key_ID }: { key_ID: string }) => key_ID);
}

const linkTo = (kme: string) => `#links li[data-key="${kme}"]`;

browserTest("an event appears on the page without a reload", async (chromium) => {
  await using watched = await openPage(chromium, origin);
  const { page } = watched;
  await page.evaluate(() => Object.assign(globalThis, { notReloaded: true }));
  const [keyId] = await deliver(1);
  const entry = page.locator("#log > li", { hasText: `Key ${keyId} activated between SAEs 1 and 3` });
  await entry.waitFor();
  assert.ok(await page.evaluate(() => "notReloaded" in globalThis));
  assert.match((await page.locator("#log > li time").first().textContent())!, /^\d\d:\d\d:\d\d$/);
});

browserTest(
  "two certificates of one member and serial are two rows, however often they are shown",
  async (chromium) => {
    await using watched = await openPage(chromium, origin);
    const rows = await watched.page.evaluate(async (base) => {
      const { showCertificates } = await import(`${base}/certificates.js`);
      // deno-lint-ignore no-explicit-any
      const body = (globalThis as any).document.createElement("tbody");
      const one = {
        member: "m",
        serial: "1",
        subject: "s",
        use: "u",
        daysLeft: 9,
        notAfter: "2030-01-01T00:00:00Z",
      };
      const counts = [];
      for (const certificates of [[one, one], [one, one], [one, one, one], [one]]) {
        showCertificates(body, { status: { certificates } });
        counts.push(body.children.length);
      }
      return counts;
    }, origin);
    assert.deepEqual(rows, [2, 2, 3, 1]);
  },
);

browserTest("a hostile nickname stays text", async (chromium) => {
  await using watched = await openPage(chromium, origin);
  const { page } = watched;
  await deliver(1);
  await page.locator("#log > li").first().waitFor();
  assert.equal(await page.locator("#nickname").textContent(), HOSTILE);
  assert.equal(await page.title(), `${HOSTILE}: KME 1`);
  assert.equal(await page.locator("img, b").count(), 0);
});

browserTest("the page's policy runs nothing that is not a file of the console", async (chromium) => {
  await using watched = await openPage(chromium, origin);
  const { page, complaints, otherOrigins } = watched;
  let visitors = 0;
  await using other = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, () => {
    visitors++;
    return new Response();
  });
  const ran = await page.evaluate(async (url) => {
    const { document } = globalThis as unknown as { document: Record<string, unknown> & { body: unknown } };
    // deno-lint-ignore no-explicit-any
    const page = document as any;
    const inline = page.createElement("script");
    try {
      inline.textContent = "document.title = 'inline'";
      page.body.append(inline);
    } catch {
      // Refused before it is in the page.
    }
    try {
      page.body.innerHTML = "<p>replaced</p>";
    } catch {
      // Refused.
    }
    const image = page.createElement("img");
    image.src = url;
    page.body.append(image);
    await new Promise((resolve) => image.onerror = resolve);
    image.remove();
    return page.title;
  }, `http://127.0.0.1:${other.addr.port}/other.png`);
  assert.doesNotMatch(ran, /inline/);
  assert.equal(await page.locator("#links").count(), 1);
  assert.ok(complaints.some((complaint) => /Content Security Policy/.test(complaint)), complaints.join("\n"));
  complaints.length = 0;
  assert.equal(visitors, 0);
  otherOrigins.length = 0;
});

browserTest("the stock's number and chart move when keys are delivered and ingested", async (chromium) => {
  await using watched = await openPage(chromium, origin);
  const { page } = watched;
  const card = page.locator(linkTo("2"));
  const stock = async () => Number((await card.locator(".free strong").textContent())!.replaceAll(",", ""));
  const line = () => card.locator("path.line").getAttribute("d");
  const before = await stock();
  const drawn = await line();
  assert.ok(drawn!.startsWith("M"), drawn!);
  await deliver(100);
  await eventually(async () => await stock() === before - 100, { what: "100 blocks less" });
  assert.notEqual(await line(), drawn);
  const lower = await line();
  await network.writeKeyFile(1, 2, 3000);
  await eventually(async () => await stock() === before + 2900, { what: "3000 blocks more" });
  assert.notEqual(await line(), lower);
  const label = (await card.locator("svg").getAttribute("aria-label"))!;
  assert.match(
    label,
    new RegExp(`^Stock of KME 2 in the last hour: ${(before + 2900).toLocaleString("en")} blocks`),
  );
  assert.match((await card.locator(".file").textContent())!, /^keys-000003\.cor, \d+ s ago$/);
  assert.notEqual(await page.locator(`#figures [data-key="ingested"] strong`).textContent(), "0");
});

browserTest("the filter shows the events that match, and Escape all of them again", async (chromium) => {
  await using watched = await openPage(chromium, origin);
  const { page } = watched;
  const [keyId] = await deliver(1);
  await page.locator("#log > li", { hasText: keyId! }).waitFor();
  const all = await page.locator("#log > li").count();
  const filter = page.getByRole("searchbox", { name: "Filter the events by text" });
  await filter.fill(keyId!.toUpperCase());
  await eventually(async () => await page.locator("#log > li").count() === 1);
  const kept = async () =>
    Number(/^1 of (\d+) match$/.exec((await page.locator("#shown").textContent())!)?.[1]);
  const before = await kept();
  // New events are filtered too; one key is one entry.
  const [other] = await deliver(1);
  await eventually(async () => await kept() === before + 1, { what: "one entry more" });
  assert.equal(await page.locator("#log > li").count(), 1);
  await filter.press("Escape");
  await page.locator("#log > li", { hasText: other! }).waitFor();
  assert.ok(await page.locator("#log > li").count() > all);
});

browserTest("held events are shown when they are let go", async (chromium) => {
  await using watched = await openPage(chromium, origin);
  const { page } = watched;
  const hold = page.getByRole("button", { name: "Hold" });
  await hold.click();
  assert.equal(await hold.getAttribute("aria-pressed"), "true");
  const [keyId] = await deliver(1);
  const figure = page.locator(`#figures [data-key="delivered"] strong`);
  await eventually(async () => await figure.textContent() !== "0");
  assert.equal(await page.locator("#log > li", { hasText: keyId! }).count(), 0);
  await hold.click();
  await page.locator("#log > li", { hasText: keyId! }).waitFor();
});

browserTest("everything can be reached and seen with the keyboard", async (chromium) => {
  await using watched = await openPage(chromium, origin);
  const { page } = watched;
  const reached: string[] = [];
  const expected = [
    "Skip to the events",
    "own SAEs",
    "KME 2",
    "15 min",
    "1 h",
    "24 h",
    "Stock of own pool",
    "Stock of KME 2",
    "kind",
    "filter",
    "hold",
    "events-title",
    "Keys per second",
    "Latency of enc_keys",
    "Latency of dec_keys",
    "Latency of activation at a peer",
    "Refused requests per minute",
    "files-title",
    "certificates-title",
    "status",
  ];
  for (const _ of expected) {
    await page.keyboard.press("Tab");
    const focus = await page.evaluate(() => {
      // deno-lint-ignore no-explicit-any
      const { document, getComputedStyle } = globalThis as any;
      const element = document.activeElement;
      const { outlineStyle, outlineWidth } = getComputedStyle(element);
      const box = element.getBoundingClientRect();
      return {
        name: element.id || element.getAttribute("aria-labelledby") ||
          (element.getAttribute("aria-label") ?? element.querySelector(".name")?.textContent ??
            element.textContent.trim()).split(" in the last")[0],
        visible: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 && box.width > 0 && box.top > -10,
      };
    });
    assert.ok(focus.visible, `no visible focus on ${focus.name}`);
    reached.push(focus.name);
  }
  assert.deepEqual(reached, expected);

  await page.locator("body").click({ position: { x: 2, y: 2 } });
  await page.keyboard.press("/");
  assert.equal(await page.evaluate("document.activeElement.id"), "filter");
  await page.keyboard.type("a/b");
  assert.equal(await page.locator("#filter").inputValue(), "a/b");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Space");
  assert.equal(await page.locator("#hold").getAttribute("aria-pressed"), "true");
});

browserTest("the page has landmarks, headings and names", async (chromium) => {
  await using watched = await openPage(chromium, origin);
  const { page } = watched;
  for (
    const name of [
      "Topology",
      "Current values",
      "Links",
      "Events",
      "Requests",
      "Key files",
      "SAEs of this KME",
      "Certificates",
    ]
  ) {
    await page.getByRole("heading", { name, exact: true }).waitFor({ state: "attached" });
  }
  await page.getByRole("banner").waitFor();
  await page.getByRole("main").waitFor();
  await page.getByRole("columnheader", { name: "Days left" }).first().waitFor();
  await page.getByRole("rowheader", { name: /this_kme\.saes_https_interface\.server_cert_path/ }).waitFor();
  await page.getByRole("img", { name: /^Stock of KME 2/ }).waitFor();
  assert.equal(await page.getAttribute("html", "lang"), "en");
});

for (const colorScheme of ["light", "dark"] as const) {
  browserTest(`every text of the ${colorScheme} page has a contrast of 4.5 or more`, async (chromium) => {
    await using watched = await openPage(chromium, origin, { colorScheme });
    const { page } = watched;
    await deliver(1);
    await page.locator("#log > li").first().waitFor();
    const found = await contrasts(page);
    assert.ok(found.length > 30, `${found.length} texts`);
    assert.deepEqual(found.filter(({ contrast }) => contrast < 4.5), []);
    // Otherwise both schemes would look the same.
    const background = await page.evaluate("getComputedStyle(document.body).backgroundColor");
    assert.match(String(background), colorScheme === "light" ? /^rgb\(2/ : /^rgb\(1/);
  });
}

browserTest("a page of 360 pixels needs no scrolling to the side", async (chromium) => {
  await using watched = await openPage(chromium, origin, { viewport: { width: 360, height: 740 } });
  const { page } = watched;
  // More than are seen at once.
  await deliver(30);
  await page.locator("#log > li").nth(29).waitFor({ state: "attached" });
  assert.equal(await page.evaluate("document.documentElement.scrollWidth"), 360);
  // Events have a height of their own, below the links.
  const links = (await page.locator("#links").boundingBox())!;
  const log = (await page.locator(".events").boundingBox())!;
  assert.ok(log.y >= links.y + links.height && log.height < 500, `${log.y} ${log.height}`);
  for (
    const selector of [
      "#verdict",
      "#topology",
      "#figures",
      linkTo("2"),
      "#filter",
      "#log",
      "#trends",
      "#files",
      "#certificates",
    ]
  ) {
    const box = (await page.locator(selector).boundingBox())!;
    assert.ok(box.x >= 0 && box.x + box.width <= 360, `${selector} is outside`);
  }
  const tables = await page.locator(".certificates .scroll").evaluate((element) => {
    const { scrollWidth, clientWidth } = element as unknown as { scrollWidth: number; clientWidth: number };
    return scrollWidth - clientWidth;
  });
  assert.equal(tables, 0);
});

browserTest("a peer that goes down is shown, and one that comes back", async (chromium) => {
  await using watched = await openPage(chromium, origin);
  const { page } = watched;
  const chip = page.locator(`${linkTo("2")} .chip`);
  const verdict = page.locator("#verdict-words");
  await deliver(1);
  await eventually(async () => /^up/.test((await chip.textContent())!));
  await kmes[1]!.stop();
  await network.client(1).encKeys(3);
  await eventually(async () => /^down/.test((await chip.textContent())!));
  const error = page.locator(`${linkTo("2")} .error:not(.unmatched)`);
  assert.notEqual(await error.textContent(), "");
  assert.match((await verdict.textContent())!, /^Keys can be delivered for own SAEs, but not for KME 2$/);
  const problem = page.locator("#problems li", { hasText: "KME 2 does not answer" });
  assert.match((await problem.textContent())!, /since \d\d:\d\d:\d\d \(\d+ s\)$/);
  await page.locator("#log > li.incident", { hasText: "SAE 1: GET /api/v1/keys/3/enc_keys: 503" }).waitFor();
  kmes[1] = await network.start(2);
  await deliver(1);
  await eventually(async () => /^up/.test((await chip.textContent())!));
  assert.equal(await error.isVisible(), false);
  assert.match((await verdict.textContent())!, /^Keys can be delivered on all links in use/);
  assert.equal(await problem.count(), 0);
});

browserTest(
  "a file that only one end has is shown at its link by name, until the other end has it",
  async (chromium) => {
    await using watched = await openPage(chromium, origin);
    const { page } = watched;
    const difference = page.locator(`${linkTo("2")} .unmatched`);
    const problem = page.locator("#problems li", { hasText: "are at one end only" });
    const bytes = crypto.getRandomValues(new Uint8Array(7 * 32));
    const put = async (from: number, to: number) => {
      const path = `${network.keyDirectory(from, to)}/one-end.cor`;
      await Deno.writeFile(`${path}.part`, bytes);
      await Deno.rename(`${path}.part`, path);
    };
    // This KME has none of its blocks, so it has no row for them either.
    await put(2, 1);
    await eventually(
      async () => await difference.textContent() === "7 blocks are at one end only: one-end.cor",
      { what: "the difference", timeout: 60_000 },
    );
    assert.ok(await difference.isVisible());
    const card = page.locator(linkTo("2"));
    const border = () =>
      // deno-lint-ignore no-explicit-any
      card.evaluate((element) => (globalThis as any).getComputedStyle(element).borderTopColor);
    const red = await border();
    assert.equal(await card.getAttribute("data-state"), "differs");
    await eventually(async () => /one-end\.cor/.test((await problem.textContent())!), { timeout: 60_000 });
    await page.locator("#log > li.incident", { hasText: "different blocks: one-end.cor" }).waitFor();
    await put(1, 2);
    await eventually(async () => !await difference.isVisible(), { what: "agreement", timeout: 60_000 });
    await page.locator("#log > li.incident", { hasText: "have the same blocks again" }).waitFor();
    assert.equal(await card.getAttribute("data-state"), "");
    assert.notEqual(await border(), red);
  },
);

browserTest("the events of a key are the details of one entry", async (chromium) => {
  await using watched = await openPage(chromium, origin);
  const { page } = watched;
  const [keyId] = await deliver(1);
  const entry = page.locator("#log > li", { hasText: keyId! });
  await entry.waitFor();
  assert.equal(await entry.count(), 1);
  const details = entry.locator(".details li");
  assert.equal(await details.first().isVisible(), false);
  await page.locator(".events .scroll").focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  assert.deepEqual(await details.locator("span").allTextContents(), [
    `[${HOSTILE}] SAE 1 requested a key to communicate with 3`,
    `[${HOSTILE}] As SAE 3 belongs to KME 2, activating it through inter KMEs network`,
    `[${HOSTILE}] Key ${keyId} activated between SAEs 1 and 3`,
  ]);
  // It stays open when another event comes. The request of a key is no entry of its own.
  const kept = async () => parseInt((await page.locator("#shown").textContent())!);
  const before = await kept();
  const [other] = await deliver(1);
  await page.locator("#log > li", { hasText: other! }).waitFor();
  assert.equal(await kept(), before + 1);
  assert.equal(await details.first().isVisible(), true);
});

browserTest("a chart shows its values by keyboard and on hover, over the chosen time", async (chromium) => {
  await using watched = await openPage(chromium, origin);
  const { page } = watched;
  const chart = page.locator(`${linkTo("2")} .plot`);
  const readout = page.locator(`${linkTo("2")} .readout`);
  assert.match((await readout.textContent())!, /^now: [\d,]+$/);
  await chart.focus();
  await page.keyboard.press("Home");
  assert.match((await readout.textContent())!, /^\d\d:\d\d:\d\d: [\d,]+$/);
  await page.keyboard.press("Escape");
  assert.match((await readout.textContent())!, /^now: /);
  const box = (await chart.boundingBox())!;
  await page.mouse.move(box.x + box.width - 2, box.y + box.height / 2);
  await eventually(async () => /^\d\d:/.test((await readout.textContent())!));
  await page.getByRole("button", { name: "24 h" }).click();
  assert.match(
    (await page.locator(`${linkTo("2")} svg`).getAttribute("aria-label"))!,
    /in the last 24 hours: /,
  );
  assert.equal(await page.getByRole("button", { name: "24 h" }).getAttribute("aria-pressed"), "true");
});

browserTest("latency, refused requests, key files and SAEs are shown", async (chromium) => {
  await using watched = await openPage(chromium, origin);
  const { page } = watched;
  const [keyId] = await deliver(1);
  assert.equal((await network.client(3).decKeys(1, [keyId!])).status, 200);
  assert.equal((await network.client(1).encKeys(3, { number: 0 })).status, 400);
  const own = await network.client(1).encKeys(2);
  assert.equal((await network.client(2).decKeys(1, keyIdsOf(own))).status, 200);
  for (const measured of ["enc_keys", "dec_keys", "activation"]) {
    const summary = page.locator(`#trends [data-key="${measured}"] .summary`);
    const form = /^p50 [\d.]+ m?s, p99 [\d.]+ m?s, [1-9]\d* in all$/;
    await eventually(async () => form.test((await summary.textContent())!), {
      what: `the latency of ${measured}`,
      timeout: 20_000,
    });
  }
  await page.locator("#reasons tr", { hasText: "invalid request" }).waitFor();
  await page.locator("#files tr", { hasText: "keys-000001.cor" }).first().waitFor();
  await page.locator("#saes tr", { hasText: "SAE 1" }).waitFor();
  assert.match((await page.locator("#saes tr").first().textContent())!, /^1 dSAE 1\d+ s ago$/);
});

browserTest("the page shows the audit log, and which limits SAEs have reached", async (chromium) => {
  await using other = await makeTestNetwork({
    kmes: [{ id: 1, saes: [1, 2], console: true }],
    edit: ({ this_kme, saes }) => {
      const directory = `${this_kme.key_directory_to_watch}/audit`;
      Deno.mkdirSync(directory);
      this_kme.audit_log = { directory };
      saes.find(({ id }) => id === 1)!.max_waiting_keys = 1;
    },
  });
  await other.writeKeyFile(1, 1, 5);
  await other.start(1);
  await using watched = await openPage(chromium, `http://127.0.0.1:${other.kme(1).consolePort}`);
  const { page } = watched;
  await page.locator("#audit", { hasText: /^audit log: chain 1, record \d+, hash [0-9a-f]{13}…$/ }).waitFor();
  assert.ok(await page.locator("#limited").isHidden());
  assert.equal((await other.client(1).encKeys(2, { number: 2 })).status, 503);
  const limits = "Refused since the start because of limits: SAE 1 max_waiting_keys (1)";
  await page.locator("#limited", { hasText: limits }).waitFor();
  await Deno.remove(other.kme(1).config.this_kme.audit_log.directory, { recursive: true });
  await page.locator("#audit", { hasText: "cannot be written" }).waitFor();
  await page.locator("#problems", { hasText: "the audit log cannot be written" }).waitFor();
});

browserTest("blocks that a qkd_kme_server refused or may have used are shown", async (chromium) => {
  await using other = await makeTestNetwork({
    kmes: [{ id: 1, saes: [1], console: true, options: { inter_kme_timeout_seconds: 2 } }, {
      id: 2,
      saes: [3],
    }],
  });
  const missing = await other.writeKeyFile(1, 2, 20, { name: "a-missing.cor" });
  const both = await other.writeKeyFile(1, 2, 40, { name: "both.cor" });
  await using peer = await RustKme.start(other, 2, both);
  await other.start(1);
  await using watched = await openPage(chromium, `http://127.0.0.1:${other.kme(1).consolePort}`);
  const { page } = watched;
  const client = other.client(1);
  await eventually(async () => {
    const { status } = await client.encKeys(3, { number: 12 });
    return status === 200;
  }, { what: "keys of the blocks that it has" });
  assert.ok(missing.every((id) => !peer.activated.has(id)));
  const refused = /stock: KME 2 refused \d+ blocks, which are tried again later: blocks of a-missing\.cor/;
  await page.locator("#log > li.incident", { hasText: refused }).waitFor();
  // Whether it has activated them is not known.
  peer.react = ({ path }) => path === "/keys/activate" ? "hang up" : undefined;
  assert.equal((await client.encKeys(3, { number: 3 })).status, 503);
  const burnt = page.locator(`#figures [data-key="burnt"] strong`);
  await eventually(async () => Number(await burnt.textContent()) >= 3, { what: "burnt blocks" });
});

browserTest("an empty pool that was never used is not red", async (chromium) => {
  await using other = await makeTestNetwork({ kmes: [{ id: 1, saes: [1], console: true }] });
  await other.start(1);
  await using watched = await openPage(chromium, `http://127.0.0.1:${other.kme(1).consolePort}`);
  const { page } = watched;
  const card = page.locator(linkTo("1"));
  assert.equal(await card.locator(".chip").textContent(), "not used");
  assert.equal(await card.getAttribute("data-state"), "");
  assert.equal(await page.locator("#verdict").getAttribute("data-state"), "warn");
  assert.equal((await other.client(1).encKeys(1)).status, 503);
  await eventually(async () => await card.getAttribute("data-state") === "empty");
  await eventually(async () => await page.locator("#verdict").getAttribute("data-state") === "bad");
  await page.locator("#problems li", { hasText: "no blocks left" }).waitFor();
});

browserTest(
  "the page shows that its KME is gone, and continues by itself when it is back",
  async (chromium) => {
    await using watched = await openPage(chromium, origin);
    const { page, complaints } = watched;
    await page.evaluate(() => Object.assign(globalThis, { notReloaded: true }));
    await kmes[0]!.stop();
    await page.getByRole("alert").waitFor();
    assert.match((await page.getByRole("alert").textContent())!, /^No connection since \d\d:\d\d:\d\d/);
    assert.equal(await page.locator("#connection").textContent(), "not connected");
    kmes[0] = await network.start(1);
    await page.getByRole("alert").waitFor({ state: "hidden" });
    const [keyId] = await deliver(1);
    await page.locator("#log > li", { hasText: keyId! }).first().waitFor();
    assert.ok(await page.evaluate(() => "notReloaded" in globalThis));
    // The browser reports failed connections.
    const others = complaints.filter((complaint) =>
      !/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED/.test(complaint)
    );
    complaints.splice(0, complaints.length, ...others);
  },
);
