/** Texts for messages: from errors, and from outside with control characters made safe to print. */

/** The message of whatever was thrown. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

// C0 and C1 controls and Unicode's line separators: each can begin a line or change a terminal.
const CONTROL = "\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029";
const ANY_CONTROL = new RegExp(`[${CONTROL}]`);
const EACH_CONTROL = new RegExp(`[${CONTROL}]`, "g");
const CONTROL_RUNS = new RegExp(`[${CONTROL}]+`, "g");

/** Whether a text holds control characters or line breaks. */
export function hasControlCharacters(text: string): boolean {
  return ANY_CONTROL.test(text);
}

/** Control characters written as JSON escapes, so that the text stays on its line. */
export function escapeControlCharacters(text: string): string {
  return text.replace(EACH_CONTROL, (c) => {
    const json = JSON.stringify(c).slice(1, -1);
    return json === c ? `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}` : json;
  });
}

/** Runs of control characters replaced by one space, so that the text is one line. */
export function toOneLine(text: string): string {
  return text.replace(CONTROL_RUNS, " ");
}

/** At most 200 characters of a text from outside, such as the name in a certificate, so that no client can fill the log. */
export function cutShort(text: string): string {
  return text.length <= 200 ? text : `${text.slice(0, 199)}…`;
}
