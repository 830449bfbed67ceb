/** Logs failures of the database at most once per period, not for every request. */
import { log } from "../log.ts";

const PERIOD_MS = 10_000;

export function storeFailureLog(now: () => number = Date.now): (error: unknown) => void {
  let last = -Infinity;
  let suppressed = 0;
  return (error) => {
    if (now() - last < PERIOD_MS) {
      suppressed++;
      return;
    }
    log("store").error("the database failed: {reason} ({suppressed} more since the last message)", {
      reason: describeStoreFailure(error),
      suppressed,
    });
    last = now();
    suppressed = 0;
  };
}

/** The message of the database, without statements and parameters. */
export function describeStoreFailure(error: unknown): string {
  const { code, message } = error as { code?: unknown; message?: unknown };
  return [code, message].filter((part) => typeof part === "string" && part !== "").join(" ") || String(error);
}
