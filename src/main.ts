/** The command line. */
import { burnCommand } from "./cli/burn_command.ts";
import { certsCommand } from "./cli/certs_command.ts";
import { checkCommand } from "./cli/check_command.ts";
import { keysCommand } from "./cli/keys_command.ts";
import { startCommand } from "./cli/start_command.ts";
import { statusCommand } from "./cli/status_command.ts";
import { flushLog } from "./log.ts";
import { VERSION } from "./version.ts";

const USAGE = `kme ${VERSION}: key management entity for quantum key distribution (ETSI GS QKD 014 V1.1.1)

kme CONFIG.json5      run a KME until SIGTERM or SIGINT
kme check ...         look at a configuration and its surroundings before the start
kme status ...        ask a running KME: stock, keys waiting, peers
kme burn ...          give up keys after a backup of the database was put back
kme certs ...         make the certificates of a network
kme keys ...          make sample key files (not quantum)
kme COMMAND --help    more about a command
kme --version

Environment: LOG_LEVEL (trace, debug, info, warning, error), LOG_FORMAT=json

Exit codes: 0 stopped as asked; 1 a listener or the database cannot be opened; 2 bad command line or configuration`;

async function main(args: string[]): Promise<number> {
  const [first, ...rest] = args;
  switch (first) {
    case "--help":
    case "-h":
      console.log(USAGE);
      return 0;
    case "--version":
    case "-V":
      console.log(`kme ${VERSION}`);
      return 0;
    case "certs":
      return await certsCommand(rest);
    case "check":
      return await checkCommand(rest);
    case "burn":
      return await burnCommand(rest);
    case "status":
      return await statusCommand(rest);
    case "keys":
      return await keysCommand(rest);
  }
  if (first === undefined || first.startsWith("-") || rest.length > 0) {
    console.error(first === undefined ? USAGE : `cannot understand: ${args.join(" ")}\n\n${USAGE}`);
    return 2;
  }
  return await startCommand(first);
}

if (import.meta.main) {
  const code = await main(Deno.args);
  await flushLog();
  Deno.exit(code);
}
