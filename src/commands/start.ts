/** `kme CONFIG`: runs a KME until it is told to stop. */
import { formatMistake, loadConfig } from "../config/load.ts";

import { type Kme, startKme } from "../kme.ts";
import { configureLog, log } from "../log.ts";

/** @returns exit code: 0 after SIGTERM or SIGINT, 1 when something cannot be opened, 2 for a bad configuration. */
export async function startCommand(file: string): Promise<number> {
  await configureLog();
  const loaded = await loadConfig(file);
  if ("mistakes" in loaded) {
    for (const mistake of loaded.mistakes) console.error(formatMistake(mistake));
    return 2;
  }
  for (const warning of loaded.warnings) log("config").warn("{warning}", { warning: formatMistake(warning) });

  const stopped = stopSignal();
  let kme: Kme;
  try {
    kme = await startKme(loaded.config);
  } catch (error) {
    console.error(`${file}: ${error instanceof Error ? error.message : String(error)}`);
    return 1;
  }
  log("kme").info("{signal}: stopping", { signal: await stopped });
  await kme.stop();
  log("kme").info("stopped");
  return 0;
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
