/**
 * KME and SAE ids. Inside the program an id is its text; only the wire and the configuration know integers.
 * The standard leaves the format open (ETSI GS QKD 014 V1.1.1, clause 4), existing KMEs use 64-bit integers.
 */

/** UTF-16 units of an id: as many as FortiOS accepts. */
export const MAX_ID_LENGTH = 291;

/** Text of a KME id, as in a URL or in Status. */
export type KmeId = string;

/** Text of an SAE id, as in a URL or in Status. */
export type SaeId = string;

/** An id together with the form its configuration gave it. */
export interface ConfiguredId {
  /** The id everywhere inside the program. */
  readonly text: string;
  /** True when it was configured as an integer: it is then an integer in JSON too, without rounding. */
  readonly integer: boolean;
}

/** The JSON value of an id on the wire: a number literal of any length, or a string. */
export function idToJson(id: ConfiguredId): unknown {
  return id.integer ? (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON(id.text) : id.text;
}
