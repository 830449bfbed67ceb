/** `kme status`: how a running KME is. */
import { parseArgs } from "node:util";
import { formatMistake, loadConfig } from "../config/load.ts";
import { askStatus } from "../console/status_client.ts";
import { formatStatus } from "./status_output.ts";
import { HELP, parseOneFile } from "./one_file.ts";
import { errorMessage } from "../domain/text.ts";

export const STATUS_USAGE = `kme status CONFIG.json5 [--json]

Asks the KME that runs on this configuration: stock of each link, keys waiting, last key file, health of its peers. It
answers on its debugging_http_interface, so it needs to have one.

  --json    what it answers, as JSON

Exit codes: 0 it is ready; 1 it is not ready or does not answer; 2 a mistake in the configuration, or a bad command line`;

/**
 * Runs `kme status`.
 * @param args What follows `status` on the command line.
 * @returns exit code.
 */
export async function statusCommand(args: string[]): Promise<number> {
  const options = parseOneFile(() =>
    parseArgs({
      args,
      allowPositionals: true,
      options: {
        json: { type: "boolean", default: false },
        help: HELP,
      },
    })
  );
  if (typeof options === "string") {
    console.error(`${options}\n\n${STATUS_USAGE}`);
    return 2;
  }
  if (options.help) {
    console.log(STATUS_USAGE);
    return 0;
  }
  const loaded = await loadConfig(options.file);
  if ("mistakes" in loaded) {
    for (const mistake of loaded.mistakes) console.error(formatMistake(mistake));
    return 2;
  }
  const { thisKme } = loaded.config;
  if (thisKme.consoleInterface === undefined) {
    console.error(
      `${options.file}: this_kme.debugging_http_interface: is missing, and a KME answers nowhere else; ` +
        "write an address, as in 127.0.0.1:18080",
    );
    return 2;
  }
  try {
    const status = await askStatus(thisKme.consoleInterface);
    console.log(options.json ? JSON.stringify(status, null, 2) : formatStatus(status));
    if (status.kme !== thisKme.id.text) {
      console.error(`${options.file}: KME ${status.kme} answers, not KME ${thisKme.id.text}`);
      return 1;
    }
    return status.ready ? 0 : 1;
  } catch (error) {
    console.error(`${options.file}: ${errorMessage(error)}`);
    return 1;
  }
}
