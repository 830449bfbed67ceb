/** `kme health`: whether a KME is ready, for health checks of containers and services. */
import { command } from "./command.ts";
import { consoleOperand } from "./console_operand.ts";
import { CONFIG_OPERAND } from "./description.ts";

export const healthCommand = command({
  name: "health",
  summary: "tell whether a running KME is ready, for health checks",
  usage: "CONFIG | --url URL",
  description: [
    "Asks a running KME whether it is ready, at /health/ready of its debugging_http_interface. " +
    "Only this address is read from the configuration. At most 5 seconds.",
  ],
  operand: { ...CONFIG_OPERAND, optional: true },
  options: { url: { value: "URL", description: "the console's address, like http://127.0.0.1:18080" } },
  exitCodes: {
    0: "the KME is ready",
    1: "it is not ready or does not answer",
    2: "no address in the configuration, or wrong command line",
  },
  async run({ url }, [file]) {
    const { url: address } = await consoleOperand(file, url);
    const { askReady } = await import("../console/status_client.ts");
    const { ready, reason } = await askReady(address);
    console.log(ready ? "ready" : `not ready: ${reason}`);
    return ready ? 0 : 1;
  },
});
