/** What all commands have in common: their description, parsing of options, help, and exit codes of errors. */
import { parseArgs } from "node:util";
import type { LoadedConfig } from "../config/load.ts";
import { nearest } from "../domain/spelling.ts";
import { errorMessage } from "../domain/text.ts";
import { readLogSettings } from "../log/log_settings.ts";
import { type CommandDescription, HELP_OPTION, type Operand } from "./description.ts";
import { helpText } from "./help_text.ts";
import { printMessage } from "./stderr.ts";

type Values<Options extends CommandDescription["options"]> = {
  readonly [Name in keyof Options]: Options[Name] extends { value: string } ? string | undefined : boolean;
};

interface CommandDefinition<Options extends CommandDescription["options"]> extends CommandDescription {
  readonly options: Options;
  /**
   * @returns exit code.
   * @throws UsageError, InputError, or Error with one line; the last ends with exit code 1.
   */
  run(values: Values<Options>, operands: readonly string[]): number | Promise<number>;
}

export interface Command extends CommandDescription {
  /** @returns exit code; never rejects. */
  run(args: readonly string[]): Promise<number>;
}

/** The command line is wrong: printed with the usage line, exit code 2. */
export class UsageError extends Error {}

/** A file or an argument is wrong: a line for each mistake, exit code 2. */
export class InputError extends Error {
  constructor(readonly lines: readonly string[]) {
    super(lines.join("\n"));
  }
}

/** A command of the program. */
export function command<const Options extends CommandDescription["options"]>(
  definition: CommandDefinition<Options>,
): Command {
  return {
    ...definition,
    async run(args) {
      try {
        const { values, operands } = parse(definition, args);
        if (values.help) {
          console.log(helpText(definition));
          return 0;
        }
        checkOperands(definition.operand, operands);
        const settings = readLogSettings();
        if ("problem" in settings) throw new InputError([settings.problem]);
        return await definition.run(values as Values<Options>, operands);
      } catch (error) {
        return report(error, definition);
      }
    },
  };
}

/**
 * Loads a configuration file.
 *
 * @throws InputError with all its mistakes.
 */
export async function loadConfiguration(file: string): Promise<LoadedConfig> {
  const { formatMistake, loadConfig } = await import("../config/load.ts");
  const loaded = await loadConfig(file);
  if ("mistakes" in loaded) throw new InputError(loaded.mistakes.map(formatMistake));
  return loaded;
}

function report(error: unknown, { name, usage }: CommandDescription): number {
  if (error instanceof UsageError) {
    printMessage(`kme ${name}: ${error.message}`);
    printMessage(`Usage: kme ${name} ${usage}`.trimEnd());
    return 2;
  }
  if (error instanceof InputError) {
    for (const line of error.lines) printMessage(line);
    return 2;
  }
  printMessage(errorMessage(error));
  return 1;
}

function parse(description: CommandDescription, args: readonly string[]) {
  const known: CommandDescription["options"] = { ...description.options, help: HELP_OPTION };
  const { tokens, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    // Checked below, with messages of our own.
    strict: false,
    tokens: true,
    options: {
      ...Object.fromEntries(
        Object.entries(known).map((
          [name, { value }],
        ) => [name, { type: value ? "string" : "boolean" } as const]),
      ),
      help: { type: "boolean", short: "h" },
    },
  });
  const values: Record<string, string | boolean | undefined> = Object.fromEntries(
    Object.entries(known).map(([name, { value }]) => [name, value ? undefined : false]),
  );
  for (const token of tokens) {
    if (token.kind !== "option") continue;
    const { name, rawName, value, inlineValue } = token;
    const option = Object.hasOwn(known, name) ? known[name] : undefined;
    if (option === undefined) {
      throw new UsageError(unknownOption(rawName, Object.keys(known).map((name) => `--${name}`)));
    }
    if (option.value === undefined) {
      if (value !== undefined) throw new UsageError(`${rawName} has no value`);
      values[name] = true;
    } else {
      // What looks like an option is one; a value that begins with a hyphen is written --name=-value.
      if (!value || (!inlineValue && value.startsWith("-"))) {
        throw new UsageError(`${rawName} needs a value: ${rawName} ${option.value}`);
      }
      values[name] = value;
    }
  }
  return { values, operands: positionals };
}

/** Message on an option that does not exist; it names the nearest one. */
export function unknownOption(option: string, known: readonly string[]): string {
  const meant = nearest(option, known);
  return `unknown option ${option}${meant === undefined ? "" : `; did you mean ${meant}?`}`;
}

function checkOperands(operand: Operand | undefined, operands: readonly string[]): void {
  if (operand === undefined) {
    if (operands.length > 0) throw new UsageError(`unexpected argument ${operands[0]}`);
    return;
  }
  const { what, optional, many } = operand;
  if (operands.length === 0 && !optional) throw new UsageError(`the ${what} is missing`);
  if (operands.includes("")) throw new UsageError(`${operand.name}, the ${what}, must not be empty`);
  if (operands.length > 1 && !many) {
    throw new UsageError(`only one ${what} can be given, not also ${operands.slice(1).join(" ")}`);
  }
}
