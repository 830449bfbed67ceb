/** Commands in documents, to be run as they are written. */
import { join } from "node:path";
import { type KmeProgram, PROJECT_ROOT } from "./kme_process.ts";

/** A section of a document in Markdown, without its title. @throws Error when there is no such section. */
export function sectionOf(document: string, title: string): string {
  const rest = document.split(`\n## ${title}\n`)[1];
  if (rest === undefined) throw new Error(`there is no section "${title}"`);
  return rest.split("\n## ")[0]!;
}

/** The shell commands of each block of a text in Markdown. */
export function shellBlocks(text: string): string[] {
  return [...text.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, block]) => block!);
}

/** Programs with which a command in a text begins, perhaps after variables. */
const PROGRAMS =
  /^(?:[A-Z_]+=\S+ )*(?:apt-get|createdb|deno|docker|dropdb|gh|journalctl|kme|mariadb|openssl|podman|scripts\/\S+|systemctl|umask) /;

/** What makes the name of a command of the program a whole command. */
const KME_OPERAND = /\b(?:CONFIG|DIR)\b|\.json5|--url /;

export interface DocumentCommands {
  /** Of each block of shell commands: its commands without comments, with a here-document in one. */
  readonly blocks: readonly (readonly string[])[];
  /** In the text: what has the words of a whole command, each once, and options like `--renew FILE`. */
  readonly inline: readonly string[];
}

/** The shell commands of a text in Markdown. */
export function commandsIn(text: string): DocumentCommands {
  const fences = /^( *)```(\w*)\n(.*?)^ *```$/gms;
  const blocks = [...text.matchAll(fences)].filter(([, , language]) => language === "sh")
    .map(([, indentation, , content]) =>
      content!.replaceAll(new RegExp(`^${indentation}`, "gm"), "")
        .match(/.*<<'(\w+)'[^]*?^\1$|.+/gm)!
        .map((command) => command.includes("\n") ? command : command.replace(/(?:^|\s+)#.*$/, ""))
        .filter((command) => command !== "")
    );
  const spans = text.replaceAll(fences, "").matchAll(/`([^`]+)`/g);
  const inline = [...spans].map(([, span]) => span!.replaceAll(/\s+/g, " ")).filter((span) =>
    /^--renew \S/.test(span) ||
    PROGRAMS.test(span) &&
      (/^(?:[A-Z_]+=\S+ )*kme /.test(span) ? KME_OPERAND.test(span) : /\S+ \S+ \S/.test(span))
  );
  return { blocks, inline: [...new Set(inline)] };
}

/** Puts an executable file `kme` into a directory that can be put on `PATH`: the program under test. */
export async function writeKmeCommand(directory: string, program?: KmeProgram): Promise<void> {
  const command = program !== undefined && "executable" in program
    ? [program.executable]
    : [Deno.execPath(), "run", "-A", "--config", `${PROJECT_ROOT}deno.json`, `${PROJECT_ROOT}src/main.ts`];
  const words = command.map((word) => `'${word}'`).join(" ");
  await Deno.writeTextFile(join(directory, "kme"), `#!/bin/sh\nexec ${words} "$@"\n`, { mode: 0o755 });
}
