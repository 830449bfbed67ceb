/** The command line. */
import { COMMANDS } from "./cli/commands.ts";
import { findCommand, nearestCommand, unknownCommand } from "./cli/help_command.ts";
import { USAGE } from "./cli/help_text.ts";
import { printMessage } from "./cli/stderr.ts";

/** Options in the place of a command. */
const FLAGS = new Map([["-h", "help"], ["--help", "help"], ["-V", "version"], ["--version", "version"]]);

async function main([first, ...rest]: string[]): Promise<number> {
  if (first === undefined) return refuse("a command or a configuration file is missing");
  const command = findCommand(COMMANDS, FLAGS.get(first) ?? first);
  if (command !== undefined) return await command.run(rest);
  if (first.startsWith("-")) return refuse(`unknown option ${first}`);
  if (!await isFileName(first)) return refuse(unknownCommand(COMMANDS, first));
  return await findCommand(COMMANDS, "start")!.run([first, ...rest]);
}

/** Whether the argument means a configuration file rather than a mistyped command. */
async function isFileName(text: string): Promise<boolean> {
  if (/[./\\]/.test(text) || nearestCommand(COMMANDS, text) === undefined) return true;
  try {
    await Deno.stat(text);
    return true;
  } catch {
    return false;
  }
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
