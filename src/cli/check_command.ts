/** `kme check`: looks at a configuration and its surroundings before the start. */
import { parseArgs } from "node:util";
import { check } from "../check/run_checks.ts";
import { exitCode } from "../check/check_line.ts";
import { formatJson, formatTable } from "./check_output.ts";
import { HELP, parseOneFile } from "./one_file.ts";

export const CHECK_USAGE = `kme check CONFIG.json5 [--peers] [--json]

Checks all that a start would check, and more: certificate chains, dates and names, directories, database, listeners,
the clock. Changes nothing; a KME may run on the configuration meanwhile. Run it as the user of the KME.

  --peers    also call every neighbour: TLS handshake, who it is, its clock, its SAEs
  --json     one JSON object instead of a table

Exit codes: 0 nothing but warnings; 1 something outside of the configuration fails (database, directory, listener, peer);
2 a mistake in the configuration, or a bad command line`;

/**
 * Runs `kme check`.
 * @param args What follows `check` on the command line.
 * @returns exit code.
 */
export async function checkCommand(args: string[]): Promise<number> {
  const options = parseOneFile(() =>
    parseArgs({
      args,
      allowPositionals: true,
      options: {
        peers: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        help: HELP,
      },
    })
  );
  if (typeof options === "string") {
    console.error(`${options}\n\n${CHECK_USAGE}`);
    return 2;
  }
  if (options.help) {
    console.log(CHECK_USAGE);
    return 0;
  }
  const lines = await check(options.file, { peers: options.peers });
  console.log(options.json ? formatJson(options.file, lines) : formatTable(lines, inColour()));
  return exitCode(lines);
}

/** On a terminal, unless `NO_COLOR` says not to. */
function inColour(): boolean {
  return Deno.stdout.isTerminal() && !Deno.env.get("NO_COLOR");
}
