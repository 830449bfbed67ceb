/** The command line. */
import { COMMANDS } from "./cli/commands.ts";
import { unknownOption } from "./cli/command.ts";
import { findCommand, nearestCommand } from "./cli/help_command.ts";
import { USAGE } from "./cli/help_text.ts";
import { nearest } from "./domain/spelling.ts";
import { printMessage } from "./cli/stderr.ts";

/** Options in the place of a command. */
const FLAGS = new Map([["-h", "help"], ["--help", "help"], ["-V", "version"], ["--version", "version"]]);

async function main([first, ...rest]: string[]): Promise<number> {
  if (first === undefined) return refuse("a command or a configuration file is missing");
  if (first === "") return refuse("the first argument is empty");
  const command = findCommand(COMMANDS, FLAGS.get(first) ?? first);
  if (command !== undefined) return await command.run(rest);
  if (first.startsWith("-")) return refuse(unknownOption(first, [...FLAGS.keys()]));
  if (!await isFileName(first)) return refuse(await neitherCommandNorFile(first));
  return await findCommand(COMMANDS, "start")!.run([first, ...rest]);
}

/** Whether the argument names a configuration file: it has a directory, or the file exists. */
async function isFileName(text: string): Promise<boolean> {
  return /[/\\]/.test(text) || await Deno.stat(text).then(() => true, () => false);
}

/** Message on an argument that is no command and no file; it names the nearest one of either. */
async function neitherCommandNorFile(text: string): Promise<string> {
  const message = `${text} is neither a command nor a file`;
  const command = nearestCommand(COMMANDS, text);
  if (command !== undefined) return `${message}; did you mean "kme ${command}"?`;
  const names: string[] = [];
  try {
    for await (const { name, isFile } of Deno.readDir(".")) if (isFile) names.push(name);
  } catch {
    // The message does without a suggestion.
  }
  const file = nearest(text, names);
  return file === undefined ? message : `${message}; did you mean "kme ${file}"?`;
}

function refuse(message: string): number {
  printMessage(`kme: ${message}`);
  printMessage(`Usage: ${USAGE.map((usage) => `kme ${usage}`).join(" | ")} ("kme help" lists the commands)`);
  return 2;
}

if (import.meta.main) {
  // An error that nothing handles is one message too, so that stderr stays readable for programs.
  const fail = (event: Event, error: unknown) => {
    event.preventDefault();
    printMessage(`internal error: ${error instanceof Error ? error.stack ?? error.message : error}`);
    Deno.exit(1);
  };
  globalThis.addEventListener("error", (event) => fail(event, event.error));
  globalThis.addEventListener("unhandledrejection", (event) => fail(event, event.reason));
  Deno.exit(await main(Deno.args));
}
