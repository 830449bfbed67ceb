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

/** Puts an executable file `kme` into a directory that can be put on `PATH`: the program under test. */
export async function writeKmeCommand(directory: string, program?: KmeProgram): Promise<void> {
  const command = program !== undefined && "executable" in program
    ? [program.executable]
    : [Deno.execPath(), "run", "-A", "--config", `${PROJECT_ROOT}deno.json`, `${PROJECT_ROOT}src/main.ts`];
  const words = command.map((word) => `'${word}'`).join(" ");
  await Deno.writeTextFile(join(directory, "kme"), `#!/bin/sh\nexec ${words} "$@"\n`, { mode: 0o755 });
}
