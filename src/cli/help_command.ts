/** `kme help`: help of the program or of a command, and the man page. */
import { nearest } from "../domain/spelling.ts";
import { type Command, command, UsageError } from "./command.ts";
import type { CommandDescription } from "./description.ts";
import { helpText, programHelp } from "./help_text.ts";

/** @param commands All commands of the program. */
export function helpCommand(commands: () => readonly CommandDescription[]): Command {
  return command({
    name: "help",
    summary: "print help for the program or a command; --man prints the man page",
    usage: "[COMMAND | --man]",
    description: [
      "Prints the help of the program or of a command.",
      "The man page is printed as roff: kme help --man > /usr/local/share/man/man1/kme.1",
    ],
    operand: { name: "COMMAND", what: "command", optional: true, complete: "command" },
    options: { man: { description: "print the man page kme(1)" } },
    exitCodes: { 0: "done", 2: "wrong command line" },
    async run({ man }, [name]) {
      if (man) {
        if (name !== undefined) throw new UsageError("--man cannot be combined with a command");
        const { manPage } = await import("./man_page.ts");
        console.log(manPage(commands()));
        return 0;
      }
      if (name === undefined) {
        console.log(programHelp(commands()));
        return 0;
      }
      const found = findCommand(commands(), name);
      if (found === undefined) throw new UsageError(unknownCommand(commands(), name));
      console.log(helpText(found));
      return 0;
    },
  });
}

/** The command of this name or alias. */
export function findCommand<Found extends CommandDescription>(
  commands: readonly Found[],
  name: string,
): Found | undefined {
  return commands.find((command) => command.name === name || command.aliases?.includes(name));
}

/** Message on a name that is no command; it names the nearest one. */
export function unknownCommand(commands: readonly CommandDescription[], name: string): string {
  const meant = nearestCommand(commands, name);
  return `unknown command ${name}${meant === undefined ? "" : `; did you mean "kme ${meant}"?`}`;
}

/** The command whose name is most like this one. */
export function nearestCommand(commands: readonly CommandDescription[], name: string): string | undefined {
  return nearest(name, commands.flatMap((command) => [command.name, ...command.aliases ?? []]));
}
