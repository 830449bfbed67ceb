/** The summaries that `deno test` ends with. */

export interface Counts {
  readonly passed: number;
  /** At least 1 when anything went wrong. */
  readonly failed: number;
}

/**
 * Reads the last summary of an output, such as `ok | 12 passed (3 steps) | 0 failed | 1 ignored (5s)`.
 *
 * @param success whether the program that wrote it said so; where it does not, at least one failure is counted.
 */
export function readSummary(output: string, success: boolean): Counts {
  const found = [...output.matchAll(/^(?:ok|FAILED) \| (\d+) passed\b.*?\| (\d+) failed\b/gm)].at(-1);
  const passed = Number(found?.[1] ?? 0);
  const failed = Number(found?.[2] ?? 0);
  return { passed, failed: success && found !== undefined ? failed : Math.max(failed, 1) };
}

export function addUp(counts: readonly Counts[]): Counts {
  return {
    passed: counts.reduce((sum, { passed }) => sum + passed, 0),
    failed: counts.reduce((sum, { failed }) => sum + failed, 0),
  };
}
