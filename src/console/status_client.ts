/** Queries the status of a running KME. */
import http from "node:http";
import https from "node:https";
import { type KmeStatus, kmeStatusSchema } from "../metrics/kme_status.ts";
import { explain } from "../tls/connect.ts";
import { formatHostPort, type HostPort } from "../domain/address.ts";
import { toOneLine } from "../domain/text.ts";

const TIME_LIMIT_MS = 5000;

/** Characters of an answer: far more than any KME sends. */
const MAX_LENGTH = 16 * 1024 * 1024;

/**
 * @param console URL of its console.
 * @throws Error with one line.
 */
export async function askStatus(console: URL): Promise<KmeStatus> {
  const url = new URL("/status", console);
  let text: string;
  try {
    const answer = await get(url);
    if (answer.status !== 200) throw new Error(`status ${answer.status}`);
    text = answer.text;
  } catch (error) {
    throw new Error(`no KME answers at ${url} (${explain(error)})`);
  }
  try {
    return kmeStatusSchema.parse(JSON.parse(text));
  } catch {
    throw new Error(`what answers at ${url} is not a KME of this version`);
  }
}

/** The address at which a listener on all addresses is reached on this machine. */
export function reachable({ hostname, port }: HostPort): HostPort {
  if (hostname === "0.0.0.0") return { hostname: "127.0.0.1", port };
  return { hostname: hostname === "::" ? "::1" : hostname, port };
}

export interface Readiness {
  readonly ready: boolean;
  /** Why it is not. */
  readonly reason?: string;
}

/**
 * Whether a KME is ready.
 *
 * @param console URL of its console.
 * @throws Error with one line when no KME answers.
 */
export async function askReady(console: URL): Promise<Readiness> {
  const url = new URL("/health/ready", console);
  try {
    const { status, text } = await get(url);
    const { ready, reason } = JSON.parse(text) ?? {};
    if (status === 200 && ready === true) return { ready };
    if (status === 503 && ready === false) return { ready, reason: toOneLine(String(reason)) };
    throw new Error(`status ${status}`);
  } catch (error) {
    const reason = error instanceof SyntaxError ? "what answers is not a KME" : explain(error);
    throw new Error(`no KME answers at ${url} (${reason})`, { cause: error });
  }
}

/** URL of a console that listens at this address. */
export function consoleUrl(listen: HostPort): URL {
  return new URL(`http://${formatHostPort(reachable(listen))}`);
}

/** Direct: a proxy of the machine is not used. */
function get(url: URL): Promise<{ status: number | undefined; text: string }> {
  return new Promise((resolve, reject) => {
    const client = url.protocol === "https:" ? https : http;
    const request = client.get(url, { agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (part: string) => {
        text += part;
        if (text.length > MAX_LENGTH) request.destroy(new Error("the answer is too long"));
      });
      response.on("error", reject);
      response.on("end", () => resolve({ status: response.statusCode, text }));
    });
    const timer = setTimeout(
      () => request.destroy(new Error(`no answer within ${TIME_LIMIT_MS / 1000} s`)),
      TIME_LIMIT_MS,
    );
    request.on("error", reject);
    request.on("close", () => clearTimeout(timer));
  });
}
