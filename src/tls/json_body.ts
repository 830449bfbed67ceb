/** The form of every JSON answer. */

export const JSON_HEADERS = { "content-type": "application/json", "cache-control": "no-store" } as const;

/** Ends with a newline, so that the prompt of a shell comes on a line of its own. */
export function jsonBody(json: string): string {
  return `${json}\n`;
}
