/** `kme status`: asks a running KME. */
import { command } from "./command.ts";
import { consoleOperand } from "./console_operand.ts";
import { CONFIG_OPERAND } from "./description.ts";

export const statusCommand = command({
  name: "status",
  summary: "ask a running KME for its stock, waiting keys and peers",
  usage: "(CONFIG | --url URL) [--json]",
  description: [
    "Asks a running KME at its debugging_http_interface: whether keys can be delivered and what prevents it, stock of each " +
    "link, keys waiting, last key file, state of its peers. Only this address and the id are read from the configuration.",
  ],
  operand: { ...CONFIG_OPERAND, optional: true },
  options: {
    url: { value: "URL", description: "the console's address, like http://127.0.0.1:18080" },
    json: { description: "print the answer as JSON" },
  },
  exitCodes: {
    0: "the KME is ready",
    1: "it is not ready or does not answer",
    2: "no address in the configuration, or wrong command line",
  },
  async run({ json, url }, [file]) {
    const { url: address, kme } = await consoleOperand(file, url);
    const { askStatus } = await import("../console/status_client.ts");
    const { formatStatus } = await import("./status_output.ts");
    const status = await askStatus(address);
    console.log(json ? JSON.stringify(status, null, 2) : formatStatus(status));
    if (kme !== undefined && status.kme !== kme) {
      throw new Error(`${file}: KME ${status.kme} answers, not KME ${kme}`);
    }
    return status.ready ? 0 : 1;
  },
});
