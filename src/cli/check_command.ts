/** `kme check`: checks a configuration and its environment before the start. */
import { command } from "./command.ts";
import { CONFIG_OPERAND } from "./description.ts";

export const checkCommand = command({
  name: "check",
  summary: "check a configuration and its environment before the start",
  usage: "CONFIG [--peers] [--json]",
  description: [
    "Checks everything that a start would check, and more: certificate chains, dates and names, directories, database, listeners, the clock. " +
    "Changes nothing; a KME may be running with the configuration. Run it as the user that runs the KME.",
  ],
  operand: CONFIG_OPERAND,
  options: {
    peers: {
      description:
        "also call every neighbour: TLS handshake, identity, clock, SAE list; and query the running KME whether both ends of each link have the same blocks",
    },
    json: { description: "print one JSON object instead of a table" },
  },
  exitCodes: {
    0: "nothing but warnings",
    1: "environment error: the database, a directory, a listener or a peer",
    2: "config error, or wrong command line",
  },
  async run({ peers, json }, [file]) {
    const { check } = await import("../check/run_checks.ts");
    const { exitCode } = await import("../check/check_line.ts");
    const { formatJson, formatTable } = await import("./check_output.ts");
    const lines = await check(file!, { peers });
    console.log(json ? formatJson(file!, lines) : formatTable(lines, wantsColor()));
    return exitCode(lines);
  },
});

/** On a terminal, unless `NO_COLOR` is set. */
function wantsColor(): boolean {
  return Deno.stdout.isTerminal() && !Deno.env.get("NO_COLOR");
}
