/** Points in time. */

export const DAY_MS = 86_400_000;

/** ISO 8601 in UTC, without milliseconds if they are zero. @param time Milliseconds since 1970. */
export function formatTime(time: number): string {
  return new Date(time).toISOString().replace(".000", "");
}

let last = { at: NaN, text: "" };

/** ISO 8601 in UTC with milliseconds; made once for lines of the same millisecond. @param at Milliseconds since 1970. */
export function timestamp(at: number): string {
  if (last.at !== at) last = { at, text: new Date(at).toISOString() };
  return last.text;
}
