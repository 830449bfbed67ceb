/** Ids of KMEs and SAEs as a configuration writes them. */
import type { ConfiguredId } from "../domain/ids.ts";
import type { Parsed } from "../domain/parsed.ts";
import { hasControlCharacters } from "../domain/text.ts";

/** Longest id in UTF-16 units; databases store it in 255 characters. */
const MAX_LENGTH = 255;
const MIN_INTEGER = -(2n ** 63n);
const MAX_INTEGER = 2n ** 64n - 1n;

/**
 * Reads an id. An integer stays an integer on the wire and a string stays a string, with one exception: a quoted
 * integer beyond 2^53 is an integer, since quotes are the only way to write it without rounding.
 */
export function parseId(value: string | number): Parsed<ConfiguredId> {
  return typeof value === "number" ? fromNumber(value) : fromString(value);
}

function fromNumber(value: number): Parsed<ConfiguredId> {
  if (!Number.isInteger(value)) {
    return { complaint: `${value} is not an integer; an id is an integer or a string` };
  }
  // A number that large has already been rounded, so it is not exact whether it is in the range.
  if (value < Number(MIN_INTEGER) || value > Number(MAX_INTEGER)) {
    return { complaint: "the integer does not fit into 64 bits; choose a smaller one" };
  }
  if (!Number.isSafeInteger(value)) {
    return {
      complaint: "an integer beyond 2^53 is rounded when it is read; write it in quotes, as in " +
        '"9007199254740993"',
    };
  }
  // -0 becomes 0.
  return { value: { text: String(value), integer: true } };
}

function fromString(text: string): Parsed<ConfiguredId> {
  if (text === "") return { complaint: "the id is empty; an id is an integer or a string that is not empty" };
  if (text !== text.trim()) {
    return { complaint: "the id begins or ends with white space; write it without" };
  }
  if (text.length > MAX_LENGTH) {
    return { complaint: `the id is longer than ${MAX_LENGTH} characters; choose a shorter one` };
  }
  // None of these survives the way through a URL.
  if (text === "." || text === ".." || !text.isWellFormed() || hasControlCharacters(text)) {
    return { complaint: "an id like this cannot stand in a URL; choose letters, digits and punctuation" };
  }
  return { value: { text, integer: isBigInteger(text) } };
}

/** Whether it is a decimal integer in canonical form that a number would round but 64 bits hold. */
function isBigInteger(text: string): boolean {
  if (!/^-?[1-9][0-9]{15,19}$/.test(text)) return false;
  const value = BigInt(text);
  return value >= MIN_INTEGER && value <= MAX_INTEGER && !Number.isSafeInteger(Number(text));
}
