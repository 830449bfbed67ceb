/** `kme certs`: the certificates, serials and configurations of a network. */
import { command, InputError, UsageError } from "./command.ts";
import { printMessage } from "./stderr.ts";

export const certsCommand = command({
  name: "certs",
  summary: "make the certificates of a network",
  usage: "NETWORK --out DIR [--configs | --renew NAME | --revoke NAME | --crls]",
  description: [
    "Makes the certificates of all KMEs and SAEs of the network file in DIR and prints their names and serials as entries of a configuration. " +
    "Existing files are not changed; missing ones are added.",
  ],
  operand: { name: "NETWORK", what: "network file", complete: "file" },
  options: {
    out: { value: "DIR", description: "directory of the certificates; created if it does not exist" },
    configs: {
      description:
        "also write a configuration file for each KME, the CRLs of CAs that have none, and the key directories",
    },
    renew: {
      value: "NAME",
      description:
        "renew one certificate, like client_1 or kme-1-local-zone/client_1, and change no other; a CA keeps its key, so certificates that it issued stay valid",
    },
    revoke: {
      value: "NAME",
      description:
        "revoke one certificate: makes or updates the CRL of its CA (.crl) and changes no certificate",
    },
    crls: {
      description:
        "make or renew the CRL of every CA, valid for crl_days of the network file, with what was revoked before",
    },
  },
  exitCodes: {
    0: "done",
    1: "a file cannot be read or written",
    2: "wrong command line or network file, or a directory of another network",
  },
  async run({ out, configs, renew, revoke, crls }, [file]) {
    if (out === undefined) throw new UsageError("--out DIR is missing");
    const actions = Object.entries({ configs, renew, revoke, crls }).filter(([, value]) => value);
    if (actions.length > 1) {
      throw new UsageError(`${actions.map(([name]) => `--${name}`).join(" and ")} cannot be combined`);
    }
    const { makeCheckedNetwork, NamedCertificateError, OtherNetworkError } = await import(
      "../tools/certs/make_network.ts"
    );
    const { NetworkError, readNetwork } = await import("../tools/certs/network_file.ts");
    const { entriesText } = await import("../tools/certs/configs.ts");
    try {
      const network = await readNetwork(file!);
      const made = await makeCheckedNetwork(network, out, { configs, renew, revoke, crls });
      // A CRL changes no serial.
      console.log(revoke || crls ? made.written.join("\n") : entriesText(network, made.kmes));
      for (const warning of made.warnings) printMessage(warning, "warning");
      const { length } = made.written;
      printMessage(length === 0 ? `${out}: nothing was missing` : `${out}: ${length} files written`, "info");
      return 0;
    } catch (error) {
      const refused = [NetworkError, OtherNetworkError, NamedCertificateError]
        .some((kind) => error instanceof kind);
      throw refused ? new InputError((error as Error).message.split("\n")) : error;
    }
  },
});
