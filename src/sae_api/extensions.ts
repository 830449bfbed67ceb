/** Extension parameters of a Key request (clause 6.2). */
import { InvalidRequest } from "../domain/refusals.ts";

/** Values of the supported extension parameters. */
export interface Extensions {
  /** `kme_max_age_seconds`: only blocks stored at most this many seconds ago. */
  maxAgeSeconds?: number;
}

type Reader = (value: unknown, extensions: Extensions) => string | undefined;

/** Each supported parameter; a reader returns what is wrong with a value. */
const SUPPORTED: Readonly<Record<string, Reader>> = {
  kme_max_age_seconds: (value, extensions) => {
    if (typeof value !== "number" || !(value >= 0)) return "is not a number of seconds";
    extensions.maxAgeSeconds = Math.min(value, extensions.maxAgeSeconds ?? Infinity);
    return undefined;
  },
};

/**
 * The mandatory parameters; optional ones are not read, as the standard allows.
 *
 * @param mandatory name/value pairs.
 * @throws InvalidRequest for a parameter that is not supported, or an invalid value.
 */
export function parseExtensions(mandatory: readonly Readonly<Record<string, unknown>>[]): Extensions {
  const pairs = mandatory.flatMap((parameter) => Object.entries(parameter));
  const unsupported = pairs.map(([name]) => name).filter((name) => !Object.hasOwn(SUPPORTED, name));
  if (unsupported.length > 0) {
    throw new InvalidRequest(
      "not all extension_mandatory parameters are supported",
      unsupported.map((name) => ({ extension_mandatory_unsupported: `${name} is not supported` })),
    );
  }
  const extensions: Extensions = {};
  for (const [name, value] of pairs) {
    const complaint = SUPPORTED[name]!(value, extensions);
    if (complaint !== undefined) throw new InvalidRequest(`extension_mandatory: ${name} ${complaint}`);
  }
  return extensions;
}
