/** `LOG_LEVEL` and `LOG_FORMAT`. Separate module, so that a message can be printed before the logger is loaded. */
import type { LogLevel } from "@logtape/logtape";
import type { Parsed } from "../domain/parsed.ts";

const LEVELS: Record<string, LogLevel> = {
  trace: "trace",
  debug: "debug",
  info: "info",
  warn: "warning",
  warning: "warning",
  error: "error",
  fatal: "fatal",
};

/** Parts of the program that have a logger of their own. */
const ROOMS = [
  "audit",
  "cli",
  "config",
  "console",
  "delivery",
  "event",
  "http",
  "ingest",
  "inter_kme",
  "kme",
  "metrics",
  "reload",
  "rollback_guard",
  "store",
  "tls",
] as const;

export type Room = typeof ROOMS[number];

export interface LogSettings {
  readonly json: boolean;
  /** Level of all rooms that are not in `rooms`. */
  readonly level: LogLevel;
  readonly rooms: ReadonlyMap<string, LogLevel>;
}

/** Reads both variables; a problem is one line. */
export function readLogSettings(
  env: (name: string) => string | undefined = Deno.env.get,
): Parsed<LogSettings> {
  const format = env("LOG_FORMAT") ?? "";
  if (!["", "text", "json"].includes(format.toLowerCase())) {
    return { problem: `LOG_FORMAT must be text or json, not ${JSON.stringify(format)}` };
  }
  const levels = parseLevels(env("LOG_LEVEL") ?? "");
  return "problem" in levels ? levels : { value: { json: wantsJson(env), ...levels.value } };
}

/** Whether `LOG_FORMAT` is `json`. */
export function wantsJson(env: (name: string) => string | undefined = Deno.env.get): boolean {
  return env("LOG_FORMAT")?.toLowerCase() === "json";
}

/** `warning`, or `info,event=warning`: a level for all rooms, and levels for single rooms. */
function parseLevels(text: string): Parsed<Pick<LogSettings, "level" | "rooms">> {
  let level: LogLevel = "info";
  const rooms = new Map<string, LogLevel>();
  for (const part of text.toLowerCase().split(",").map((part) => part.trim()).filter((part) => part !== "")) {
    const at = part.indexOf("=");
    const room = part.slice(0, Math.max(at, 0)).trim();
    const name = part.slice(at + 1).trim();
    const known = Object.hasOwn(LEVELS, name) ? LEVELS[name] : undefined;
    if (known === undefined) {
      return {
        problem: `LOG_LEVEL: unknown level ${JSON.stringify(name)}; use trace, debug, info, warning or error`,
      };
    }
    if (at < 0) {
      level = known;
    } else if (!(ROOMS as readonly string[]).includes(room)) {
      return { problem: `LOG_LEVEL: unknown part ${JSON.stringify(room)}; use ${ROOMS.join(", ")}` };
    } else {
      rooms.set(room, known);
    }
  }
  return { value: { level, rooms } };
}
