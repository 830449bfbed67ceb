/** Reads a configuration file as JSON5. */
import JSON5 from "json5";
import type { Findings } from "./findings.ts";
import { reason } from "./paths.ts";

/** The content of a configuration file; undefined, with a mistake, if it cannot be read or is not JSON5. */
export async function readConfigFile(
  path: string,
  findings: Findings,
): Promise<{ content: unknown } | undefined> {
  let bytes: Uint8Array;
  try {
    if ((await Deno.stat(path)).isDirectory) {
      findings.mistake([], "is a directory; name a configuration file");
      return undefined;
    }
    bytes = await Deno.readFile(path);
  } catch (error) {
    findings.mistake([], `${reason(error)}; name a readable configuration file`);
    return undefined;
  }
  try {
    return { content: JSON5.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) };
  } catch (error) {
    findings.mistake([], syntaxProblem(error));
    return undefined;
  }
}

function syntaxProblem(error: unknown): string {
  const { message, lineNumber, columnNumber } = error as Partial<
    { message: string; lineNumber: number; columnNumber: number }
  >;
  if (lineNumber === undefined) return "is not UTF-8 text; save it as UTF-8";
  const what = (message ?? "").replace(/^JSON5: /, "").replace(/ at \d+:\d+$/, "");
  return `${lineNumber}:${columnNumber} ${what}; write JSON5`;
}
