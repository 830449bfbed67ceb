/** A real browser without a window for the console's page. */
import assert from "node:assert/strict";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { findProgram, testWith } from "../harness/installed.ts";

const ARGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export const CHROMIUM = findProgram("/usr/bin/chromium", "/usr/bin/chromium-browser");

let shared: Promise<Browser> | undefined;

/** The browser that the tests of a file share. */
export function browser(executablePath: string): Promise<Browser> {
  return shared ??= chromium.launch({ executablePath, args: ARGS });
}

/** Ends the browser; for `Deno.test.afterAll`. */
export async function closeBrowser(): Promise<void> {
  await (await shared)?.close();
  shared = undefined;
}

export interface WatchedPage extends AsyncDisposable {
  readonly page: Page;
  /** Errors and warnings on the browser's console; a test may remove those that it causes. */
  readonly complaints: string[];
  /** Requests to other origins, including blocked ones. */
  readonly otherOrigins: string[];
}

/**
 * Opens the console's page. When it is closed, there must have been no error or warning, and no request to another origin
 * than `origin`.
 */
export async function openPage(
  executablePath: string,
  origin: string,
  options: BrowserContextOptions = {},
): Promise<WatchedPage> {
  const context = await (await browser(executablePath)).newContext({
    viewport: { width: 1280, height: 860 },
    ...options,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  const complaints: string[] = [];
  const otherOrigins: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("dialog", (dialog) => complaints.push(`dialog: ${dialog.message()}`));
  context.on("request", (request) => {
    if (new URL(request.url()).origin !== origin) otherOrigins.push(request.url());
  });
  await page.goto(`${origin}/`);
  await page.locator("#links li").first().waitFor();
  return {
    page,
    complaints,
    otherOrigins,
    async [Symbol.asyncDispose]() {
      await context.close();
      assert.deepEqual(complaints, []);
      assert.deepEqual(otherOrigins, []);
    },
  };
}

/** Registers a test that needs the browser. */
export function browserTest(name: string, fn: (executablePath: string) => Promise<void>): void {
  testWith(CHROMIUM, "chromium is not installed", name, fn);
}
