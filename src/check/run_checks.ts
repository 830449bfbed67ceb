/** Checks a configuration and its environment without starting the KME. */
import type { Config, Mistake } from "../config/config.ts";
import { loadConfig, type LoadOptions } from "../config/load.ts";
import { isNeighbour } from "../domain/network.ts";
import { checkCertificates } from "./certificate_checks.ts";
import { checkClock } from "./clock_checks.ts";
import { checkCrlFiles } from "./crl_checks.ts";
import { checkDatabase, lookAtDatabase } from "./database_checks.ts";
import { checkDevices } from "./device_checks.ts";
import { checkEncryption } from "./encryption_checks.ts";
import { checkDirectories, checkUser } from "./directory_checks.ts";
import { type CheckLine, configError, ok, warn } from "./check_line.ts";
import { checkOpenFiles } from "./limit_checks.ts";
import { checkListeners } from "./listener_checks.ts";
import { checkPeers } from "./peer_checks.ts";
import { checkRepeats } from "./repeat_checks.ts";
import { checkStocks } from "./stock_checks.ts";
import { isLoopback } from "../domain/address.ts";
import { platform } from "../platform.ts";

export interface CheckOptions extends LoadOptions {
  /** Also call every neighbour. */
  readonly peers?: boolean;
}

/**
 * Checks a configuration. Changes nothing; a KME may be running with it.
 *
 * @param file path, relative to the working directory.
 * @returns what was found; never rejects because of what is in files or on the network.
 */
export async function check(file: string, options: CheckOptions = {}): Promise<CheckLine[]> {
  const loaded = await loadConfig(file, options);
  if ("mistakes" in loaded) return loaded.mistakes.map(lineOfMistake);
  const { config } = loaded;
  const database = await lookAtDatabase(config.thisKme.database);
  return [
    ok("configuration", summary(config)),
    ...loaded.warnings.map(lineOfWarning),
    ...loaded.downLinks.map(lineOfMistake),
    ...checkPrivacy(loaded.warnings),
    ...checkCertificates(config),
    ...await checkCrlFiles(config, database.crls, (options.now ?? new Date()).getTime()),
    ...checkUser(),
    ...checkOpenFiles(
      config.otherKmes.filter(isNeighbour).length,
      config.thisKme.skipInterface !== undefined,
    ),
    ...await checkDirectories(config),
    ...await checkDatabase(config, database),
    ...await checkEncryption(config.thisKme, database),
    ...checkRepeats(config.thisKme),
    ...await checkListeners(config),
    ...checkConsole(config),
    await checkClock(config, (options.now ?? new Date()).getTime()),
    ...await checkDevices(config),
    ...options.peers ? [...await checkPeers(config), ...await checkStocks(config)] : [],
  ];
}

function summary({ thisKme, otherKmes, saes }: Config): string {
  const own = saes.filter((sae) => sae.kmeId === thisKme.id.text).length;
  const links = otherKmes.filter(isNeighbour).length;
  return `KME ${thisKme.id.text} with ${own} of ${saes.length} SAEs, ${links} of ${otherKmes.length} other KMEs by a ` +
    "direct link";
}

function lineOfMistake(mistake: Mistake): CheckLine {
  const { detail, fix } = split(mistake);
  return configError(what(mistake), detail, fix ?? "see docs/config.md");
}

function lineOfWarning(warning: Mistake): CheckLine {
  const { detail, fix } = split(warning);
  return warn(what(warning), detail, fix ?? remedy(detail));
}

function what({ member }: Mistake): string {
  return member === "" ? "configuration" : member;
}

/** A message says what is wrong and, after a semicolon, what would be right. */
function split({ message }: Mistake): { detail: string; fix?: string } {
  const at = message.indexOf("; ");
  return at < 0 ? { detail: message } : { detail: message.slice(0, at), fix: message.slice(at + 2) };
}

function remedy(detail: string): string {
  if (/expire/.test(detail)) return "renew it and send SIGHUP to the KME; see docs/operations.md";
  if (/console/.test(detail)) return "let it listen on 127.0.0.1 only";
  return "see docs/config.md";
}

function checkPrivacy(warnings: readonly Mistake[]): CheckLine[] {
  if (!platform.hasFileModes) {
    return [ok("private keys", "file permissions are not checked on Windows")];
  }
  return warnings.some(({ message }) => /is readable for all users/.test(message))
    ? []
    : [ok("private keys", "only their owners and groups may read the files")];
}

/** The loader has warned of a console that other machines can reach. */
function checkConsole({ thisKme: { consoleInterface } }: Config): CheckLine[] {
  const what = "this_kme.debugging_http_interface";
  if (consoleInterface === undefined) return [ok(what, "no console")];
  return isLoopback(consoleInterface.hostname) ? [ok(what, "only this machine can reach the console")] : [];
}
