/** One line of what `kme check` found. */

/** `warn` does not keep a KME from running. */
export type Level = "ok" | "warn" | "fail";

/**
 * Whose mistake a failure is: `configuration`: the file, or a file that it names; `environment`: this machine, the
 * database or a peer, as it is now.
 */
export type FailureKind = "configuration" | "environment";

export interface CheckLine {
  readonly level: Level;
  /** What was looked at: a member of the configuration, or a few words. */
  readonly what: string;
  /** What was found. Holds no password. */
  readonly detail: string;
  /** What to do about it; only where something is to be done. */
  readonly mend?: string;
  /** Only of failures. */
  readonly kind?: FailureKind;
}

export function ok(what: string, detail: string): CheckLine {
  return { level: "ok", what, detail };
}

export function warn(what: string, detail: string, mend: string): CheckLine {
  return { level: "warn", what, detail, mend };
}

/** The start would fail, or calls of peers or SAEs would, because of what is in files. */
export function wrong(what: string, detail: string, mend: string): CheckLine {
  return { level: "fail", what, detail, mend, kind: "configuration" };
}

/** Something outside of the configuration does not do its part. */
export function broken(what: string, detail: string, mend: string): CheckLine {
  return { level: "fail", what, detail, mend, kind: "environment" };
}

/** Exit code: 2 when the configuration is at fault, 1 when something else is, 0 where only warnings are left. */
export function exitCode(lines: readonly CheckLine[]): 0 | 1 | 2 {
  if (lines.some((line) => line.kind === "configuration")) return 2;
  return lines.some((line) => line.level === "fail") ? 1 : 0;
}
