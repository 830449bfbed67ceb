/** What commands print on stderr: plain lines, or JSON records like those of the log with `LOG_FORMAT=json`. */
import { wantsJson } from "../log/log_settings.ts";

const LEVELS = { error: "ERROR", warning: "WARN", info: "INFO" } as const;

type MessageLevel = keyof typeof LEVELS;

/** Prints one message; a closed stderr is ignored. */
export function printMessage(message: string, level: MessageLevel = "error"): void {
  const text = wantsJson()
    ? JSON.stringify({
      "@timestamp": new Date().toISOString(),
      level: LEVELS[level],
      message,
      logger: "kme.cli",
    })
    : level === "warning"
    ? `warning: ${message}`
    : message;
  try {
    Deno.stderr.writeSync(new TextEncoder().encode(`${text}\n`));
  } catch {
    // Its reader has closed it.
  }
}
