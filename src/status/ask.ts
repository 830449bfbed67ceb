/** Asks a running KME how it is. */
import { formatHostPort } from "../config/address.ts";
import type { HostPort } from "../config/config.ts";
import { type KmeStatus, kmeStatusSchema } from "../console/status.ts";
import { explain } from "../peer/connect.ts";

const PATIENCE_MS = 5000;

/** Bytes of an answer: far more than a KME of any size says. */
const MAX_BYTES = 16 * 1024 * 1024;

/**
 * @param listen address of its console as configured.
 * @throws Error with one line.
 */
export async function askStatus(listen: HostPort): Promise<KmeStatus> {
  const address = formatHostPort(reachable(listen));
  let text: string;
  try {
    const response = await fetch(`http://${address}/status`, { signal: AbortSignal.timeout(PATIENCE_MS) });
    if (response.status !== 200) {
      await response.body?.cancel();
      throw new Error(`status ${response.status}`);
    }
    if (Number(response.headers.get("content-length") ?? 0) > MAX_BYTES) {
      await response.body?.cancel();
      throw new Error("too long an answer");
    }
    text = await response.text();
  } catch (error) {
    throw new Error(`no KME answers at http://${address}/status (${reasonOf(error)})`);
  }
  try {
    return kmeStatusSchema.parse(JSON.parse(text));
  } catch {
    throw new Error(`what answers at http://${address}/status is not a KME of this version`);
  }
}

/** Where a listener on all addresses is called on this machine. */
export function reachable({ hostname, port }: HostPort): HostPort {
  if (hostname === "0.0.0.0") return { hostname: "127.0.0.1", port };
  return { hostname: hostname === "::" ? "::1" : hostname, port };
}

function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  if (error instanceof DOMException && error.name === "TimeoutError") {
    return `not within ${PATIENCE_MS / 1000} s`;
  }
  return /connection refused/i.test(text) ? "connection refused" : explain(error);
}
