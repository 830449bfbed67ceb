/** Loads and checks a configuration file. */
import { resolve } from "node:path";
import { type Access, readAccess } from "./access.ts";
import { assemble } from "./assemble.ts";
import type { Config, Mistake } from "./config.ts";
import { readPartialConfig } from "./partial_config.ts";
import { Findings } from "./findings.ts";
import { readConfigFile } from "./read_config_file.ts";
import { loadReferencedFiles } from "./referenced_files.ts";
import { pathBase } from "./paths.ts";
import { checkRules } from "./rules.ts";
import { readIdentities, warnOfUnnamedNeighbours } from "./identities.ts";
import type { ConfigFile } from "./file_schema.ts";

export { formatMistake } from "./findings.ts";

export interface LoadOptions {
  /** Directory for relative paths; the working directory by default. */
  readonly cwd?: string;
  /** When certificates have to be valid; now by default. */
  readonly now?: Date;
}

/** A configuration that a KME can run with. */
export interface LoadedConfig {
  readonly config: Config;
  readonly warnings: Mistake[];
  /** Links that cannot be used because the certificate of this KME, or the CA of that one, has expired or is not valid yet. */
  readonly downLinks: Mistake[];
}

/** All mistakes of a file. */
export interface RejectedConfig {
  readonly mistakes: Mistake[];
  /** What the file says about access nevertheless; absent if it cannot be parsed. */
  readonly access?: Access;
}

export type Loaded = LoadedConfig | RejectedConfig;

/**
 * Loads a configuration file with all certificates and keys that it names, and checks everything that does not need
 * an open port or database. Never rejects because of the content of files.
 *
 * @param file Path, relative to the working directory.
 */
export async function loadConfig(file: string, options: LoadOptions = {}): Promise<Loaded> {
  const cwd = options.cwd ?? Deno.cwd();
  const findings = new Findings(file);
  const raw = await readConfigFile(resolve(cwd, file), findings);
  if (raw === undefined) return { mistakes: findings.mistakes };
  const partial = readPartialConfig(raw.content, findings);
  checkRules(partial, findings);
  const files = await loadReferencedFiles(partial, pathBase(file, cwd), options.now ?? new Date(), findings);
  const identities = readIdentities(partial, files, findings);
  warnOfUnnamedNeighbours(partial, files, identities, findings);
  const { mistakes, warnings, downLinks } = findings;
  if (mistakes.length > 0) return { mistakes, access: readAccess(partial, files, identities, findings) };
  return {
    // Without a mistake nothing is missing in it.
    config: assemble(file, partial.content as ConfigFile, files, identities),
    warnings,
    downLinks,
  };
}
