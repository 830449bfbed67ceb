/**
 * The program's log: one line for each record on stderr, level by `LOG_LEVEL` (trace, debug, info, warning, error; also by
 * room, like `info,event=warning`), JSON by `LOG_FORMAT=json`. A key's bits are never passed to it.
 */
import { configure, getJsonLinesFormatter, getLogger, getTextFormatter } from "@logtape/logtape";
import type { LogRecord } from "@logtape/logtape";
import { escapeControlCharacters } from "./domain/text.ts";
import { formatInfoLine, InfoLine } from "./log/info_line.ts";
import { LogWriter } from "./log/log_writer.ts";
import { readLogSettings, type Room } from "./log/log_settings.ts";

/** Milliseconds that a program which is about to end waits for its last lines to be written. */
const FLUSH_MS = 1000;

let writer: LogWriter<LogRecord | InfoLine> | undefined;

/** Log lines that were not written, because stderr was not read, since the start. */
export function droppedLogLines(): number {
  return writer?.dropped ?? 0;
}

/** Resolves when all lines so far were written, or after a second. */
export async function flushLog(): Promise<void> {
  await writer?.flush(FLUSH_MS);
}

/**
 * Sends the log to stderr, as `LOG_LEVEL` and `LOG_FORMAT` say.
 *
 * @throws Error with one line when one of them has a wrong value.
 */
export async function configureLog(): Promise<void> {
  const settings = readLogSettings();
  if ("problem" in settings) throw new Error(settings.problem);
  const { json, level, rooms } = settings.value;
  const formatter = json ? getJsonLinesFormatter({ properties: "flatten" }) : getTextFormatter({
    timestamp: "rfc3339",
    level: "FULL",
    category: ".",
    value: (value, inspect) => typeof value === "string" ? escapeControlCharacters(value) : inspect(value),
  });
  const format = (item: LogRecord | InfoLine) =>
    item instanceof InfoLine ? formatInfoLine(item, json) : formatter(item);
  const lines = writer = new LogWriter<LogRecord | InfoLine>(Deno.stderr, format, (dropped) => {
    log("kme").warn("{dropped} log lines were dropped, because stderr was not read", { dropped });
  });
  for (const event of ["unload", "error", "unhandledrejection"]) {
    globalThis.addEventListener(event, () => lines.flushSync());
  }
  const stderr = (record: LogRecord) => lines.add(record);
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

/** Logger of one room of the program, like `log("ingest")`. Silent until {@linkcode configureLog} has run. */
export function log(room: Room) {
  return getLogger(["kme", room]);
}

/** Lines at info of one room that come with every request: finished texts, which take much less time than a logger's records. */
export class InfoLines {
  readonly #room: Room;
  readonly #log: ReturnType<typeof log>;
  /** As {@linkcode configureLog} has set it: asking the logger takes as long as making the line. */
  #enabled: boolean | undefined;

  constructor(room: Room) {
    this.#room = room;
    this.#log = log(room);
  }

  /** Whether lines are written. */
  get enabled(): boolean {
    return writer !== undefined && (this.#enabled ??= this.#log.isEnabledFor("info"));
  }

  /** @param at milliseconds since 1970. */
  write(text: string, at: number): void {
    if (this.enabled) writer?.add(new InfoLine(this.#room, at, text));
  }
}
