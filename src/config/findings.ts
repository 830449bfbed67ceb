/** Collects mistakes and warnings of one configuration file. */
import type { Mistake } from "./config.ts";
import { formatMember, type MemberPath } from "../domain/member_path.ts";

export class Findings {
  readonly mistakes: Mistake[] = [];
  /** A KME runs in spite of these. */
  readonly warnings: Mistake[] = [];
  /** A KME runs in spite of these, without the link with one neighbour. */
  readonly downLinks: Mistake[] = [];
  readonly #mistakePaths: MemberPath[] = [];

  /** @param file Path of the file as given on the command line. */
  constructor(readonly file: string) {}

  mistake(path: MemberPath, message: string): void {
    this.#mistakePaths.push(path);
    this.mistakes.push({ file: this.file, member: formatMember(path), message });
  }

  warning(path: MemberPath, message: string): void {
    this.warnings.push({ file: this.file, member: formatMember(path), message });
  }

  downLink(path: MemberPath, message: string): void {
    this.downLinks.push({ file: this.file, member: formatMember(path), message });
  }

  /** Whether there is a mistake in a member, in something within it, or in the member that contains it. */
  hasMistake(member: MemberPath): boolean {
    return this.#mistakePaths.some((path) =>
      path.slice(0, member.length).every((step, index) => step === member[index])
    );
  }
}

/** One line: `file: member: message`. */
export function formatMistake(mistake: Mistake): string {
  return [mistake.file, mistake.member, mistake.message].filter((part) => part !== "").join(": ");
}
