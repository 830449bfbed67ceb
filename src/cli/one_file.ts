/** Command lines that name one configuration file. */
import { errorMessage } from "../domain/text.ts";

/** The option that every command has. */
export const HELP = { type: "boolean", short: "h", default: false } as const;

/**
 * The options of such a command line and its file, or what is wrong with it. With `--help` the file may be missing.
 *
 * @param read parses the command line, as `parseArgs` of `node:util` does; throws where it cannot.
 */
export function parseOneFile<Values extends { readonly help: boolean }>(
  read: () => { readonly values: Values; readonly positionals: string[] },
): (Values & { readonly file: string }) | string {
  let parsed;
  try {
    parsed = read();
  } catch (error) {
    return errorMessage(error);
  }
  const { values, positionals: [file, ...rest] } = parsed;
  if (values.help) return { ...values, file: "" };
  if (file === undefined) return "the configuration file is missing";
  if (rest.length > 0) return `one configuration file only, not ${rest.join(" ")} too`;
  return { ...values, file };
}
