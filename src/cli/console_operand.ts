/** Which console a command asks: that of a configuration file, or a URL. */
import { InputError, UsageError } from "./command.ts";

interface ConsoleOperand {
  readonly url: URL;
  /** Id of the KME that should answer, if the configuration says so. */
  readonly kme: string | undefined;
}

/** @throws UsageError, InputError */
export async function consoleOperand(
  file: string | undefined,
  url: string | undefined,
): Promise<ConsoleOperand> {
  if ((file === undefined) === (url === undefined)) {
    throw new UsageError(
      file === undefined ? "the configuration file is missing" : "CONFIG and --url cannot be combined",
    );
  }
  if (file === undefined) {
    if (!URL.canParse(url!) || !/^https?:/.test(url!)) {
      throw new UsageError(`--url must be like http://127.0.0.1:18080, not ${url}`);
    }
    return { url: new URL(url!), kme: undefined };
  }
  const { readConsoleAddress } = await import("../config/console_address.ts");
  const { consoleUrl } = await import("../console/status_client.ts");
  const read = await readConsoleAddress(file);
  if ("problem" in read) throw new InputError([read.problem]);
  return { url: consoleUrl(read.value.address), kme: read.value.kme };
}
