/** Parses ids of KMEs and SAEs in a configuration. */
import { type ConfiguredId, MAX_ID_LENGTH } from "../domain/ids.ts";
import type { Parsed } from "../domain/parsed.ts";
import { hasControlCharacters } from "../domain/text.ts";

const MIN_INTEGER = -(2n ** 63n);
const MAX_INTEGER = 2n ** 64n - 1n;

/**
 * Parses an id. An integer stays an integer on the wire and a string stays a string, with one exception: a quoted
 * integer beyond 2^53 is an integer, since it would be rounded without them.
 */
export function parseId(value: string | number): Parsed<ConfiguredId> {
  return typeof value === "number" ? fromNumber(value) : fromString(value);
}

function fromNumber(value: number): Parsed<ConfiguredId> {
  if (!Number.isInteger(value)) {
    return { problem: `${value} is not an integer; an id is an integer or a string` };
  }
  // A number of this size is rounded already, so the comparison need not be exact.
  if (value < Number(MIN_INTEGER) || value > Number(MAX_INTEGER)) {
    return { problem: "the integer does not fit into 64 bits; choose a smaller one" };
  }
  if (!Number.isSafeInteger(value)) {
    return {
      problem: "an integer beyond 2^53 would be rounded; write it in quotes, as in " +
        '"9007199254740993"',
    };
  }
  // -0 becomes 0.
  return { value: { text: String(value), integer: true } };
}

function fromString(text: string): Parsed<ConfiguredId> {
  if (text === "") return { problem: "the id is empty; an id is an integer or a string that is not empty" };
  if (text !== text.trim()) {
    return { problem: "the id begins or ends with white space; write it without" };
  }
  if (text.length > MAX_ID_LENGTH) {
    return { problem: `the id is longer than ${MAX_ID_LENGTH} characters; choose a shorter one` };
  }
  // Such an id would be changed in a URL.
  if (text === "." || text === ".." || !text.isWellFormed() || hasControlCharacters(text)) {
    return { problem: "the id cannot be used in a URL; choose letters, digits and punctuation" };
  }
  return { value: { text, integer: isBigInteger(text) } };
}

/** Whether it is a canonical decimal integer that fits into 64 bits but not into a number without rounding. */
function isBigInteger(text: string): boolean {
  if (!/^-?[1-9][0-9]{15,19}$/.test(text)) return false;
  const value = BigInt(text);
  return value >= MIN_INTEGER && value <= MAX_INTEGER && !Number.isSafeInteger(Number(text));
}
