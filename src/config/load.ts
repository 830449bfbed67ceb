/** Reads and checks a configuration file. */
import JSON5 from "json5";
import { resolve } from "node:path";
import { assemble } from "./assemble.ts";
import type { Config, Mistake } from "./config.ts";
import { readDraft } from "./draft.ts";
import { Findings } from "./findings.ts";
import { loadMaterials } from "./materials.ts";
import { pathBase, reason } from "./paths.ts";
import { checkRules, checkTrust } from "./rules.ts";
import type { ConfigFile } from "./file_schema.ts";

export { formatMistake } from "./findings.ts";

export interface LoadOptions {
  /** Directory that relative paths start from; the working directory by default. */
  readonly cwd?: string;
  /** Moment for which certificates have to be valid; now by default. */
  readonly now?: Date;
}

/** A configuration that can be run, with what may not be meant; or all that is wrong with it. */
export type Loaded =
  | { readonly config: Config; readonly warnings: Mistake[] }
  | { readonly mistakes: Mistake[] };

/**
 * Reads a configuration file with all the certificates and keys that it names, and checks everything that can be
 * known without opening a port or a database. Never rejects because of what is in files.
 *
 * @param file Path, relative to the working directory.
 */
export async function loadConfig(file: string, options: LoadOptions = {}): Promise<Loaded> {
  const cwd = options.cwd ?? Deno.cwd();
  const findings = new Findings(file);
  const raw = await readFile(resolve(cwd, file), findings);
  if (raw === undefined) return { mistakes: findings.mistakes };
  const draft = readDraft(raw.content, findings);
  checkRules(draft, findings);
  const materials = await loadMaterials(draft, pathBase(file, cwd), options.now ?? new Date(), findings);
  checkTrust(draft, materials, findings);
  if (findings.mistakes.length > 0) return { mistakes: findings.mistakes };
  return {
    // Without a mistake nothing in the draft is missing.
    config: assemble(file, draft.content as ConfigFile, materials),
    warnings: findings.warnings,
  };
}

async function readFile(path: string, findings: Findings): Promise<{ content: unknown } | undefined> {
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
    findings.mistake([], syntaxComplaint(error));
    return undefined;
  }
}

function syntaxComplaint(error: unknown): string {
  const { message, lineNumber, columnNumber } = error as Partial<
    { message: string; lineNumber: number; columnNumber: number }
  >;
  if (lineNumber === undefined) return "is not UTF-8 text; save it as UTF-8";
  const what = (message ?? "").replace(/^JSON5: /, "").replace(/ at \d+:\d+$/, "");
  return `${lineNumber}:${columnNumber} ${what}; write JSON5`;
}
