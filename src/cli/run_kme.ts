/** Runs a KME until it is told to stop. */
import type { Access } from "../config/access.ts";
import { formatMistake, loadConfig, type LoadedConfig } from "../config/load.ts";
import { type Kme, startKme } from "../kme.ts";
import { configureLog, flushLog, log } from "../log.ts";
import { errorMessage } from "../domain/text.ts";
import { loadConfiguration } from "./command.ts";
import { platform } from "../platform.ts";

/** A signal listener that exists before there is anything to do. */
export interface Hangup {
  /** Sets what SIGHUP does; one that came earlier is handled now. */
  handle(action: () => void): void;
}

/**
 * Runs a KME until SIGTERM, SIGINT, or until it has to stop.
 *
 * @param hangup calls for reloading `file`.
 * @returns exit code.
 * @throws InputError for mistakes in the configuration; Error with one line when something cannot be opened.
 */
export async function runKme(file: string, hangup: Hangup): Promise<number> {
  await configureLog();
  try {
    return await run(file, hangup);
  } finally {
    await flushLog();
  }
}

async function run(file: string, hangup: Hangup): Promise<number> {
  const loaded = await loadConfiguration(file);
  logWarnings(loaded);

  const stopped = stopSignal();
  const starting = startKme(loaded.config);
  let last: Promise<unknown> = starting.catch(() => {});
  // One at a time, so that the newest file wins.
  const reloadNext = () => void (last = last.then(async () => reload(file, await starting)).catch(() => {}));
  hangup.handle(reloadNext);
  let kme: Kme;
  try {
    kme = await starting;
  } catch (error) {
    throw new Error(`${file}: ${errorMessage(error)}`, { cause: error });
  }
  const end = await Promise.race([
    stopped.then((signal) => ({ signal })),
    kme.failed.then((reason) => ({ reason })),
  ]);
  hangup.handle(() => {});
  if ("signal" in end) log("kme").info("{signal}: stopping", end);
  else log("kme").error("{reason}: stopping", end);
  await kme.stop();
  log("kme").info("stopped");
  return "signal" in end ? 0 : 1;
}

async function reload(file: string, kme: Kme): Promise<void> {
  const logger = log("config");
  const loaded = await loadConfig(file);
  if ("mistakes" in loaded) {
    for (const mistake of loaded.mistakes) logger.error("{mistake}", { mistake: formatMistake(mistake) });
    const [first, ...rest] = loaded.mistakes.map(formatMistake);
    kme.reloadRefused(rest.length === 0 ? first! : `${first} (and ${rest.length} more)`);
    reloadAccess(file, kme, loaded.access);
    return;
  }
  logWarnings(loaded);
  try {
    for (const change of kme.reload(loaded.config)) {
      logger.warn("left out until the next start: {change}", { change });
    }
    logger.info("{file} was reloaded: certificates and {saes} SAEs", {
      file,
      saes: loaded.config.saes.length,
    });
  } catch (error) {
    logger.error("{file} was not reloaded: {reason}", {
      file,
      reason: errorMessage(error),
    });
  }
}

/** A file with mistakes can still take access away. */
function reloadAccess(file: string, kme: Kme, access: Access | undefined): void {
  const logger = log("config");
  try {
    const changes = access === undefined ? [] : kme.reloadAccess(access);
    for (const change of changes) logger.warn("applied in spite of the mistakes: {change}", { change });
    logger.error("{file} was not reloaded because of its mistakes{rest}", {
      file,
      rest: changes.length === 0 ? "; the KME goes on as before" : ", but for these changes of access",
    });
  } catch (error) {
    logger.error("{file} was not reloaded: {reason}", { file, reason: errorMessage(error) });
  }
}

function logWarnings({ warnings, downLinks }: LoadedConfig): void {
  const logger = log("config");
  for (const warning of warnings) logger.warn("{warning}", { warning: formatMistake(warning) });
  for (const reason of downLinks) {
    logger.error("a link is DOWN, this KME cannot call the other one: {reason}", {
      reason: formatMistake(reason),
    });
  }
}

/** Resolves with the first signal that asks the program to stop. A second one ends it at once. */
function stopSignal(): Promise<Deno.Signal> {
  return new Promise((resolve) => {
    let asked = false;
    for (const signal of platform.stopSignals) {
      Deno.addSignalListener(signal, () => {
        if (asked) Deno.exit(130);
        asked = true;
        resolve(signal);
      });
    }
  });
}
