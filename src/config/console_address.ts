/** The console's address in a configuration file, even where another part of the file has a mistake. */
import { resolve } from "node:path";
import { Findings, formatMistake } from "./findings.ts";
import { readPartialConfig } from "./partial_config.ts";
import { readConfigFile } from "./read_config_file.ts";
import type { HostPort } from "../domain/address.ts";
import type { Parsed } from "../domain/parsed.ts";

const MEMBER = "this_kme.debugging_http_interface";

/** `this_kme.debugging_http_interface` of a configuration file; nothing else of it is checked. */
export async function readConsoleAddress(file: string): Promise<Parsed<HostPort>> {
  const findings = new Findings(file);
  const raw = await readConfigFile(resolve(file), findings);
  const address = raw && readPartialConfig(raw.content, findings).content.this_kme?.debugging_http_interface;
  if (address !== undefined) return { value: address };
  const { mistakes } = findings;
  const mistake = raw === undefined ? mistakes[0] : mistakes.find(({ member }) => member === MEMBER);
  const message = "is missing, and a KME answers nowhere else; write an address, as in 127.0.0.1:18080";
  return { problem: formatMistake(mistake ?? { file, member: MEMBER, message }) };
}
