/** `kme completion`: scripts for shells. */
import { type Command, command, UsageError } from "./command.ts";
import type { CommandDescription } from "./description.ts";

/** @param commands All commands of the program. */
export function completionCommand(commands: () => readonly CommandDescription[]): Command {
  return command({
    name: "completion",
    summary: "print a script that completes commands and options in bash, zsh or fish",
    usage: "bash|zsh|fish",
    description: [
      "Prints a script that completes commands, options and files in a shell. Where it belongs:",
      "bash: kme completion bash > /etc/bash_completion.d/kme",
      "zsh: kme completion zsh > DIR/_kme, where DIR is a directory in $fpath",
      "fish: kme completion fish > ~/.config/fish/completions/kme.fish",
    ],
    operand: { name: "SHELL", what: "shell", complete: ["bash", "zsh", "fish"] },
    options: {},
    exitCodes: { 0: "done", 2: "wrong command line" },
    async run(_options, [shell]) {
      const { COMPLETION_SCRIPTS } = await import("./completion_scripts.ts");
      const script = COMPLETION_SCRIPTS.get(shell!);
      if (script === undefined) {
        throw new UsageError(`there is no completion for ${shell}; use bash, zsh or fish`);
      }
      console.log(script(commands()));
      return 0;
    },
  });
}
