/**
 * The program's log: one line an event on stderr, level by `LOG_LEVEL` (trace, debug, info, warning, error; also by room,
 * like `info,event=warning`), JSON by `LOG_FORMAT=json`. A key's bits are never passed to it.
 */
import { configure, getJsonLinesFormatter, getLogger, getTextFormatter } from "@logtape/logtape";
import type { LogLevel, LogRecord } from "@logtape/logtape";
import { escapeControlCharacters } from "./domain/text.ts";

const LEVELS: Record<string, LogLevel> = {
  trace: "trace",
  debug: "debug",
  info: "info",
  warn: "warning",
  warning: "warning",
  error: "error",
  fatal: "fatal",
};

/** Sends the log to stderr; called once by the command line before anything else. */
export async function configureLog(env: (name: string) => string | undefined = Deno.env.get): Promise<void> {
  const { level, rooms } = parseLevels(env("LOG_LEVEL") ?? "");
  const formatter = env("LOG_FORMAT")?.toLowerCase() === "json"
    ? getJsonLinesFormatter({ properties: "flatten" })
    : getTextFormatter({
      timestamp: "rfc3339",
      level: "FULL",
      category: ".",
      value: (value, inspect) => typeof value === "string" ? escapeControlCharacters(value) : inspect(value),
    });
  const encoder = new TextEncoder();
  // One synchronous write a record: a line is never torn, and none is lost when the process ends.
  const stderr = (record: LogRecord) => {
    try {
      Deno.stderr.writeSync(encoder.encode(formatter(record)));
    } catch {
      // A closed stderr must not stop a KME.
    }
  };
  await configure({
    sinks: { stderr },
    loggers: [
      { category: "kme", sinks: ["stderr"], lowestLevel: level },
      ...[...rooms].map(([room, roomLevel]) => ({
        category: ["kme", room],
        sinks: ["stderr"],
        parentSinks: "override" as const,
        lowestLevel: roomLevel,
      })),
      { category: ["logtape", "meta"], sinks: ["stderr"], lowestLevel: "warning" },
    ],
    reset: true,
  });
}

/** `warning`, or `info,event=warning`: a level for all rooms and levels of single ones. Unknown words are passed over. */
export function parseLevels(text: string): { level: LogLevel; rooms: Map<string, LogLevel> } {
  let level: LogLevel = "info";
  const rooms = new Map<string, LogLevel>();
  for (const part of text.toLowerCase().split(",")) {
    const [room, name] = part.includes("=") ? part.split("=", 2) as [string, string] : ["", part];
    const known = LEVELS[name.trim()];
    if (known === undefined) continue;
    if (room.trim() === "") level = known;
    else rooms.set(room.trim(), known);
  }
  return { level, rooms };
}

/** Logger of one room of the program, like `log("ingest")`. Silent until {@linkcode configureLog} has run. */
export function log(room: string) {
  return getLogger(["kme", room]);
}
