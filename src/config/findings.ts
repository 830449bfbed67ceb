/** Collects mistakes and warnings of one configuration file. */
import type { Mistake } from "./config.ts";
import { formatMember, type MemberPath } from "../domain/member_path.ts";

export class Findings {
  readonly mistakes: Mistake[] = [];
  /** A KME runs in spite of these. */
  readonly warnings: Mistake[] = [];

  /** @param file Path of the file as given on the command line. */
  constructor(readonly file: string) {}

  mistake(path: MemberPath, message: string): void {
    this.mistakes.push({ file: this.file, member: formatMember(path), message });
  }

  warning(path: MemberPath, message: string): void {
    this.warnings.push({ file: this.file, member: formatMember(path), message });
  }
}

/** One line: `file: member: message`. */
export function formatMistake(mistake: Mistake): string {
  return [mistake.file, mistake.member, mistake.message].filter((part) => part !== "").join(": ");
}
