/** `kme certs`: the certificates, serials and configurations of a network. */
import { parseArgs } from "node:util";
import { bytes, saesText } from "../tools/certs/configs.ts";
import type { MadeNetwork } from "../tools/certs/made.ts";
import { makeCheckedNetwork, OtherNetworkError, RenewError } from "../tools/certs/make_network.ts";
import { NetworkError, readNetwork } from "../tools/certs/network_file.ts";
import type { Network } from "../tools/certs/network_file.ts";
import { errorMessage } from "../domain/text.ts";

export const CERTS_USAGE = `kme certs NETWORK.json5 --out DIR [--configs | --renew NAME]

Makes the certificates of all KMEs and SAEs in the network file below DIR and prints their serials as entries of a
configuration. What is there stays as it is; what is missing is added.

  --out DIR      directory of the certificates, created if need be
  --configs      also write a configuration file for each KME and create the key directories
  --renew NAME   renew one certificate, like client_1 or kme-1-local-zone/client_1, and touch no other
                 (a CA keeps its key, so what it issued stays valid)`;

/**
 * Runs `kme certs`.
 * @param args What follows `certs` on the command line.
 * @returns exit code: 0; 2 for a bad command line or network file, or a directory of another network; 1 when files cannot be read or written.
 */
export async function certsCommand(args: string[]): Promise<number> {
  const options = parse(args);
  if (typeof options === "string") {
    console.error(`${options}\n\n${CERTS_USAGE}`);
    return 2;
  }
  if (options.help) {
    console.log(CERTS_USAGE);
    return 0;
  }
  try {
    const network = await readNetwork(options.file);
    const made = await makeCheckedNetwork(network, options.out, {
      configs: options.configs,
      renew: options.renew,
    });
    console.log(serialsText(network, made));
    for (const warning of made.warnings) console.error(`warning: ${warning}`);
    console.error(
      made.written.length === 0
        ? `${options.out}: nothing was missing`
        : `${options.out}: ${made.written.length} files written`,
    );
    return 0;
  } catch (error) {
    console.error(errorMessage(error));
    const refused = [NetworkError, OtherNetworkError, RenewError].some((kind) => error instanceof kind);
    return refused ? 2 : 1;
  }
}

interface Options {
  readonly help: boolean;
  readonly file: string;
  readonly out: string;
  readonly configs: boolean;
  readonly renew?: string;
}

/** The options, or what is wrong with them. */
function parse(args: string[]): Options | string {
  let parsed;
  try {
    parsed = parseArgs({
      args,
      allowPositionals: true,
      options: {
        out: { type: "string" },
        configs: { type: "boolean", default: false },
        renew: { type: "string" },
        help: { type: "boolean", short: "h", default: false },
      },
    });
  } catch (error) {
    return errorMessage(error);
  }
  const { values: { help, out, configs, renew }, positionals: [file, ...rest] } = parsed;
  if (help) return { help, file: "", out: "", configs };
  if (file === undefined) return "the network file is missing";
  if (rest.length > 0) return `one network file only, not ${rest.join(" ")} too`;
  if (out === undefined || out === "") return "--out DIR is missing";
  if (configs && renew !== undefined) return "--configs and --renew do not go together";
  return { help, file, out, configs, renew };
}

/** Serials of all certificates as they are written in each KME's configuration. */
function serialsText(network: Network, made: MadeNetwork): string {
  return network.kmes.flatMap((kme) => {
    const id = kme.id.text;
    const callers = made.kmes.get(id)?.callers ?? [];
    return [
      `// Configuration of KME ${id}`,
      ...saesText(network, id, made.kmes),
      ...Array.from(
        callers,
        ([caller, { serial }]) =>
          `// other_kmes, KME ${caller}: https_client_certificate_serial: ${bytes(serial)},`,
      ),
      "",
    ];
  }).join("\n").trimEnd();
}
