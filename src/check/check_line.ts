/** One result of `kme check`. */

/** A KME runs in spite of a `warn`. */
export type Level = "ok" | "warn" | "fail";

/**
 * Where a failure has to be fixed. `configuration`: in the configuration file or a file that it names; `environment`: on
 * this machine, in the database or at another KME.
 */
export type FailureKind = "configuration" | "environment";

export interface CheckLine {
  readonly level: Level;
  /** What was checked: a member of the configuration, or a few words. */
  readonly what: string;
  /** What was found; never a password. */
  readonly detail: string;
  /** What to do about it; not of an `ok` line. */
  readonly fix?: string;
  /** Only of failures. */
  readonly kind?: FailureKind;
}

export function ok(what: string, detail: string): CheckLine {
  return { level: "ok", what, detail };
}

export function warn(what: string, detail: string, fix: string): CheckLine {
  return { level: "warn", what, detail, fix };
}

/** A mistake in the configuration or in a file that it names: the start or some calls would fail. */
export function configError(what: string, detail: string, fix: string): CheckLine {
  return { level: "fail", what, detail, fix, kind: "configuration" };
}

/** A failure outside of the configuration. */
export function environmentError(what: string, detail: string, fix: string): CheckLine {
  return { level: "fail", what, detail, fix, kind: "environment" };
}

/** Exit code: 2 after a config error, 1 after environment errors only, 0 after warnings only. */
export function exitCode(lines: readonly CheckLine[]): 0 | 1 | 2 {
  if (lines.some((line) => line.kind === "configuration")) return 2;
  return lines.some((line) => line.level === "fail") ? 1 : 0;
}
