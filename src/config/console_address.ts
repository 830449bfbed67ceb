/** How to reach the console of a KME, by its configuration file, even if another part of the file has a mistake. */
import { resolve } from "node:path";
import { Findings, formatMistake } from "./findings.ts";
import { readPartialConfig } from "./partial_config.ts";
import { readConfigFile } from "./read_config_file.ts";
import type { HostPort } from "../domain/address.ts";
import type { Parsed } from "../domain/parsed.ts";

const MEMBER = "this_kme.debugging_http_interface";

export interface ConsoleAddress {
  /** `this_kme.debugging_http_interface`. */
  readonly address: HostPort;
  /** Id of the KME; undefined if it has a mistake. */
  readonly kme: string | undefined;
}

/** Nothing else of the file is checked. */
export async function readConsoleAddress(file: string): Promise<Parsed<ConsoleAddress>> {
  const findings = new Findings(file);
  const raw = await readConfigFile(resolve(file), findings);
  const thisKme = raw && readPartialConfig(raw.content, findings).content.this_kme;
  const address = thisKme?.debugging_http_interface;
  if (address !== undefined) return { value: { address, kme: thisKme?.id?.text } };
  const { mistakes } = findings;
  const mistake = raw === undefined ? mistakes[0] : mistakes.find(({ member }) => member === MEMBER);
  const message = "is missing, and a KME answers nowhere else; write an address, as in 127.0.0.1:18080";
  return { problem: formatMistake(mistake ?? { file, member: MEMBER, message }) };
}
