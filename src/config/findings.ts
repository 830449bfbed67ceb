/** Collects what is found wrong in one configuration file. */
import type { Mistake } from "./config.ts";

/** Steps from the file's outermost object to a member. */
export type MemberPath = readonly (string | number)[];

export class Findings {
  readonly mistakes: Mistake[] = [];
  /** What does not keep a KME from running. */
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

/** `saes[2].kme_id`; a name that is no identifier is quoted. */
export function formatMember(path: MemberPath): string {
  return path.map((step, index) => {
    if (typeof step === "number") return `[${step}]`;
    if (!/^[A-Za-z_$][\w$]*$/.test(step)) return `[${JSON.stringify(step)}]`;
    return index === 0 ? step : `.${step}`;
  }).join("");
}

/** One line: `file: member: message`. */
export function formatMistake(mistake: Mistake): string {
  return [mistake.file, mistake.member, mistake.message].filter((part) => part !== "").join(": ");
}
