/** `kme CONFIG`: runs a KME until it is told to stop. */
import type { Access } from "../config/access.ts";
import { formatMistake, loadConfig, type LoadedConfig } from "../config/load.ts";
import { type Kme, startKme } from "../kme.ts";
import { configureLog, log } from "../log.ts";
import { errorMessage } from "../domain/text.ts";

/** @returns exit code: 0 after SIGTERM or SIGINT, 1 when something cannot be opened, 2 for a bad configuration. */
export async function startCommand(file: string): Promise<number> {
  // First of all and until the exit: a SIGHUP that nobody listens for would end the program.
  const hangup = listenForHangup();
  await configureLog();
  const loaded = await loadConfig(file);
  if ("mistakes" in loaded) {
    for (const mistake of loaded.mistakes) console.error(formatMistake(mistake));
    return 2;
  }
  logWarnings(loaded);

  const stopped = stopSignal();
  const starting = startKme(loaded.config);
  let last: Promise<unknown> = starting.catch(() => {});
  // One at a time, so that the newest file wins.
  const reloadNext = () => void (last = last.then(async () => reload(file, await starting)).catch(() => {}));
  hangup.does(reloadNext);
  let kme: Kme;
  try {
    kme = await starting;
  } catch (error) {
    console.error(`${file}: ${errorMessage(error)}`);
    return 1;
  }
  const end = await Promise.race([
    stopped.then((signal) => ({ signal })),
    kme.failed.then((reason) => ({ reason })),
  ]);
  hangup.does(() => {});
  if ("signal" in end) log("kme").info("{signal}: stopping", end);
  else log("kme").error("{reason}: stopping", end);
  await kme.stop();
  log("kme").info("stopped");
  return "signal" in end ? 0 : 1;
}

/** Listens for SIGHUP. One that comes before it is said what to do then is made up for. */
function listenForHangup(): { does(action: () => void): void } {
  let early = false;
  let onHangup = () => {
    early = true;
  };
  if (Deno.build.os !== "windows") Deno.addSignalListener("SIGHUP", () => onHangup());
  return {
    does(action) {
      onHangup = action;
      if (early) action();
      early = false;
    },
  };
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

/** What a file with mistakes takes away is taken away nevertheless. */
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
  // Windows knows Ctrl-C and Ctrl-Break only.
  const signals: Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT", "SIGBREAK"] : ["SIGINT", "SIGTERM"];
  return new Promise((resolve) => {
    let asked = false;
    for (const signal of signals) {
      Deno.addSignalListener(signal, () => {
        if (asked) Deno.exit(130);
        asked = true;
        resolve(signal);
      });
    }
  });
}
