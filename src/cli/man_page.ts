/** The man page kme(1), made from the descriptions of the commands. */
import { VERSION } from "../version.ts";
import { type CommandDescription, HELP_OPTION } from "./description.ts";
import { ENVIRONMENT, EXIT_CODES, optionName, TITLE, USAGE } from "./help_text.ts";

/** The page as roff with the man macros. */
export function manPage(commands: readonly CommandDescription[]): string {
  return [
    `.TH KME 1 "" "kme ${VERSION}" "User Commands"`,
    // Justified lines would spread the words of commands.
    ".ad l",
    ".SH NAME",
    `kme \\- ${roff(TITLE)}`,
    ".SH SYNOPSIS",
    ...lines(USAGE.map((usage) => `.B kme\n${roff(usage)}`), ".br"),
    ".SH DESCRIPTION",
    roff(
      "kme stores keys of quantum key distribution devices and delivers them to applications (SAEs) over HTTPS with mutual TLS. " +
        '"kme CONFIG" is short for "kme start CONFIG".',
    ),
    ".SH COMMANDS",
    ...commands.flatMap(section),
    ".SH OPTIONS",
    ...entries([["-h, --help", HELP_OPTION.description], ["-V, --version", "print the version"]]),
    ".SH ENVIRONMENT",
    ...entries(Object.entries(ENVIRONMENT)),
    ".SH EXIT STATUS",
    ...entries(Object.entries(EXIT_CODES)),
  ].join("\n");
}

function section(
  { name, aliases = [], usage, description, options, exitCodes }: CommandDescription,
): string[] {
  return [
    `.SS "${roff([name, ...aliases].map((name) => `kme ${name} ${usage}`.trimEnd()).join(", "))}"`,
    ...lines(description.map(roff), ".PP"),
    ...entries(
      Object.entries(options).map(([name, option]) => [optionName(name, option), option.description]),
    ),
    ".PP",
    roff(`Exit status: ${Object.entries(exitCodes).map(([code, text]) => `${code}: ${text}`).join("; ")}.`),
  ];
}

function entries(rows: readonly (readonly [string, string])[]): string[] {
  return rows.flatMap(([name, text]) => [".TP", `.B ${roff(name)}`, roff(text)]);
}

/** Text with a macro between its parts. */
function lines(parts: readonly string[], macro: string): string[] {
  return parts.flatMap((part, i) => i === 0 ? [part] : [macro, part]);
}

/** Text in which roff finds nothing to interpret. */
function roff(text: string): string {
  const escaped = text.replaceAll("\\", "\\e").replaceAll("-", "\\-").replaceAll('"', "\\(dq");
  // A line that begins with a dot or an apostrophe is a request.
  return escaped.replace(/^[.']/, "\\&$&");
}
