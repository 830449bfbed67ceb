/** `kme status`: asks a running KME. */
import { command, InputError, loadConfiguration } from "./command.ts";
import { CONFIG_OPERAND } from "./description.ts";
import { errorMessage } from "../domain/text.ts";

export const statusCommand = command({
  name: "status",
  summary: "ask a running KME for its stock, waiting keys and peers",
  usage: "CONFIG [--json]",
  description: [
    "Asks the KME that runs with this configuration: stock of each link, keys waiting, last key file, state of its peers. " +
    "It answers on its debugging_http_interface, so it needs to have one.",
  ],
  operand: CONFIG_OPERAND,
  options: { json: { description: "print the answer as JSON" } },
  exitCodes: {
    0: "the KME is ready",
    1: "it is not ready or does not answer",
    2: "mistake in the configuration, or wrong command line",
  },
  async run({ json }, [file]) {
    const { config: { thisKme } } = await loadConfiguration(file!);
    if (thisKme.consoleInterface === undefined) {
      throw new InputError([
        `${file}: this_kme.debugging_http_interface: is missing, and a KME answers nowhere else; ` +
        "write an address, as in 127.0.0.1:18080",
      ]);
    }
    const { askStatus } = await import("../console/status_client.ts");
    const { formatStatus } = await import("./status_output.ts");
    try {
      const status = await askStatus(thisKme.consoleInterface);
      console.log(json ? JSON.stringify(status, null, 2) : formatStatus(status));
      if (status.kme !== thisKme.id.text) {
        throw new Error(`KME ${status.kme} answers, not KME ${thisKme.id.text}`);
      }
      return status.ready ? 0 : 1;
    } catch (error) {
      throw new Error(`${file}: ${errorMessage(error)}`, { cause: error });
    }
  },
});
