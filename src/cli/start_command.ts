/** `kme start`: runs a KME until it is told to stop. */
import { command } from "./command.ts";
import { CONFIG_OPERAND } from "./description.ts";
import type { Hangup } from "./run_kme.ts";
import { platform } from "../platform.ts";

export const startCommand = command({
  name: "start",
  aliases: ["run"],
  summary: "run a KME until SIGTERM or SIGINT",
  usage: "CONFIG",
  description: [
    "Runs a KME. SIGTERM and SIGINT stop it after the requests under way; SIGHUP reloads certificates and the SAE list.",
    '"kme CONFIG" does the same.',
  ],
  operand: CONFIG_OPERAND,
  options: {},
  exitCodes: {
    0: "stopped by SIGTERM or SIGINT",
    1: "a listener or the database cannot be opened, or the KME had to stop",
    2: "wrong command line, environment variable or configuration",
  },
  async run(_options, [file]) {
    // Before anything else and until the exit: a SIGHUP without a listener would end the program.
    const hangup = listenForHangup();
    const { runKme } = await import("./run_kme.ts");
    return await runKme(file!, hangup);
  },
});

/** Listens for SIGHUP; one that arrives before there is a handler is kept for it. */
function listenForHangup(): Hangup {
  let early = false;
  let onHangup = () => {
    early = true;
  };
  if (platform.reloadSignal !== undefined) Deno.addSignalListener(platform.reloadSignal, () => onHangup());
  return {
    handle(action) {
      onHangup = action;
      if (early) action();
      early = false;
    },
  };
}
