/** Formats the findings of `kme check`. Pure. */
import { type CheckLine, exitCode, type Level } from "../check/check_line.ts";
import { toOneLine } from "../domain/text.ts";

const COLOURS: Record<Level, string> = { ok: "32", warn: "33", fail: "31" };

/** Maximum width to which the first column is padded. */
const MAX_WIDTH = 60;

/**
 * A line each: level, what was looked at, what was found, and after an arrow what to do.
 *
 * @param colour whether levels are coloured by escape sequences.
 */
export function formatTable(lines: readonly CheckLine[], colour: boolean): string {
  const width = Math.min(MAX_WIDTH, Math.max(0, ...lines.map(({ what }) => what.length)));
  const rows = lines.map(({ level, what, detail, fix }) => {
    const word = level.padEnd(4);
    const shown = colour ? `\x1b[${COLOURS[level]}m${word}\x1b[0m` : word;
    return `${shown}  ${toOneLine(what).padEnd(width)}  ${toOneLine(detail)}${
      fix === undefined ? "" : ` -> ${toOneLine(fix)}`
    }`;
  });
  return [...rows, summary(lines)].join("\n");
}

/** One JSON object: the counts, the exit code and every line. */
export function formatJson(file: string, lines: readonly CheckLine[]): string {
  const { ok, warn, fail } = count(lines);
  const checks = lines.map(({ level, what, detail, fix, kind }) => ({ level, what, detail, fix, kind }));
  return JSON.stringify({ file, exit_code: exitCode(lines), ok, warn, fail, checks }, null, 2);
}

function summary(lines: readonly CheckLine[]): string {
  const { ok, warn, fail } = count(lines);
  return `${ok} ok, ${warn} warning${warn === 1 ? "" : "s"}, ${fail} failed`;
}

function count(lines: readonly CheckLine[]): Record<Level, number> {
  const counts = { ok: 0, warn: 0, fail: 0 };
  for (const { level } of lines) counts[level]++;
  return counts;
}
