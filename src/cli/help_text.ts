/** Help of the program and of its commands, made from their descriptions. */
import { VERSION } from "../version.ts";
import { type CommandDescription, HELP_OPTION } from "./description.ts";

const WIDTH = 100;

export const TITLE = "key management entity (KME) for quantum key distribution (ETSI GS QKD 014 V1.1.1)";

/** Usage lines of the program as a whole. */
export const USAGE = ["COMMAND [ARGUMENT]...", "CONFIG"];

/** Environment variables that every command reads. */
export const ENVIRONMENT: Readonly<Record<string, string>> = {
  LOG_LEVEL:
    "trace, debug, info (default), warning or error; also for single parts of the program, as in info,event=warning",
  LOG_FORMAT: "text (default) or json: with json, every line on stderr is a JSON object",
  NO_COLOR: "if set, tables have no colors",
};

/** Exit codes that all commands have in common. */
export const EXIT_CODES: Readonly<Record<number, string>> = {
  0: "success; a KME was stopped by SIGTERM or SIGINT",
  1: "something outside of the configuration failed: a listener, the database, a file, a peer",
  2: "wrong command line, environment variable or configuration",
};

/** Help of one command. */
export function helpText(command: CommandDescription): string {
  const { name, aliases = [], usage, description, options, exitCodes } = command;
  return [
    [name, ...aliases].map((name, i) => `${i === 0 ? "Usage:" : "      "} kme ${name} ${usage}`.trimEnd())
      .join("\n"),
    ...description.map((paragraph) => wrap(paragraph, 0)),
    `Options:\n${optionTable(options)}`,
    `Exit codes:\n${table(Object.entries(exitCodes))}`,
  ].join("\n\n");
}

/** Help of the program. */
export function programHelp(commands: readonly CommandDescription[]): string {
  return [
    USAGE.map((usage, i) => `${i === 0 ? "Usage:" : "      "} kme ${usage}`).join("\n"),
    wrap(`kme ${VERSION}: ${TITLE}. "kme CONFIG" is short for "kme start CONFIG".`, 0),
    `Commands:\n${table(commands.map(({ name, summary }) => [name, summary]))}`,
    `Options:\n${table([["-h, --help", "print this help"], ["-V, --version", "print the version"]])}`,
    `Environment:\n${table(Object.entries(ENVIRONMENT))}`,
    `Exit codes:\n${table(Object.entries(EXIT_CODES))}`,
    'Run "kme help COMMAND" for the options of a command.',
  ].join("\n\n");
}

/** How an option is written, like `--out DIR`. */
export function optionName(name: string, { value }: { value?: string }): string {
  return `--${name}${value === undefined ? "" : ` ${value}`}`;
}

function optionTable(options: CommandDescription["options"]): string {
  return table([
    ...Object.entries(options).map(([name, option]) =>
      [optionName(name, option), option.description] as [string, string]
    ),
    ["-h, --help", HELP_OPTION.description],
  ]);
}

function table(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([name]) => name.length)) + 4;
  return rows.map(([name, text]) => `  ${name}`.padEnd(width) + wrap(text, width)).join("\n");
}

/** Breaks lines at spaces; all but the first are indented. */
function wrap(text: string, indent: number): string {
  const lines = [""];
  for (const word of text.split(" ")) {
    const line = lines.at(-1)!;
    if (line !== "" && indent + line.length + 1 + word.length > WIDTH) lines.push(word);
    else lines[lines.length - 1] = line === "" ? word : `${line} ${word}`;
  }
  return lines.join(`\n${" ".repeat(indent)}`);
}
