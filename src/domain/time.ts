/** Points in time. */

export const DAY_MS = 86_400_000;

/** ISO 8601 in UTC, without milliseconds if they are zero. @param time Milliseconds since 1970. */
export function formatTime(time: number): string {
  return new Date(time).toISOString().replace(".000", "");
}
